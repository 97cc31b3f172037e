"""Sittings: rounds on one load of each candidate, after which all are loaded anew.

Two loads of one file differ for as long as both live, since their memory lies elsewhere, and no
number of rounds on one of them tells what another would give.

Loading anew in the same process shows most of it: of EfficientNet-lite0 on both of two cores, 15
times each, speeds varied by 0.8 % (standard deviation) from load to load in one process and by
0.6 % from process to process, beside 0.5 % for a load that was kept; the machine was not quiet. Not
all of it: with 15 to 19 sittings, intervals of identical candidates excluded 1 in 6 of 45
measurements by `scripts/aa_study.py` instead of 2, by up to 0.9 %, so something of a process lasts
as long as the process. One for each load would take 0.6 s against 0.05 s.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qbench.benchmarking.clock import BlockTimer, Clock
from qbench.benchmarking.settings import Settings
from qbench.benchmarking.stats import FEWEST_SITTINGS

RELOADS_SHARE = 1 / 3
"""Of the time of a measurement that loading anew may take."""

SITTING_ROUNDS = 5
"""The fewest rounds of a sitting."""

_SETTLING_BLOCKS = 3
_ROUNDS_PER_RELOAD = (1 - RELOADS_SHARE) / RELOADS_SHARE
"""The least time of a sitting's rounds, in times of loading anew."""


@dataclass(frozen=True)
class Reload:
    """How a candidate is loaded anew.

    Attributes:
        run: Does it.
        seconds: What loading it took, the first call included.
    """

    run: Callable[[], None]
    seconds: float


class Sittings:
    """Tells when a sitting is over, and begins the next.

    A sitting lasts `SITTING_ROUNDS` rounds, and longer where loading takes long. Candidates that
    take so long to load that there would be too few sittings stay as they were loaded.

    Args:
        timers: What runs each candidate.
        reloads: How each is loaded anew; empty where they cannot be.
        settings: How long to measure.
        clock: Nanoseconds, monotonic.

    Attributes:
        current: The number of the sitting, from 0.
        loads: How often each candidate was loaded.
    """

    def __init__(
        self,
        timers: Sequence[BlockTimer],
        reloads: Sequence[Reload],
        settings: Settings,
        clock: Clock = time.perf_counter_ns,
    ) -> None:
        self._timers, self._reloads = timers, reloads
        self._lanes = affordable([reload.seconds for reload in reloads], settings)
        self._settling, self._clock = _SETTLING_BLOCKS * settings.block_seconds, clock
        self._reload_seconds = sum(reloads[lane].seconds + self._settling for lane in self._lanes)
        self._rounds, self._began = 0, clock()
        self._deadline = self._began + settings.max_seconds * 1e9
        self.current = 0
        self.loads = [1] * len(timers)

    @property
    def may_look(self) -> bool:
        """Whether intervals would tell all: not within a sitting, nor after too few of them."""
        if not self._lanes:
            return True
        return self.current + 1 >= FEWEST_SITTINGS and self._is_over

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
        if not (self._lanes and self._is_over and self._another_fits):
            return
        started = self._clock()
        for lane in self._lanes:
            self._reloads[lane].run()
            self.loads[lane] += 1
        for lane in self._lanes:
            self._settle(self._timers[lane], block_calls[lane])
        self._began = self._clock()
        self._reload_seconds = (self._began - started) * 1e-9
        self._rounds, self.current = 0, self.current + 1

    def _settle(self, timer: BlockTimer, calls: int) -> None:
        end = self._clock() + self._settling * 1e9
        timer(calls)
        while self._clock() < end:
            timer(calls)


def affordable(seconds: Sequence[float], settings: Settings) -> tuple[int, ...]:
    """Return which candidates can be loaded anew until there are enough sittings.

    Those that load fastest come first: one whose engine is built for a minute keeps none of the
    others from being loaded again.

    Args:
        seconds: What loading each candidate takes.
        settings: How long to measure.
    """
    if settings.max_rounds < FEWEST_SITTINGS * SITTING_ROUNDS:
        return ()
    reloads = FEWEST_SITTINGS * _ROUNDS_PER_RELOAD + FEWEST_SITTINGS - 1
    left, found = settings.max_seconds / reloads, []
    for lane in sorted(range(len(seconds)), key=seconds.__getitem__):
        left -= seconds[lane] + _SETTLING_BLOCKS * settings.block_seconds
        if left < 0:
            break
        found.append(lane)
    return tuple(sorted(found))
