"""How accuracy changed between two runs."""

import msgspec

from qbench.benchmarking.result import Accuracy
from qbench.benchmarking.stats import Interval
from qbench.runs.comparing.changes import AccuracyChange, AccuracyVerdict
from qbench.runs.comparing.intervals import difference_of
from qbench.runs.comparing.pairs import Pair, Sides
from qbench.runs.run import Run

_NOTHING = Interval(0.0, 0.0, 0.0)


def accuracy_change(sides: Sides, pair: Pair) -> AccuracyChange | None:
    """Return how the accuracy of a row changed; None where both are not judged by one metric."""
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
    """Return the change by way of one first row, to which both rows tell their paired difference.

    That leaves out how hard the images are, and so is narrower. None where there is no such row.
    """
    if not _share_the_first(sides):
        return None
    before = _shift(sides.before, pair.before, is_first_run=True)
    after = _shift(sides.after, pair.after, is_first_run=not sides.together)
    if before is None or after is None:
        return None
    return difference_of(after, before)


def _share_the_first(sides: Sides) -> bool:
    """Return whether the first rows are one, or the same file with the same accuracy."""
    if sides.together:
        return True
    runs, firsts = (sides.before, sides.after), (_first(sides.before), _first(sides.after))
    cells = [run.cells.get(first) for run, first in zip(runs, firsts, strict=True)]
    if cells[0] is None or cells[0] != cells[1]:
        return False
    values = [run.result.rows[i].accuracy for run, i in zip(runs, firsts, strict=True)]
    return values[0] == values[1]


def _first(run: Run) -> int:
    """Return the index of the first row that was judged; -1 where none was."""
    return next((i for i, row in enumerate(run.result.rows) if row.accuracy is not None), -1)


def _shift(run: Run, index: int, *, is_first_run: bool) -> Interval | None:
    """Return the paired difference of a row to the first row of the run."""
    if is_first_run and index == _first(run):
        return _NOTHING
    accuracy = run.result.rows[index].accuracy
    return None if accuracy is None else accuracy.difference


def _interval(accuracy: Accuracy) -> Interval:
    return Interval(accuracy.value, accuracy.ci_low, accuracy.ci_high)


def _verdict(change: Interval) -> AccuracyVerdict:
    if change.low > 0:
        return "better"
    return "worse" if change.high < 0 else "within noise"
