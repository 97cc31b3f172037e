"""How accuracy changed between two runs."""

import msgspec

from qbench.benchmarking.result import Accuracy
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
    change = AccuracyChange(
        metric=after.metric,
        before=before.value,
        after=after.value,
        difference=after.value - before.value,
    )
    if not sides.same_images or before.n != after.n:
        return change
    interval = _paired(sides, pair) or difference_of(_interval(after), _interval(before))
    return msgspec.structs.replace(
        change, ci_low=interval.low, ci_high=interval.high, verdict=_verdict(interval)
    )


def _paired(sides: Sides, pair: Pair) -> Interval | None:
    """Return the difference image by image; None where the outcomes of one are not kept."""
    before, after = sides.before.judged.get(pair.before), sides.after.judged.get(pair.after)
    return None if before is None or after is None else after.difference(before)


def _interval(accuracy: Accuracy) -> Interval:
    return Interval(accuracy.value, accuracy.ci_low, accuracy.ci_high)


def _verdict(change: Interval) -> AccuracyVerdict:
    if change.low > 0:
        return "better"
    return "worse" if change.high < 0 else "within noise"
