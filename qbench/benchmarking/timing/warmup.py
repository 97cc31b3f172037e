"""Warm-up of candidates, and how many of their calls fill a block."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from qbench.benchmarking.timing.clock import (
    Block,
    BlockTimer,
    Clock,
    calls_per_block,
    calls_to_fill,
)
from qbench.benchmarking.timing.settings import Settings

logger = logging.getLogger(__name__)

_WINDOWS = 3
_AGREEMENT = 0.02

_ALIKE = 1.25
"""The most by which the paces of two candidates differ that time equally many calls."""


@dataclass(frozen=True)
class Warmup:
    """The last block of the warm candidate, and whether it never became steady."""

    block: Block
    unsettled: bool


def warm_up(timer: BlockTimer, settings: Settings, clock: Clock = time.perf_counter_ns) -> Warmup:
    """Run blocks until the figures of the last three agree within 2 %, or the cap."""
    started = clock()
    calls = calls_per_block(timer, settings.block_seconds)
    figures: list[float] = []
    while True:
        block = timer(calls)
        calls = calls_to_fill(block, settings.block_seconds)
        figures.append(block.figure)
        if len(figures) < _WINDOWS:
            continue
        last = figures[-_WINDOWS:]
        if max(last) <= (1 + _AGREEMENT) * min(last):
            return Warmup(block, unsettled=False)
        if (clock() - started) * 1e-9 >= settings.warmup_seconds:
            logger.info("warm-up stopped after %d windows that still differ", len(figures))
            return Warmup(block, unsettled=True)


def shared_calls(blocks: Sequence[Block], seconds: float) -> tuple[int, ...]:
    """Return how many calls fill a block of each candidate; candidates of about one pace share it.

    Calls become faster along a block: of EfficientNet-lite0 on two cores by 7 % from the first to
    the fifth. One call more makes a candidate look faster by 1 % than its twin, in every round.

    Args:
        blocks: A warm block of each candidate.
        seconds: What a block lasts at least.
    """
    found = [calls_to_fill(block, seconds) for block in blocks]
    fastest_first = sorted(range(len(blocks)), key=lambda lane: blocks[lane].pace)
    for faster, lane in pairwise(fastest_first):
        if blocks[lane].pace <= _ALIKE * blocks[faster].pace:
            found[lane] = found[faster]
    return tuple(found)
