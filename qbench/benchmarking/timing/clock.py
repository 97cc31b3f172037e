"""Timing of a bound call in blocks long enough for the clock, every call's time kept."""

import math
import time
from array import array
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Call = Callable[[], None]
"""A call that runs a model once, as `Runner.bind` returns it."""

Clock = Callable[[], int]
"""A monotonic clock in nanoseconds; the tests put a simulated one in its place."""

_SHORTEST_CALL = 1e-7
"""Seconds. Bounds the calls of a block where a clock's ticks are coarser than the call."""


class Block(NamedTuple):
    """What one block of calls took.

    Attributes:
        samples: Seconds of each call, [calls].
        figure: Seconds per call that candidates are compared by.
        pace: Seconds by which one call more makes a block longer.
    """

    samples: NDArray[np.float64]
    figure: float
    pace: float


class BlockTimer(Protocol):
    """Runs a candidate, in whatever process and however many calls are in flight."""

    def __call__(self, calls: int, *, lead: int = 0) -> Block:
        """Time at least `calls` calls, after `lead` more that are not timed."""


class CallTimer:
    """Times one call after the other; blocks are compared by their median."""

    def __init__(self, call: Call, clock: Clock = time.perf_counter_ns) -> None:
        self._call, self._clock = call, clock

    def __call__(self, calls: int, *, lead: int = 0) -> Block:
        """Time `calls` calls, after `lead` more that are not timed."""
        for _ in range(lead):
            self._call()
        samples = time_block(self._call, calls, self._clock)
        return Block(samples, float(np.median(samples)), float(samples.min()))


def calls_per_block(timer: BlockTimer, seconds: float) -> int:
    """Return how many calls fill a block of at least `seconds`.

    The calls double until they would fill the block, so that a slow one runs only a few times.
    """
    calls = 1
    while True:
        needed = calls_to_fill(timer(calls), seconds)
        if needed <= calls:
            return needed
        calls = min(2 * calls, needed)


def calls_to_fill(block: Block, seconds: float) -> int:
    """Return how many calls at the pace of `block` last `seconds`."""
    return math.ceil(seconds / max(block.pace, _SHORTEST_CALL))


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
