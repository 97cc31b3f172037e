"""Warm-up of a candidate, and how many of its calls fill a block."""

import logging
import time
from dataclasses import dataclass

from qbench.benchmarking.clock import BlockTimer, Clock, calls_per_block, calls_to_fill
from qbench.benchmarking.settings import Settings

logger = logging.getLogger(__name__)

_WINDOWS = 3
_AGREEMENT = 0.02


@dataclass(frozen=True)
class Warmup:
    """Calls that fill a block once the candidate is warm, and whether it never became steady."""

    block_calls: int
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
            return Warmup(calls, unsettled=False)
        if (clock() - started) * 1e-9 >= settings.warmup_seconds:
            logger.info("warm-up stopped after %d windows that still differ", len(figures))
            return Warmup(calls, unsettled=True)
