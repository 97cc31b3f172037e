"""What is a regression, what is none, and what is open."""

import msgspec
import pytest

from qbench.errors import BudgetError, InconclusiveError, UsageError
from qbench.runs.comparing.changes import AccuracyChange, Comparison, RowChange, SpeedChange
from qbench.runs.gate import Judgement, Limits, judge, parse_limits

LIMIT = Limits(latency=0.03, accuracy=0.01)


def comparison(*rows: RowChange, **changed: object) -> Comparison:
    values = {"machine": (), "trusted": True, "only_before": (), **changed}
    return Comparison(
        before="old",
        after="new",
        together=True,
        software=(),
        rows=rows,
        only_after=(),
        **values,  # type: ignore[arg-type]
    )


def timed(ratio: float, low: float | None, high: float | None) -> RowChange:
    speed = SpeedChange(
        basis="time", before=1, after=1 / ratio, ratio=ratio, ci_low=low, ci_high=high
    )
    return RowChange(model="m.onnx", label="m.onnx int8 cpu", speed=speed)


def judged(difference: float, low: float | None, high: float | None) -> RowChange:
    accuracy = AccuracyChange(
        metric="top1",
        before=0.8,
        after=0.8 + difference,
        difference=difference,
        ci_low=low,
        ci_high=high,
    )
    return RowChange(model="m.onnx", label="m.onnx int8 cpu", accuracy=accuracy)


@pytest.mark.parametrize(
    ("row", "regressions", "inconclusive"),
    [
        (timed(0.9, 0.89, 0.91), 1, 0),
        (timed(0.9, 0.89, 0.98), 0, 1),
        (timed(1.0, 0.99, 1.01), 0, 0),
        (timed(0.98, 0.975, 0.985), 0, 0),
        (timed(1.5, 1.4, 1.6), 0, 0),
        (timed(0.9, None, None), 0, 1),
        (judged(-0.05, -0.06, -0.02), 1, 0),
        (judged(-0.05, -0.06, -0.005), 0, 1),
        (judged(-0.01, -0.01, -0.01), 0, 0),
        (judged(0.05, 0.01, 0.1), 0, 0),
        (judged(0.0, -0.005, 0.005), 0, 0),
        (judged(-0.05, None, None), 0, 1),
    ],
)
def test_the_interval_decides(row: RowChange, regressions: int, inconclusive: int) -> None:
    found = judge(comparison(row), LIMIT)
    assert (len(found.regressions), len(found.inconclusive)) == (regressions, inconclusive)


def test_a_loss_that_rounding_alone_puts_beyond_the_limit_is_none() -> None:
    ratio = 1 / 1.03
    assert 1 / ratio - 1 > 0.03
    assert judge(comparison(timed(ratio, ratio, ratio)), LIMIT) == Judgement()


def test_a_slowdown_is_told_in_time_not_in_speed() -> None:
    (text,) = judge(comparison(timed(0.5, 0.4, 0.625)), LIMIT).regressions
    assert text == "m.onnx int8 cpu takes +100.0 % [+60.0 %, +150.0 %] time (limit +3 %)"


def test_a_drop_is_told_in_points() -> None:
    (text,) = judge(comparison(judged(-0.05, -0.06, -0.02)), LIMIT).regressions
    assert text == "m.onnx int8 cpu has -5.0 [-6.0, -2.0] points of top-1 (limit -1)"


def test_a_row_that_broke_is_a_regression_whatever_the_limits() -> None:
    row = RowChange(
        model="m.onnx", label="m.onnx int8 cpu", broken=True, notes=("does not run now: no driver",)
    )
    found = judge(comparison(row, timed(1, 1, 1)), Limits(latency=0.5))
    assert found.regressions == ("m.onnx int8 cpu does not run now: no driver",)


def test_a_row_that_is_gone_is_not_passed_over() -> None:
    found = judge(comparison(timed(1, 1, 1), only_before=("m.onnx int8 cpu",)), LIMIT)
    assert found.regressions == ()
    assert found.inconclusive == ("m.onnx int8 cpu was measured then and is not now",)


def test_times_of_an_untrusted_run_settle_nothing() -> None:
    rows = timed(0.5, 0.4, 0.6), judged(-0.05, -0.06, -0.02)
    found = judge(comparison(*rows, trusted=False), LIMIT)
    assert len(found.regressions) == 1
    assert found.inconclusive[0].endswith("in a run that is not trusted")


def test_each_limit_holds_its_own_metric() -> None:
    rows = timed(0.5, 0.4, 0.6), judged(-0.05, -0.06, -0.02)
    assert "time" in judge(comparison(*rows), Limits(latency=0.03)).regressions[0]
    assert "top-1" in judge(comparison(*rows), Limits(accuracy=0.03 / 2)).regressions[0]


def test_a_limit_that_holds_nothing_settles_nothing() -> None:
    only_times = comparison(timed(1, 1, 1), machine=("cores 2 then, 8 now",))
    assert judge(only_times, LIMIT).inconclusive == ()
    named = judge(only_times, Limits(latency=0.03, accuracy=0.01, named=True))
    assert named.inconclusive == ("no row's accuracy can be compared (cores 2 then, 8 now)",)
    nothing = judge(comparison(), LIMIT)
    assert len(nothing.inconclusive) == 2


def test_a_row_whose_accuracy_got_lost_is_not_passed_over() -> None:
    """It is not held against a run of latency alone, in which no row has any."""
    lost = msgspec.structs.replace(timed(1, 1, 1), unjudged=True)
    beside_others = judge(comparison(lost, judged(0, 0, 0)), LIMIT)
    assert beside_others.inconclusive == (
        "the accuracy of m.onnx int8 cpu was known then and is not now",
    )
    assert judge(comparison(lost, timed(1, 1, 1)), LIMIT).inconclusive == ()
    assert judge(comparison(lost, judged(0, 0, 0)), Limits(latency=0.03)).inconclusive == ()


def test_errors_name_what_was_found() -> None:
    Judgement().check()
    with pytest.raises(BudgetError, match="regression: a; b; c; and 1 more"):
        Judgement(regressions=("a", "b", "c", "d"), inconclusive=("e",)).check()
    with pytest.raises(InconclusiveError, match="not settled: e; measure with --strict or on more"):
        Judgement(inconclusive=("e",)).check()


def test_limits_are_read() -> None:
    assert parse_limits("3%") == Limits(latency=0.03, accuracy=0.03)
    assert parse_limits("accuracy=1%, latency=2.5%") == Limits(
        latency=0.025, accuracy=0.01, named=True
    )
    assert parse_limits("latency=0%") == Limits(latency=0.0, named=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3", "limit '3' is no percentage below 100 %; write 3%"),
        ("", "limit '' is no percentage"),
        ("-3%", "limit '-3%' is no percentage"),
        ("nan%", "limit 'nan%' is no percentage"),
        ("100%", "limit '100%' is no percentage"),
        ("latency=x%", "limit 'x%' is no percentage"),
        ("speed=3%", "limit 'speed=3%' names no metric; write 3% or latency=3%,accuracy=1%"),
        ("1_0%", "limit '1_0%' is no percentage"),
        ("latency=3%,latency=1%", "limit 'latency=1%' is the second of latency; drop one"),
        ("latency=3%,", "limit '' names no metric"),
    ],
)
def test_what_is_no_limit(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_limits(text)
