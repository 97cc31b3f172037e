"""How calls follow each other: throughput over streams, and by the clock."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest
import trt_runtime

from qbench.benchmarking.benchmark import Options, benchmark
from qbench.benchmarking.sessions.workload import (
    Load,
    PacedTimer,
    StreamsTimer,
    TogetherTimer,
    bind,
    timer_of,
)
from qbench.benchmarking.timing.clock import CallTimer
from qbench.benchmarking.timing.settings import Settings

TINY = Settings(min_rounds=6, max_rounds=6, max_seconds=0.05, block_seconds=1e-5, warmup_seconds=0)


class Machine:
    """A clock that moves while a call runs or somebody sleeps, and a little when it is read."""

    def __init__(self, *seconds: float) -> None:
        self.now = 0
        self.seconds = iter(seconds)
        self.started: list[int] = []
        self.slept: list[float] = []

    def clock(self) -> int:
        self.now += 1000
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += round(seconds * 1e9)

    def call(self) -> None:
        self.started.append(self.now)
        self.now += round(next(self.seconds) * 1e9)

    def paced(self, rate: float) -> PacedTimer:
        return PacedTimer(self.call, rate, self.clock, self.sleep)


def test_calls_start_by_the_clock_whatever_they_take() -> None:
    machine = Machine(*[0.004] * 20)
    block = machine.paced(100)(1)
    np.testing.assert_allclose(block.samples, 0.004, atol=1e-5)
    np.testing.assert_allclose(np.diff(machine.started) * 1e-9, 0.01, atol=1e-5)
    assert block.figure == pytest.approx(0.004, abs=1e-5)
    assert block.pace == 0.01  # however quick the calls are
    assert machine.slept[0] == pytest.approx(0.005, abs=1e-4)  # and spins for the rest


def test_the_wait_for_a_slow_call_counts() -> None:
    """One call of 35 ms makes three more late that take 4 ms each and are due every 10."""
    machine = Machine(*[0.004] * 3, 0.035, *[0.004] * 16)
    samples = machine.paced(100)(20).samples
    late = [0.035, 0.029, 0.023, 0.017, 0.011, 0.005]
    np.testing.assert_allclose(samples[3:9], late, atol=1e-4)
    np.testing.assert_allclose(np.delete(samples, range(3, 9)), 0.004, atol=1e-4)


def test_a_queue_that_grows_is_seen() -> None:
    block = Machine(*[0.015] * 20).paced(100)(20)
    np.testing.assert_allclose(np.diff(block.samples), 0.005, atol=1e-4)
    assert block.pace == pytest.approx(0.015, abs=1e-4)  # the rate is not what decides how long


def test_paced_calls_that_lead_into_a_block_are_not_timed() -> None:
    machine = Machine(0.5, *[0.004] * 20)
    assert machine.paced(100)(20, lead=1).samples.max() < 0.005


class Streams:
    """Calls of equal length that note how many of them run at the same time."""

    def __init__(self, count: int, seconds: float = 0.002) -> None:
        self._lock, self._seconds = threading.Lock(), seconds
        self.running = 0
        self.beside: list[int] = []
        self.calls: list[Callable[[], None]] = [self._call for _ in range(count)]

    def _call(self) -> None:
        with self._lock:
            self.running += 1
            self.beside.append(self.running)
        time.sleep(self._seconds)
        with self._lock:
            self.running -= 1


def test_streams_run_side_by_side() -> None:
    streams = Streams(3)
    block = StreamsTimer(streams.calls)(30)
    assert block.samples.shape == (30,)
    assert max(streams.beside) == 3
    assert streams.running == 0
    # Of each stream, how many calls it ends per second of its own; the rates add up.
    rate = sum(10 / one.sum() for one in block.samples.reshape(3, 10))
    assert block.figure == block.pace == pytest.approx(1 / rate)


def test_calls_are_shared_out_upwards_and_each_stream_has_some() -> None:
    assert StreamsTimer(Streams(3).calls)(16).samples.shape == (18,)
    assert StreamsTimer(Streams(2).calls)(1).samples.shape == (8,)


def test_a_stream_that_fails_ends_the_others() -> None:
    streams = Streams(2)

    def fail() -> None:
        raise ArithmeticError("a bad call")

    with pytest.raises(ArithmeticError, match="a bad call"):
        StreamsTimer([*streams.calls, fail])(100)
    assert streams.running == 0


def test_calls_that_start_together_share_their_time() -> None:
    machine = Machine(0.9, *[0.004, 0.006] * 2)
    block = TogetherTimer(machine.call, 4, machine.clock)(16, lead=1)
    np.testing.assert_allclose(block.samples, [0.004, 0.006] * 2, atol=1e-5)
    assert block.figure == pytest.approx(0.005 / 4, abs=1e-5)


def test_the_mode_decides_the_timer() -> None:
    calls = Streams(2).calls
    assert isinstance(timer_of(calls[:1], Load()), CallTimer)
    assert isinstance(timer_of(calls, Load(mode="throughput", streams=2)), StreamsTimer)
    assert isinstance(timer_of(calls[:1], Load(mode="throughput", streams=2)), TogetherTimer)
    assert isinstance(timer_of(calls[:1], Load(mode="paced", rate=30)), PacedTimer)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(graphs.residual(), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_throughput_of_several_streams(model: Path) -> None:
    options = Options(settings=TINY, mode="throughput", streams=(1, 3))
    one, three = benchmark(model, precisions=["fp32"], options=options).rows
    assert [(row.mode, row.streams) for row in (one, three)] == [
        ("throughput", 1),
        ("throughput", 3),
    ]
    for row in (one, three):
        assert row.throughput_per_s is not None
        assert row.throughput_per_s > 0
        assert row.missed_share is None
    assert three.latency_ms is not None
    assert three.ratio is not None


def test_paced_rows_tell_how_often_they_were_late(model: Path) -> None:
    options = Options(settings=TINY, mode="paced", rate=1000)
    (row,) = benchmark(model, precisions=["fp32"], options=options).rows
    assert (row.mode, row.rate, row.throughput_per_s) == ("paced", 1000, None)
    assert row.latency_ms is not None
    assert row.latency_ms.p90 is not None  # of 240 calls, which is not enough for p99
    assert row.latency_ms.p99 is None
    assert any(note.startswith("p99 needs 662 calls, ") for note in row.notes)
    assert row.missed_share is not None
    assert 0 <= row.missed_share <= 1


def test_an_engine_has_one_call_for_all_its_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = trt_runtime.install(monkeypatch, tmp_path)
    runner = gpu.open(graphs.residual())
    feeds = {"x": np.zeros(graphs.IMAGE, np.float32)}
    (call,) = bind(runner, feeds, Load(mode="throughput", streams=3))
    gpu.runs.clear()
    call()
    assert len({stream for _, stream in gpu.runs}) == 3
    runner.close()
