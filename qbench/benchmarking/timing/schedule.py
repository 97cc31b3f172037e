"""Paired timing of candidates: warm-up, then rounds of blocks in random order until it is settled.

All candidates are timed within each round, so that whatever slows the machine slows them alike, and
each round draws its order anew. Three more rules keep the neighbours in time from deciding a ratio:

- Every candidate has two blocks a round. Each is the other's hidden duplicate, and comparing the
  first with the second is the A/A control. A duplicate of the baseline alone would let the baseline
  follow itself, on warm caches, more often than any candidate can: identical sessions of
  EfficientNet-lite0 then differ by 2 to 6 %.
- One call that is not timed leads into each block, and refills the caches that another model used.
- Candidates of about one pace time equally many calls: these become faster along a block.

Rounds form sittings, between which candidates are loaded anew; see `sittings`.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from qbench.benchmarking.stats import (
    FEWEST_ROUNDS,
    FEWEST_SITTINGS,
    Interval,
    Verdict,
    aa_error,
    half_width,
    is_breach,
    ratio_interval,
    sittings_interval,
    verdict,
)
from qbench.benchmarking.timing.clock import BlockTimer, Call, CallTimer, Clock
from qbench.benchmarking.timing.rounds import Disturbed, Round, Voids, Watch, run_rounds
from qbench.benchmarking.timing.settings import Settings
from qbench.benchmarking.timing.sittings import Reload, Sittings
from qbench.benchmarking.timing.warmup import shared_calls, warm_up
from qbench.errors import UsageError

OnRound = Callable[[int, float], None]
"""Called after each round with the rounds done, and the widest half-width known so far (or inf)."""

_LOOK_GROWTH = 1.25
_LOOKS_TO_STOP = 2


@dataclass(frozen=True)
class Measurement:
    """What `measure` saw. Lanes 2i and 2i + 1 are the two blocks of candidate i in a round.

    Attributes:
        samples: Seconds of every timed call, an array [calls] per candidate.
        figures: Seconds per call of each block that candidates are compared by, [rounds,
            candidates, 2]; the median of the calls, or what the mode has in its place.
        orders: Lanes in the order in which each round ran them, [rounds, 2 * candidates].
        sittings: The sitting of each round, [rounds]: 0, 1 and so on; all 0 where nothing was
            loaded anew.
        loads: For each candidate, how many loads of it were timed.
        block_calls: Calls in a block, per candidate.
        unsettled: For each candidate, whether its warm-up was capped before its timings agreed.
        seconds: Time that rounds and loading anew took, the first warm-up excluded.
        settings: The settings measured with.
        voided: For each candidate, how many rounds were thrown away because one of its blocks was
            disturbed.
        disturbance: What disturbed so many rounds that the measurement was given up; None where it
            was not.
    """

    samples: tuple[NDArray[np.float64], ...]
    figures: NDArray[np.float64]
    orders: NDArray[np.int64]
    sittings: NDArray[np.int64]
    loads: tuple[int, ...]
    block_calls: tuple[int, ...]
    unsettled: tuple[bool, ...]
    seconds: float
    settings: Settings
    voided: tuple[int, ...] = ()
    disturbance: str | None = None

    @cached_property
    def ratios(self) -> tuple[Interval, ...]:
        """Each candidate's speed-up over the first, whose own is 1 by definition."""
        return candidate_ratios(self.figures, self.sittings, self.settings.seed)

    @cached_property
    def control(self) -> Interval:
        """The speed-up between the blocks of one candidate: 1, but for the measurement's error."""
        return control_ratio(self.figures, self.settings.seed)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Each candidate's verdict, with the control's error as noise."""
        noise = aa_error(self.control)
        return tuple(verdict(ratio, noise) for ratio in self.ratios)

    @property
    def reached(self) -> bool:
        """Whether every interval, the control's too, is as narrow as the settings ask."""
        widest_found = max(map(half_width, (*self.ratios, self.control)))
        return widest_found <= self.settings.half_width

    @property
    def trusted(self) -> bool:
        """False where the control's interval lies wholly beyond 1 %."""
        return not is_breach(self.control)


def measure(
    calls: Sequence[Call],
    settings: Settings,
    on_round: OnRound | None = None,
    clock: Clock = time.perf_counter_ns,
) -> Measurement:
    """Time `calls` in this process, one after the other, against the first of them.

    See `measure_blocks`. They are what they are, so that intervals tell nothing of what loading
    their models anew would change.
    """
    timers = [CallTimer(call, clock) for call in calls]
    return measure_blocks(timers, settings, on_round, clock=clock)


def measure_blocks(
    timers: Sequence[BlockTimer],
    settings: Settings,
    on_round: OnRound | None = None,
    *,
    reloads: Sequence[Sequence[Reload]] = (),
    watch: Watch | None = None,
    clock: Clock = time.perf_counter_ns,
) -> Measurement:
    """Time candidates against the first of them.

    Args:
        timers: What runs each candidate, the baseline first.
        settings: When to stop; `MODES` holds the usual ones.
        on_round: Told after each round how far the measurement is.
        reloads: The ways to load each candidate anew between sittings, best first; empty leaves
            them as they are, and then the intervals do not tell what another load would change.
        watch: Tells which blocks were disturbed; their rounds are voided, and run again.
        clock: Nanoseconds, monotonic.

    Raises:
        UsageError: There is nothing to time.
        InconclusiveError: So many rounds were disturbed that those left hold no interval.
        QbenchError: A candidate cannot be loaded again.
    """
    if not timers:
        raise UsageError("nothing to measure; name at least one model")
    warmed = [warm_up(timer, settings, clock) for timer in timers]
    block_calls = shared_calls([warm.block for warm in warmed], settings.block_seconds)
    stop, voids, rounds = _StopRule(settings), Voids(len(timers)), _Rounds()
    started, sittings = clock(), Sittings(timers, reloads, settings, clock)
    for timed in run_rounds(timers, block_calls, settings.seed, watch):
        if isinstance(timed, Disturbed):
            voids.add(timed)
            if voids.are_too_many(rounds.good) or stop.is_late(rounds, _since(started, clock)):
                break
            continue
        rounds.add(timed, sittings)
        done = stop.is_done(rounds, _since(started, clock), may_look=sittings.may_look)
        if on_round is not None:
            on_round(len(rounds.good), stop.half_width)
        if done:
            break
        sittings.go_on(block_calls)
    return Measurement(
        samples=rounds.samples,
        figures=rounds.figures,
        orders=np.array([timed.order for timed in rounds.good]),
        sittings=rounds.sittings,
        loads=tuple(sittings.loads),
        block_calls=block_calls,
        unsettled=tuple(warm.unsettled for warm in warmed),
        seconds=_since(started, clock),
        settings=settings,
        voided=tuple(voids.counts),
        disturbance=voids.given_up,
    )


def candidate_ratios(
    figures: NDArray[np.float64], sittings: NDArray[np.int64], seed: int
) -> tuple[Interval, ...]:
    """Return each candidate's speed-up over the first, from [rounds, candidates, 2].

    From `FEWEST_SITTINGS` sittings on the intervals tell what another load of the same files might
    change, too; of fewer they come from the rounds alone.
    """
    logs = np.log(figures).mean(axis=2)
    others = (_over_first(logs[:, 0] - log, sittings, seed) for log in logs.T[1:])
    return (Interval(1.0, 1.0, 1.0), *others)


def _over_first(
    log_ratios: NDArray[np.float64], sittings: NDArray[np.int64], seed: int
) -> Interval:
    if np.unique(sittings).size < FEWEST_SITTINGS:
        return ratio_interval(log_ratios, seed)
    return sittings_interval(log_ratios, sittings)


def control_ratio(figures: NDArray[np.float64], seed: int) -> Interval:
    """Return the speed-up of second blocks over first blocks, over all candidates.

    From [rounds, candidates, 2]. Which block of a candidate counts as the first is random.
    """
    logs = np.log(figures).mean(axis=1)
    return ratio_interval(logs[:, 0] - logs[:, 1], seed)


def widest(figures: NDArray[np.float64], sittings: NDArray[np.int64], seed: int) -> float:
    """Return the largest half-width of all ratios and of the control; see `Measurement`."""
    ratios = (*candidate_ratios(figures, sittings, seed), control_ratio(figures, seed))
    return max(half_width(ratio) for ratio in ratios)


class _Rounds:
    """The good rounds of a measurement, and in which sitting each was."""

    def __init__(self) -> None:
        self.good: list[Round] = []
        self._sittings: list[int] = []

    def add(self, timed: Round, sittings: Sittings) -> None:
        """Take in a round of the current sitting."""
        self.good.append(timed)
        self._sittings.append(sittings.current)
        sittings.add_round()

    @property
    def samples(self) -> tuple[NDArray[np.float64], ...]:
        """As of `Measurement`."""
        pooled = zip(*(timed.samples for timed in self.good), strict=True)
        return tuple(map(np.concatenate, pooled))

    @property
    def figures(self) -> NDArray[np.float64]:
        """As of `Measurement`."""
        return np.array([timed.figures for timed in self.good])

    @property
    def sittings(self) -> NDArray[np.int64]:
        """As of `Measurement`."""
        return np.array(self._sittings)


def _since(started: int, clock: Clock) -> float:
    """Return the seconds since the clock showed `started`."""
    return (clock() - started) * 1e-9


class _StopRule:
    """Decides when the intervals are narrow enough.

    It looks at growing distances, at the end of sittings, and asks for two narrow looks in a row:
    stopping at the first narrow interval would prefer those that are narrow by luck. In simulations
    of sittings of five rounds, with a noise of 1 to 5 % per round and up to 2 % per load, intervals
    of identical candidates then exclude 1 in 5 to 8 % of measurements, against up to 9 % when one
    narrow look is enough.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._next_look = settings.min_rounds
        self._narrow_looks = 0
        self.half_width = math.inf

    def is_done(self, rounds: _Rounds, seconds: float, *, may_look: bool) -> bool:
        """Judge after a round, given all rounds so far and the seconds they took."""
        count = len(rounds.good)
        if count >= self._next_look and may_look:
            self._look(rounds)
        capped = count >= self._settings.max_rounds and count >= FEWEST_ROUNDS
        return self._narrow_looks >= _LOOKS_TO_STOP or capped or self.is_late(rounds, seconds)

    def is_late(self, rounds: _Rounds, seconds: float) -> bool:
        """Return whether the time is up, and the good rounds are enough for an interval."""
        return seconds >= self._settings.max_seconds and len(rounds.good) >= FEWEST_ROUNDS

    def _look(self, rounds: _Rounds) -> None:
        self.half_width = widest(rounds.figures, rounds.sittings, self._settings.seed)
        narrow = self.half_width <= self._settings.half_width
        self._narrow_looks = self._narrow_looks + 1 if narrow else 0
        self._next_look = math.ceil(_LOOK_GROWTH * len(rounds.good))
