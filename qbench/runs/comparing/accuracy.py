"""How accuracy changed between two runs."""

import msgspec

from qbench.benchmarking.result import Accuracy, FurtherMetric, Metric
from qbench.benchmarking.stats import Interval
from qbench.runs.comparing.changes import AccuracyChange, AccuracyVerdict
from qbench.runs.comparing.intervals import difference_of
from qbench.runs.comparing.pairs import Pair, Sides


def accuracy_change(sides: Sides, pair: Pair) -> AccuracyChange | None:
    """Return how the accuracy of a row changed; None where both are not judged by one metric.

    On the same images it has an interval: paired, image by image, where the outcomes are kept; else
    the wider one that follows from the two accuracies alone.
    """
    before = sides.before.result.rows[pair.before].accuracy
    after = sides.after.result.rows[pair.after].accuracy
    if before is None or after is None or before.metric != after.metric:
        return None
    is_same = sides.same_images and before.n == after.n
    paired = _paired(sides, pair) if is_same else None
    interval = paired.difference if paired else None
    if is_same:
        interval = interval or difference_of(after.interval, before.interval)
    change = _changed(after.metric, before.value, after.value, interval)
    return msgspec.structs.replace(change, others=_others(before, after, paired))


def _others(
    before: Accuracy, after: Accuracy, paired: Accuracy | None
) -> tuple[AccuracyChange, ...]:
    """Return how the further figures changed that both have."""
    then = {figure.metric: figure.value for figure in before.others}
    intervals = {figure.metric: figure.difference for figure in paired.others} if paired else {}
    return tuple(
        _changed(now.metric, then[now.metric], now.value, intervals.get(now.metric))
        for now in after.others
        if now.metric in then
    )


def _changed(
    metric: Metric | FurtherMetric, before: float, after: float, interval: Interval | None
) -> AccuracyChange:
    change = AccuracyChange(metric=metric, before=before, after=after, difference=after - before)
    if interval is None:
        return change
    return msgspec.structs.replace(
        change, ci_low=interval.low, ci_high=interval.high, verdict=_verdict(interval)
    )


def _paired(sides: Sides, pair: Pair) -> Accuracy | None:
    """Return the differences image by image; None where the outcomes of one are not kept."""
    before, after = sides.before.judged.get(pair.before), sides.after.judged.get(pair.after)
    return None if before is None or after is None else after.compared(before)


def _verdict(change: Interval) -> AccuracyVerdict:
    if change.low > 0:
        return "better"
    return "worse" if change.high < 0 else "within noise"
