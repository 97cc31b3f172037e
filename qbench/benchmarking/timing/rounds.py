"""Rounds of timed blocks in random order, and those that were disturbed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qbench.benchmarking.stats import FEWEST_ROUNDS
from qbench.benchmarking.timing.clock import Block, BlockTimer
from qbench.errors import InconclusiveError

MOST_VOIDED = 50
"""Rounds that may be voided before the measurement is given up."""


class Watch(Protocol):
    """Tells whether something disturbed a block."""

    def before_block(self) -> None:
        """Note how things are before a block."""

    def after_block(self) -> str | None:
        """Return why the block since then must not count, in a few words; None where it counts."""


@dataclass(frozen=True)
class Round:
    """Samples and block figures per candidate, and the order of the lanes."""

    samples: tuple[NDArray[np.float64], ...]
    figures: NDArray[np.float64]
    order: NDArray[np.int64]


@dataclass(frozen=True)
class Disturbed:
    """A round that was broken off: during whose block, and why."""

    candidate: int
    reason: str


class Voids:
    """Counts the disturbed rounds of each candidate.

    Attributes:
        counts: How many, per candidate.
        given_up: The last reason, once there are too many; None before.
    """

    def __init__(self, candidates: int) -> None:
        self.counts = [0] * candidates
        self.given_up: str | None = None
        self._last = ""

    def add(self, disturbed: Disturbed) -> None:
        """Count a round."""
        self.counts[disturbed.candidate] += 1
        self._last = disturbed.reason

    def are_too_many(self, rounds: Sequence[Round]) -> bool:
        """Return whether to stop with the good `rounds` that there are.

        Raises:
            InconclusiveError: It is time to stop, and they are too few for an interval.
        """
        voided = sum(self.counts)
        if voided < MOST_VOIDED:
            return False
        if len(rounds) < FEWEST_ROUNDS:
            raise InconclusiveError(
                f"{voided} rounds were voided, since {self._last}; measure on a GPU that is free "
                "and cool"
            )
        self.given_up = self._last
        return True


def run_rounds(
    timers: Sequence[BlockTimer], block_calls: Sequence[int], seed: int, watch: Watch | None
) -> Iterator[Round | Disturbed]:
    """Yield rounds without end, each with two blocks per candidate in an order of its own."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(2 * len(timers))
        yield _run(timers, block_calls, order, watch)


def _run(
    timers: Sequence[BlockTimer],
    block_calls: Sequence[int],
    order: NDArray[np.int64],
    watch: Watch | None,
) -> Round | Disturbed:
    blocks: dict[int, Block] = {}
    for lane in map(int, order):
        candidate = lane // 2
        if watch is not None:
            watch.before_block()
        blocks[lane] = timers[candidate](block_calls[candidate], lead=1)
        reason = watch.after_block() if watch is not None else None
        if reason is not None:
            return Disturbed(candidate, reason)
    pairs = [(blocks[lane], blocks[lane + 1]) for lane in range(0, len(blocks), 2)]
    return Round(
        tuple(np.concatenate([block.samples for block in pair]) for pair in pairs),
        np.array([[block.figure for block in pair] for pair in pairs]),
        order,
    )
