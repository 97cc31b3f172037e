"""How speed changed between two runs."""

import msgspec
import numpy as np

from qbench.benchmarking.presentation.naming import is_baseline
from qbench.benchmarking.result import Row
from qbench.benchmarking.stats import Interval, verdict
from qbench.runs.comparing.changes import SpeedChange
from qbench.runs.comparing.intervals import quotient_of, speedup
from qbench.runs.comparing.pairs import Pair, Sides
from qbench.runs.run import Run


def speed_change(sides: Sides, pair: Pair) -> SpeedChange | None:
    """Return how the speed of a row changed; None where nothing can be compared.

    Of rows that were measured together, by their ratios to the first row, which was timed in the
    same rounds as each of them. Of two sessions on the same machine by their milliseconds. On
    different machines by each row's speed-up over its own run's baseline; that also where no
    samples are kept, since it has an interval.
    """
    if sides.together:
        return _of_times(sides, pair, _by_first_row(sides, pair))
    ratio = None if sides.machine else _by_samples(sides, pair)
    if ratio is not None:
        return _of_times(sides, pair, ratio)
    own = _of_speedups(sides, pair)
    return own if own is not None or sides.machine else _of_times(sides, pair, None)


def _by_first_row(sides: Sides, pair: Pair) -> Interval | None:
    before = sides.before.result.rows[pair.before].ratio
    after = sides.after.result.rows[pair.after].ratio
    if before is None or after is None:
        return None
    return quotient_of(after.interval, before.interval)


def _by_samples(sides: Sides, pair: Pair) -> Interval | None:
    before = sides.before.samples.get(pair.before)
    after = sides.after.samples.get(pair.after)
    if before is None or after is None:
        return None
    # Calls that take long are what throughput is lost by, and medians do not see them.
    is_throughput = sides.after.result.rows[pair.after].mode == "throughput"
    return speedup(before, after, np.mean if is_throughput else np.median)


def _of_times(sides: Sides, pair: Pair, ratio: Interval | None) -> SpeedChange | None:
    """Compare milliseconds; without an interval where there are no samples to tell one."""
    before = _milliseconds(sides.before.result.rows[pair.before])
    after = _milliseconds(sides.after.result.rows[pair.after])
    if before is None or after is None:
        return None
    change = SpeedChange(basis="time", before=before, after=after, ratio=before / after)
    return change if ratio is None else _with_interval(change, sides, ratio)


def _milliseconds(row: Row) -> float | None:
    """Return the median of a call, or what an image takes in mode `throughput`."""
    if row.mode == "throughput":
        return 1e3 / row.throughput_per_s if row.throughput_per_s else None
    return row.latency_ms.median if row.latency_ms else None


def _of_speedups(sides: Sides, pair: Pair) -> SpeedChange | None:
    """Compare speed-ups over the baselines, where these measure the same."""
    before = sides.before.result.rows[pair.before].ratio
    after = sides.after.result.rows[pair.after].ratio
    baselines = Pair(_baseline(sides.before), _baseline(sides.after))
    if before is None or after is None or pair == baselines or baselines not in sides.pairs():
        return None
    ratio = quotient_of(after.interval, before.interval)
    change = SpeedChange(
        basis="own baseline", before=before.value, after=after.value, ratio=ratio.value
    )
    return _with_interval(change, sides, ratio)


def _baseline(run: Run) -> int:
    """Return the index of the row that the others' speed is relative to; -1 where there is none."""
    return next((i for i, row in enumerate(run.result.rows) if is_baseline(row.ratio)), -1)


def _with_interval(change: SpeedChange, sides: Sides, ratio: Interval) -> SpeedChange:
    judged = verdict(ratio, sides.noise) if sides.trusted else "inconclusive"
    return msgspec.structs.replace(
        change, ratio=ratio.value, ci_low=ratio.low, ci_high=ratio.high, verdict=judged
    )
