"""What the figures bear is said in sentences that follow from them."""

import pytest
from msgspec.structs import replace
from runs_to_show import result_to_show, rows, timed_row

from qbench.benchmarking.presentation.bearing import bearing
from qbench.benchmarking.result import Accuracy, Row, RunResult
from qbench.benchmarking.stats import Interval, aa_error, margin
from qbench.benchmarking.timing.settings import Settings

MINUS = "\N{MINUS SIGN}"


def said(**changes: object) -> str:
    return " ".join(bearing(replace(result_to_show(), **changes)))


def test_all_is_said_of_a_full_run() -> None:
    assert bearing(result_to_show()) == [
        "Timings passed their control: two identical candidates differed by 0.2 % "
        "(ratio [0.9980, 1.0060]).",
        f"Fastest: int8 tensorrt, 9.80 [9.65, 9.95] times as fast as fp32 cpu, at {MINUS}1.2 "
        f"[{MINUS}2.4, {MINUS}0.3] points of top-1.",
        "A row is called faster or slower where its whole interval lies beyond a margin of 1.0 %; "
        "1 of 6 are inconclusive.",
        "6 of 6 speed-ups have intervals wider than the 1.0 % to each side that were asked for.",
        "Accuracy is top-1 on 500 images; 4 of 7 differences to the first row may be chance: "
        "their intervals hold 0.",
        "1 of 9 rows could not run; the reason stands below each.",
    ]


def test_an_untrusted_run_says_so_first() -> None:
    text = said(trusted=False, control=Interval(1.05, 1.03, 1.07))
    assert text.startswith(
        "Timings failed their control: two identical candidates differed by 5.0 %"
    )
    assert "lies beyond a margin of 10.0 %" in text


def test_a_control_that_tells_little_is_called_noisy() -> None:
    text = said(control=Interval(0.96, 0.85, 1.16))
    assert text.startswith(
        "Timings are noisy: two identical candidates differed by 4.2 % (ratio [0.8500, 1.1600])"
    )


def test_the_margin_is_never_below_one_percent() -> None:
    assert margin(aa_error(Interval(1.001, 0.99, 1.01))) == 0.01
    assert margin(aa_error(Interval(1 / 1.02, 0.97, 0.99))) == pytest.approx(0.04)


def test_rows_that_were_timed_apart_have_margins_of_their_own() -> None:
    first, second, *_ = rows()
    controls = [Interval(1.001, 0.99, 1.01), Interval(1.012, 1.0, 1.02)]
    apart = [replace(row, control=c) for row, c in zip((first, second), controls, strict=True)]
    assert "lies beyond a margin of 1.0 % to 2.4 %" in said(rows=tuple(apart), control=controls[1])


def test_intervals_as_narrow_as_asked_for_are_no_topic() -> None:
    assert "wider than" not in said(settings=Settings(half_width=0.02))


def test_nothing_timed() -> None:
    untimed = replace(result_to_show(), rows=rows()[-1:], control=None)
    assert bearing(untimed) == [
        "Nothing was timed.",
        "Accuracy is top-1 on 500 images; 0 of 1 differences to the first row may be chance: "
        "their intervals hold 0.",
    ]


def test_nothing_faster() -> None:
    both = (timed_row("fp32", "cpu", 1.0, "same", 0.9), timed_row("int8", "cpu", 1.0, "same", 0.9))
    slow = replace(both[1], ratio=replace(both[1].ratio, verdict="slower"))  # type: ignore[type-var]
    assert "No row is faster than fp32 cpu beyond doubt." in said(rows=(both[0], slow))


def test_several_baselines_have_no_common_fastest_row() -> None:
    assert "Fastest" not in said(rows=rows("a.onnx") + rows("b.onnx"))


def test_accuracy_that_was_not_measured_and_a_single_row() -> None:
    row = replace(rows()[0], accuracy=None)
    assert bearing(replace(result_to_show(), rows=(row,)))[1:] == ["Accuracy was not measured."]


def test_an_accuracy_alone_has_no_differences() -> None:
    row = Row(
        model="a", precision="fp32", provider="cpu", accuracy=Accuracy("map", 0.3, 64, 0.2, 0.4)
    )
    assert bearing(result_of(row))[1] == "Accuracy is COCO mAP on 64 images."


def test_the_cost_in_cosine_has_no_points() -> None:
    base, other = rows()[0], rows()[2]
    cosine = Accuracy("cosine", 0.99, 64, 0.98, 0.995, Interval(-0.01, -0.02, -0.005))
    text = said(rows=(base, replace(other, accuracy=cosine)))
    assert ", at -0.0100 [-0.0200, -0.0050] cosine with FP32." in text


def result_of(row: Row) -> RunResult:
    return replace(result_to_show(), rows=(row,), control=None)
