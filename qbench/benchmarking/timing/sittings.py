"""Sittings: rounds on one load of each candidate, after which all are loaded anew.

Two loads of one file differ for as long as both live, since their memory lies elsewhere, and no
number of rounds on one of them tells what another would give.

What lasts as long as a process, as the places of its libraries do, changes only with a fresh one.
So a sitting begins with a fresh process for each candidate that has one of its own, where there is
time: of an EfficientNet-lite0 it takes 0.3 s, against 0.06 s within the process. They start side by
side, since nothing is timed meanwhile. Else all are loaded anew where they are: candidates in fresh
processes were faster than identical ones that kept theirs by 0.33 +- 0.10 %, in 16 measurements.
Of two that kept theirs the interval excluded 1 in 4 of these 16, and never lay wholly beyond 1 %.

In which order is drawn anew for each sitting: of identical EfficientNet-lite0, the one that was
always loaded last was faster than the others by 0.3 to 0.4 %, in 26 measurements.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from qbench.benchmarking.stats import FEWEST_SITTINGS
from qbench.benchmarking.timing.clock import BlockTimer, Clock
from qbench.benchmarking.timing.settings import Settings

RELOADS_SHARE = 1 / 3
"""Of the time of a measurement that loading anew may take."""

SITTING_ROUNDS = 5
"""The fewest rounds of a sitting."""

_FEWEST_BETTER = 5
"""The fewest sittings that the best ways to load anew must leave time for."""

_SETTLING_BLOCKS = 3
_ROUNDS_PER_RELOAD = (1 - RELOADS_SHARE) / RELOADS_SHARE
"""The least time of a sitting's rounds, in times of loading anew."""


Wait = Callable[[], None]
"""Waits until what was begun is done."""


@dataclass(frozen=True)
class Reload:
    """A way to load a candidate anew.

    Attributes:
        begin: Begins it; what it returns must be called before anything else of the candidate.
        seconds: What it takes, the first call included.
    """

    begin: Callable[[], Wait]
    seconds: float


class Sittings:
    """Tells when a sitting is over, and begins the next.

    A sitting lasts `SITTING_ROUNDS` rounds, and longer where loading takes long. Candidates that
    take so long to load that there would be too few sittings stay as they were loaded.

    Args:
        timers: What runs each candidate.
        reloads: The ways to load each anew, best first; empty where they cannot be.
        settings: How long to measure.
        clock: Nanoseconds, monotonic.

    Attributes:
        current: The number of the sitting, from 0.
        loads: How often each candidate was loaded.
    """

    def __init__(
        self,
        timers: Sequence[BlockTimer],
        reloads: Sequence[Sequence[Reload]],
        settings: Settings,
        clock: Clock = time.perf_counter_ns,
    ) -> None:
        self._timers, self._reloads = timers, affordable(reloads, settings)
        self._settling, self._clock = _settling(settings), clock
        self._reload_seconds = sum(one.seconds + self._settling for one in self._reloads.values())
        self._rng = np.random.default_rng(settings.seed)
        self._rounds, self._began = 0, clock()
        self._min_sittings = max(settings.min_sittings, FEWEST_SITTINGS)
        self._deadline = self._began + settings.max_seconds * 1e9
        self.current = 0
        self.loads = [1] * len(timers)

    @property
    def may_look(self) -> bool:
        """Whether intervals would tell all: not within a sitting, nor after too few of them."""
        if not self._reloads:
            return True
        return self.current + 1 >= self._min_sittings and self._is_over

    @property
    def _is_over(self) -> bool:
        least = _ROUNDS_PER_RELOAD * self._reload_seconds
        return self._rounds >= SITTING_ROUNDS and self._lasts >= least

    @property
    def _another_fits(self) -> bool:
        return self._reload_seconds + self._lasts <= (self._deadline - self._clock()) * 1e-9

    @property
    def _lasts(self) -> float:
        return (self._clock() - self._began) * 1e-9

    def add_round(self) -> None:
        """Count a round that is good."""
        self._rounds += 1

    def go_on(self, block_calls: Sequence[int]) -> None:
        """Begin the next sitting if this one is over and the time lasts for another.

        Args:
            block_calls: Calls in a block, per candidate.

        Raises:
            QbenchError: A candidate cannot be loaded again.
        """
        if not (self._reloads and self._is_over and self._another_fits):
            return
        started = self._clock()
        lanes = [int(lane) for lane in self._rng.permutation(list(self._reloads))]
        with ExitStack() as waits:  # all are waited for, also where one of them fails
            for lane in lanes:
                waits.callback(self._reloads[lane].begin())
        for lane in lanes:
            self.loads[lane] += 1
            self._settle(self._timers[lane], block_calls[lane])
        self._began = self._clock()
        self._reload_seconds = (self._began - started) * 1e-9
        self._rounds, self.current = 0, self.current + 1

    def _settle(self, timer: BlockTimer, calls: int) -> None:
        end = self._clock() + self._settling * 1e9
        timer(calls)
        while self._clock() < end:
            timer(calls)


def affordable(reloads: Sequence[Sequence[Reload]], settings: Settings) -> dict[int, Reload]:
    """Return how each candidate is loaded anew; without those that take too long.

    There must be time for enough sittings. Those that load fastest come first: one whose engine is
    built for a minute keeps none of the others from being loaded again. Of these each gets its best
    way where there is time for all. That some are loaded side by side is not counted on.

    Args:
        reloads: The ways of each candidate, the best first and the fastest last.
        settings: How long to measure.
    """
    if settings.max_rounds < FEWEST_SITTINGS * SITTING_ROUNDS:
        return {}
    fastest = {lane: ways[-1].seconds + _settling(settings) for lane, ways in enumerate(reloads)}
    lanes = sorted(_fitting(fastest, _time_to_load(FEWEST_SITTINGS, settings)))
    best = sum(reloads[lane][0].seconds + _settling(settings) for lane in lanes)
    way = 0 if best <= _time_to_load(_FEWEST_BETTER, settings) else -1
    return {lane: reloads[lane][way] for lane in lanes}


def _time_to_load(sittings: int, settings: Settings) -> float:
    """Return how long loading anew may take for `sittings` sittings to fit."""
    return settings.max_seconds / (sittings * _ROUNDS_PER_RELOAD + sittings - 1)


def _fitting(seconds: Mapping[int, float], limit: float) -> list[int]:
    """Return the lanes, from the fastest on, that take no longer than `limit` together."""
    lanes = sorted(seconds, key=seconds.__getitem__)
    total = accumulate(seconds[lane] for lane in lanes)
    return [lane for lane, until in zip(lanes, total, strict=True) if until <= limit]


def _settling(settings: Settings) -> float:
    """Return for how many seconds a candidate runs once it is loaded, before it is timed."""
    return _SETTLING_BLOCKS * settings.block_seconds
