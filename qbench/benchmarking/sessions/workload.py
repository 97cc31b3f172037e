"""How a candidate is driven: one call at a time, as many as fit, or by the clock."""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier

import numpy as np
from numpy.typing import NDArray

from qbench.benchmarking.result import Mode
from qbench.benchmarking.timing.clock import Block, BlockTimer, Call, CallTimer, Clock, time_block
from qbench.runtimes.base import Runner, Tensors
from qbench.runtimes.tensorrt.runner import TensorRtRunner

_CALLS_PER_STREAM = 4
"""The fewest calls that tell a stream's pace."""

_PACED_CALLS = 20
"""The fewest calls of a paced block: a queue needs some to build up."""

_SPIN_SECONDS = 1e-3
"""How long before a call is due sleeping gives way to spinning; sleep oversleeps by less."""


@dataclass(frozen=True)
class Load:
    """How a candidate is driven.

    Attributes:
        batch: Images per call; None for what the model fixes, or 1.
        threads: Intra-op threads; 0 leaves them to the runtime.
        streams: Calls in flight in mode `throughput`.
        mode: See `result.Mode`.
        rate: Calls started per second in mode `paced`.
        graph: Launch engines as CUDA graphs.
    """

    batch: int | None = None
    threads: int = 0
    streams: int = 1
    mode: Mode = "latency"
    rate: float | None = None
    graph: bool = False


def bind(runner: Runner, feeds: Tensors, load: Load) -> list[Call]:
    """Return the calls that `load` needs: one per stream, or of an engine one for all streams."""
    if isinstance(runner, TensorRtRunner):
        return [runner.bind(feeds, graph=load.graph, streams=load.streams)]
    return [runner.bind(feeds) for _ in range(load.streams)]


def timer_of(calls: Sequence[Call], load: Load) -> BlockTimer:
    """Return what times blocks of `calls`, which `bind` returned."""
    if load.mode == "paced":
        assert load.rate is not None  # the options were checked
        return PacedTimer(calls[0], load.rate)
    if load.mode == "latency":
        return CallTimer(calls[0])
    return StreamsTimer(calls) if len(calls) > 1 else TogetherTimer(calls[0], load.streams)


class StreamsTimer:
    """Keeps one call in flight on each of several threads; blocks are compared by throughput.

    Every stream times its calls from its second one on, and keeps running until the last stream has
    timed all of its own: so that each timed call runs beside as many others as there are streams.
    Their rates add up.
    """

    def __init__(self, calls: Sequence[Call], clock: Clock = time.perf_counter_ns) -> None:
        self._calls, self._clock = calls, clock
        self._pool = ThreadPoolExecutor(len(calls))

    def __call__(self, calls: int, *, lead: int = 0) -> Block:
        """Time at least `calls` calls over all streams."""
        del lead  # every stream has its own
        each = max(math.ceil(calls / len(self._calls)), _CALLS_PER_STREAM)
        start, busy = Barrier(len(self._calls)), list(self._calls)

        def stream(call: Call) -> NDArray[np.float64]:
            start.wait()
            try:
                call()
                return time_block(call, each, self._clock)
            finally:
                busy.pop()
                while busy:
                    call()

        samples = list(self._pool.map(stream, self._calls))
        rate = sum(each / one.sum() for one in samples)
        return Block(np.concatenate(samples), 1 / rate, 1 / rate)


class TogetherTimer:
    """Times calls that each start several inferences at once and wait for all of them."""

    def __init__(self, call: Call, streams: int, clock: Clock = time.perf_counter_ns) -> None:
        self._timer, self._streams = CallTimer(call, clock), streams

    def __call__(self, calls: int, *, lead: int = 0) -> Block:
        """Time at least `calls` inferences; a sample is what those that start together take."""
        samples = self._timer(math.ceil(calls / self._streams), lead=lead).samples
        pace = float(samples.mean()) / self._streams
        return Block(samples, pace, pace)


class PacedTimer:
    """Starts a call whenever the clock says so, or as soon after as the call before is done.

    A sample lasts from when the call was due to when it was done, so that it includes the time in
    which the call had to wait. Every block starts with an empty queue.
    """

    def __init__(
        self,
        call: Call,
        rate: float,
        clock: Clock = time.perf_counter_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._call, self._period = call, 1 / rate
        self._clock, self._sleep = clock, sleep

    def __call__(self, calls: int, *, lead: int = 0) -> Block:
        """Time at least `calls` calls, after `lead` more that are not timed."""
        for _ in range(lead):
            self._call()
        count = max(calls, _PACED_CALLS)
        done = np.empty(count, np.int64)
        due = self._clock() + np.arange(count) * round(self._period * 1e9)
        for index, at in enumerate(due.tolist()):
            self._wait_until(at)
            self._call()
            done[index] = self._clock()
        samples = (done - due).astype(np.float64) * 1e-9
        took = float(done[-1] - due[0]) * 1e-9 / count  # beyond the period where calls queue up
        return Block(samples, float(np.median(samples)), max(self._period, took))

    def _wait_until(self, at: int) -> None:
        ahead = (at - self._clock()) * 1e-9 - _SPIN_SECONDS
        if ahead > 0:
            self._sleep(ahead)
        while self._clock() < at:
            pass
