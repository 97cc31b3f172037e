"""Timing of a bound call in blocks long enough for the clock, every call's time kept."""

import math
import time
from array import array
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Call = Callable[[], None]
"""A call that runs a model once, as `Runner.bind` returns it."""

Clock = Callable[[], int]
"""A monotonic clock in nanoseconds; the tests put a simulated one in its place."""

_SHORTEST_CALL = 1e-7
"""Seconds. Bounds the calls of a block where a clock's ticks are coarser than the call."""


def calls_per_block(call: Call, seconds: float = 0.02, clock: Clock = time.perf_counter_ns) -> int:
    """Return how many runs of `call` fill a block of at least `seconds`.

    The runs double until they would fill the block, so that a slow call runs only a few times.
    """
    calls = 1
    while True:
        needed = calls_to_fill(time_block(call, calls, clock), seconds)
        if needed <= calls:
            return needed
        calls = min(2 * calls, needed)


def calls_to_fill(samples: NDArray[np.float64], seconds: float) -> int:
    """Return how many calls as quick as the quickest of `samples` last `seconds`."""
    return math.ceil(seconds / max(float(samples.min()), _SHORTEST_CALL))


def time_block(call: Call, calls: int, clock: Clock = time.perf_counter_ns) -> NDArray[np.float64]:
    """Run `call` `calls` times in a row and return the time of each run in seconds, [calls].

    The clock is read once between two runs, and one stamp is stored in a preallocated array: about
    0.15 microseconds a run, which the sample includes.
    """
    stamps = array("q", bytes(8 * (calls + 1)))
    runs = range(1, calls + 1)
    stamps[0] = clock()
    for run in runs:
        call()
        stamps[run] = clock()
    return np.diff(np.frombuffer(stamps, np.int64)).astype(np.float64) * 1e-9
