"""Intervals of differences and ratios between rows, which may come from different runs."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qbench.benchmarking.stats import FEWEST_ROUNDS, Interval, resampled_interval

BETWEEN_SESSIONS = 0.015
"""95 % half-width of what two sessions differ by, for reasons that lie in neither model.

Of identical models, timed one session after the other on a shared machine, the medians differ by
clearly more than 1 % in one case of ten.
"""

_PARTS = 20
_RESAMPLES = 2000


def difference_of(after: Interval, before: Interval) -> Interval:
    """Return `after` - `before` with the interval that follows from those of the two.

    The method of variance estimates recovery (Zou and Donner, Construction of confidence limits
    about effect measures, 2008). It takes the two for independent, so that the interval is too wide
    rather than too narrow where they rise and fall together.
    """
    value = after.value - before.value
    below = math.hypot(after.value - after.low, before.high - before.value)
    above = math.hypot(after.high - after.value, before.value - before.low)
    return Interval(value, value - below, value + above)


def quotient_of(after: Interval, before: Interval) -> Interval:
    """Return `after` / `before`, both positive, as `difference_of` their logarithms."""
    logs = [
        Interval(*(math.log(end) for end in (given.value, given.low, given.high)))
        for given in (after, before)
    ]
    return _exp(difference_of(*logs))


def speedup(
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    typical: Callable[..., Any] = np.median,
) -> Interval | None:
    """Return time before / time after, from the seconds of calls of two sessions, [calls] each.

    Both are cut into parts of equal length. Calls that follow each other are alike, the more so as
    they share a load of the file, so that parts, not calls, are drawn anew for the interval. That
    tells little of what the sessions differ by; `BETWEEN_SESSIONS` widens the interval.

    Args:
        before: Seconds of calls.
        after: Seconds of calls.
        typical: What is taken of the calls of each part, and over parts; a function of NumPy.

    Returns:
        The ratio with its 95 % interval; None where there are too few calls.
    """
    parts = min(_PARTS, before.size, after.size)
    if parts < FEWEST_ROUNDS:
        return None
    cut = (np.array_split(samples, parts) for samples in (before, after))
    found = [np.array([typical(part) for part in pieces]) for pieces in cut]
    rng = np.random.default_rng(0)
    drawn = [np.log(typical(rng.choice(one, (_RESAMPLES, parts)), axis=1)) for one in found]
    value = math.log(typical(found[0]) / typical(found[1]))
    change = resampled_interval(value, drawn[0] - drawn[1])
    return _exp(difference_of(change, Interval(0.0, -BETWEEN_SESSIONS, BETWEEN_SESSIONS)))


def _exp(logs: Interval) -> Interval:
    return Interval(math.exp(logs.value), math.exp(logs.low), math.exp(logs.high))
