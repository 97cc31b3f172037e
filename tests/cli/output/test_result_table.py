import io
from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console

from qbench.benchmarking import environment
from qbench.benchmarking.result import (
    UNTRUSTED,
    Accuracy,
    Figure,
    Latency,
    Metric,
    Ratio,
    Row,
    RunResult,
)
from qbench.benchmarking.stats import Interval
from qbench.benchmarking.timing.settings import Settings
from qbench.cli.output.result_notes import footnotes
from qbench.cli.output.result_table import print_result, result_parts, result_table
from qbench.runtimes.base import OperatorTime


def test_the_widest_rows_fit_80_columns() -> None:
    """Every column has its longest text at once: no cell may wrap or push past the edge."""
    widest = Row(
        model="m.onnx",
        precision="weight-only",
        provider="tensorrt (simulated)",
        accuracy=Accuracy("top1", 1.0, 600, 0.99, 1.0),
        latency_ms=Latency(median=123.456, mad=1.0, min=99.0, p90=None),
        ratio=Ratio(12.345, 11.234, 13.456, "inconclusive"),
        size_bytes=987 << 20,
    )
    lines = lines_of(replace(widest, precision="fp32"), widest)
    assert max(map(len, lines)) <= 80
    assert lines[2].split()[-5:] == ["12.3", "[11.2,", "13.5]", "inconclusive", "987.0"]
    paced = replace(widest, mode="paced", latency_ms=Latency(123.4, 1, 1, 1, 1, 543.2))
    lines = lines_of(replace(paced, precision="fp32"), paced)
    assert max(map(len, lines)) <= 80
    assert " ".join(lines[0].split()) == ("precision provider accuracy ms p99 ratio [95 %] verdict")
    assert "543.2" in lines[1]


def test_the_baseline_is_the_row_whose_ratio_is_one() -> None:
    """In a run that went on, another may stand in front of it."""
    latency = Latency(median=2.0, mad=0.1, min=1.9, p90=None)
    late = Row(
        model="m.onnx",
        precision="fp32",
        provider="cuda",
        latency_ms=latency,
        ratio=Ratio(2.0, 1.9, 2.1, "faster"),
    )
    first = replace(late, provider="cpu", ratio=Ratio(1.0, 1.0, 1.0, "same"))
    _, one, other = lines_of(late, first)
    assert one.split()[-2:] == ["faster", "-"]
    assert other.split()[-3:] == ["1", "baseline", "-"]


def lines_of(*rows: Row) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=200).print(result_table(result_of(*rows)))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def parts_of(*rows: Row, width: int = 80) -> list[str]:
    """Return the lines of all parts in a width, the headings between them."""
    out = io.StringIO()
    console = Console(file=out, width=width)
    for heading, part in result_parts(result_of(*rows), width):
        console.print(heading, part, sep="\n") if heading else console.print(part)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def every_axis(**more: Any) -> list[Row]:
    """Return rows of all axes at once, the models first, as `benchmark` orders them."""
    return [
        row(model=model, precision=precision, provider=provider, batch=batch, **more)
        for model in ("efficientnet_lite0.onnx", "yolov8n_18cls_320.onnx")
        for precision in ("fp32", "weight-only")
        for provider in ("cpu", "tensorrt")
        for batch in (1, 128)
    ]


def test_models_and_precisions_become_headings_where_all_axes_vary() -> None:
    rows = every_axis(mode="throughput", threads=16, streams=8, throughput_per_s=12345.6)
    rows.append(replace(rows[0], provider="tensorrt (simulated)", threads=0, streams=1))
    rows.append(replace(rows[1], threads=1, streams=1, batch=8))
    lines = parts_of(*rows)
    assert max(map(len, lines)) <= 80
    assert lines[0] == "efficientnet_lite0.onnx fp32"
    assert " ".join(lines[1].split()) == (
        "provider batch thr. str. accuracy img/s ratio [95 %] verdict"
    )
    assert lines[3].split() == [
        *("cpu", "128", "16", "8", "100.0", "%", "12346", "12.3", "[11.2,", "13.5]"),
        "inconclusive",
    ]
    headings = [line for line in lines if ".onnx" in line]
    assert headings == [
        *("efficientnet_lite0.onnx fp32", "efficientnet_lite0.onnx weight-only"),
        *("yolov8n_18cls_320.onnx fp32", "yolov8n_18cls_320.onnx weight-only"),
        "efficientnet_lite0.onnx fp32",
    ]
    assert sum("provider" in line for line in lines) == 1


def test_what_says_nothing_goes_before_the_models_do() -> None:
    rows = [row(model=f"model_number_{i}.onnx", accuracy=None) for i in (1, 2)]
    names = "model precision provider ms ratio [95 %] verdict MiB"
    assert " ".join(parts_of(*rows, width=92)[0].split()) == names
    heading, names, *_ = parts_of(*rows)
    assert heading == "weight-only"
    assert " ".join(names.split()) == "model provider ms ratio [95 %] verdict MiB"


def test_a_table_that_fits_has_no_headings() -> None:
    rows = every_axis()
    assert parts_of(*rows, width=200) == lines_of(*rows)
    assert not any("provider" in line for line in parts_of(*rows)[2:])


@pytest.mark.parametrize("width", [30, 40, 60, 79])
def test_what_is_still_too_wide_wraps_and_loses_nothing(width: int) -> None:
    slow = row(ratio=Ratio(123.45, 112.34, 134.56, "inconclusive"), precision="fp32")
    rows = (slow, replace(slow, precision="weight-only", batch=128, threads=16, streams=8))
    lines = parts_of(*rows, width=width)
    assert max(map(len, lines)) <= width
    _, *cells = lines_of(*rows)
    assert Counter("".join(cells).replace(" ", "")) <= Counter("".join(lines))


def test_it_is_printed_in_the_width_of_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_result(result_of(*every_axis(mode="throughput", threads=2, notes=("slow",))))
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_a_run_without_rows_has_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_result(result_of())
    assert capsys.readouterr().out == "no row is finished\n"


def test_what_all_rows_share_and_is_not_usual_is_told_once() -> None:
    shared = footnotes(result_of(*[row(batch=n, threads=2, streams=3) for n in (1, 8)]))
    assert "all rows: cpu, 2 threads, 3 streams" in shared
    paced = footnotes(result_of(*[row(mode="paced", rate=30.0, batch=8)] * 2))
    assert "all rows: batch 8, 30 calls a second" in paced
    assert not any(line.startswith("all rows") for line in footnotes(result_of(row(), row())))


def test_rows_of_several_models_are_named_with_the_model() -> None:
    known = Accuracy("top1", 0.9, 60, 0.8, 0.95, Interval(-0.05, -0.1, 0.0))
    rows = [row(model=name, accuracy=known) for name in ("a.onnx", "b.onnx")]
    notes = footnotes(result_of(rows[0], replace(rows[1], notes=("slow",))))
    assert "b.onnx weight-only cpu: slow" in notes
    assert (
        "accuracy minus that of the first row, in points: a.onnx weight-only cpu -5.0 "
        "[-10.0, +0.0], b.onnx weight-only cpu -5.0 [-10.0, +0.0]"
    ) in notes


def result_of(*rows: Row) -> RunResult:
    return RunResult(environment=environment.capture(), settings=Settings(), rows=rows)


def row(**axes: Any) -> Row:
    measured: dict[str, Any] = {
        "accuracy": Accuracy("top1", 1.0, 600, 0.99, 1.0),
        "latency_ms": Latency(median=123.456, mad=1.0, min=99.0, p90=None),
        "ratio": Ratio(12.345, 11.234, 13.456, "inconclusive"),
        "throughput_per_s": 8.1,
        "size_bytes": 987 << 20,
    }
    return Row(
        **{"model": "m.onnx", "precision": "weight-only", "provider": "cpu"} | measured | axes
    )


def test_axes_are_shown_where_they_vary() -> None:
    first = row(batch=1, threads=1)
    assert lines_of(first, first)[0].split()[:3] == ["precision", "provider", "accuracy"]
    lines = lines_of(first, row(batch=128, threads=16, streams=8))
    assert " ".join(lines[0].split()) == (
        "precision batch thr. str. accuracy ms ratio [95 %] verdict"
    )
    assert lines[2].split()[:5] == ["weight-only", "128", "16", "8", "100.0"]
    assert max(map(len, lines)) <= 80
    assert lines_of(first, row(threads=0))[2].split()[1] == "all"
    lines = lines_of(first, row(batch=8, threads=1, provider="rtx"))
    assert lines[0].split()[:4] == ["precision", "provider", "batch", "accuracy"]
    assert max(map(len, lines)) <= 80


def test_simulated_rows_have_no_axes_of_their_own() -> None:
    simulated = row(provider="cpu (simulated)", latency_ms=None, ratio=None)
    assert "thr." not in lines_of(row(threads=2), row(threads=2), simulated)[0]


def test_throughput_is_shown_in_its_mode() -> None:
    lines = lines_of(row(mode="throughput", streams=1), row(mode="throughput", streams=4))
    assert "img/s" in lines[0]
    assert "8.10" in lines[1]
    notes = footnotes(result_of(row(mode="throughput"), row(mode="throughput")))
    assert notes[0] == "ratio: images per second of the row / those of the first row"


def test_notes_name_the_rows_by_what_varies() -> None:
    rows = (row(), row(batch=8, error="out of memory"), row(batch=16, notes=("unsettled",)))
    notes = footnotes(result_of(*rows))
    assert "ratio: time of the first row / time of the row, per image" in notes
    assert "weight-only cpu batch 8: out of memory" in notes
    assert "weight-only cpu batch 16: unsettled" in notes


def test_a_note_of_a_whole_precision_names_no_axes() -> None:
    int8 = [row(precision="int8", batch=batch, notes=("slow",)) for batch in (1, 8)]
    assert "int8 cpu: slow" in footnotes(result_of(row(), *int8))


def test_a_note_of_a_whole_batch_size_names_that_alone() -> None:
    rows = [
        row(precision=precision, batch=batch, error="too large" if batch == 8 else None)
        for precision in ("fp32", "int8")
        for batch in (1, 8)
    ]
    assert "batch 8: too large" in footnotes(result_of(*rows))


def test_a_note_of_all_rows_is_told_once() -> None:
    assert "all rows: noisy" in footnotes(
        result_of(*[row(batch=n, notes=("noisy",)) for n in (1, 2, 3)])
    )


def test_calls_that_were_late_are_told() -> None:
    late = row(mode="paced", missed_share=0.25)
    assert "not done when the next call was due: weight-only cpu 25.0 %" in footnotes(
        result_of(row(mode="paced", missed_share=0.0), late)
    )


def test_distrust_is_told_once() -> None:
    result = replace(result_of(row(notes=(UNTRUSTED,))), trusted=False)
    assert [line for line in footnotes(result) if "differed" in line] == [
        "NOT TRUSTED: two identical candidates differed by more than 1 %; run again"
    ]


def test_every_further_figure_has_a_line() -> None:
    def row(precision: str, *figures: Figure) -> Row:
        accuracy = Accuracy("top1_agreement", 1.0, 60, 0.9, 1.0, others=figures)
        return Row(model="m.onnx", precision=precision, provider="cpu", accuracy=accuracy)

    cosine, sqnr = Figure("cosine", 0.98765, 0.9, 1.0), Figure("sqnr_db", 21.26, 20.0, 22.0)
    top5 = Figure("top5", 0.875, 0.8, 0.9)
    rows = (
        row("fp32", cosine),
        row("int8", cosine, sqnr, top5),
        row("int8", cosine, sqnr, top5),
        Row(model="m.onnx", precision="fp16", provider="cuda"),
    )
    result = RunResult(environment=environment.capture(), settings=Settings(), rows=rows)
    assert footnotes(result)[1:] == [
        "accuracy: the same class first as with FP32 on 60 images, 95 % interval about +-5.0 %",
        "cosine with FP32: fp32 cpu 0.9877, int8 cpu 0.9877",
        "SQNR in dB: int8 cpu 21.3",
        "top-5: int8 cpu 87.5 %",
    ]


def test_what_takes_the_time_is_told_where_it_was_profiled() -> None:
    parts = [OperatorTime("Conv", "int8", 0.9), OperatorTime("Mul", None, 0.095)]
    profiled = row(profile=(*parts, OperatorTime("Add", "fp32", 0.005)))
    notes = footnotes(result_of(row(precision="fp32"), profiled))
    assert notes[-1] == "time of weight-only cpu: Conv int8 90.0 %, Mul 9.5 %"


def test_a_cosine_is_no_percentage() -> None:
    first = Accuracy("cosine", 1.0, 60, 1.0, 1.0)
    second = Accuracy("cosine", 0.98765, 60, 0.987, 0.989, Interval(-0.0123, -0.013, -0.011))
    rows = tuple(
        Row(model="m.onnx", precision=precision, provider="cpu", accuracy=accuracy)
        for precision, accuracy in (("fp32", first), ("int8", second))
    )
    result = RunResult(environment=environment.capture(), settings=Settings(), rows=rows)
    assert footnotes(result)[1:] == [
        "accuracy: cosine with FP32 on 60 images, 95 % interval about +-0.0010",
        "accuracy minus that of the first row: int8 cpu -0.0123 [-0.0130, -0.0110]",
    ]
    out = io.StringIO()
    Console(file=out, width=80).print(result_table(result))
    assert out.getvalue().splitlines()[2].split()[:3] == ["int8", "cpu", "0.9877"]


@pytest.mark.parametrize(
    ("metric", "words"),
    [("top1", "top-1"), ("map", "COCO mAP"), ("agreement", "detections in common with FP32")],
)
def test_metrics_are_called_by_their_names(metric: Metric, words: str) -> None:
    measured = row(accuracy=Accuracy(metric, 0.5, 60, 0.4, 0.6))
    line = f"accuracy: {words} on 60 images, 95 % interval about +-10.0 %"
    assert line in footnotes(result_of(measured))


@pytest.mark.parametrize(
    ("control", "is_told"),
    [(Interval(1.0, 0.98, 1.02), True), (Interval(1.0, 0.995, 1.005), False), (None, False)],
)
def test_a_control_that_passed_by_its_width_alone_is_told(
    control: Interval | None, is_told: bool
) -> None:
    notes = footnotes(replace(result_of(row(), row()), control=control))
    told = "noisy: the ratio of two identical candidates is known only to lie in [0.980, 1.020]"
    assert (told in notes) is is_told
