import time

import numpy as np
import pytest

from qbench.benchmarking.timing.clock import CallTimer, calls_per_block, calls_to_fill, time_block


class Machine:
    """A clock that moves only while the call runs."""

    def __init__(self, *durations: float) -> None:
        self.now = 0
        self.runs = 0
        self._durations = durations

    def clock(self) -> int:
        return self.now

    @property
    def timer(self) -> CallTimer:
        return CallTimer(self.call, self.clock)

    def call(self) -> None:
        self.now += round(self._durations[min(self.runs, len(self._durations) - 1)] * 1e9)
        self.runs += 1


def test_time_block_keeps_every_call_in_order() -> None:
    machine = Machine(0.003, 0.5, 0.001)
    np.testing.assert_allclose(time_block(machine.call, 3, machine.clock), [0.003, 0.5, 0.001])
    assert machine.runs == 3


def test_time_block_measures_by_the_real_clock() -> None:
    started = time.perf_counter()
    samples = time_block(lambda: sum(range(1000)), 50)
    assert samples.shape == (50,)
    assert (samples >= 0).all()
    assert 0 < samples.sum() <= time.perf_counter() - started


@pytest.mark.parametrize("duration", [2e-6, 3e-4, 0.0031, 0.02, 1.5])
def test_a_block_lasts_at_least_its_seconds_and_no_call_longer(duration: float) -> None:
    machine = Machine(duration)
    calls = calls_per_block(machine.timer, 0.02)
    assert 0.02 <= calls * duration < 0.02 + duration * (1 + 1e-6)


def test_a_slow_first_call_does_not_shorten_the_block() -> None:
    machine = Machine(0.015, 0.001)
    assert calls_per_block(machine.timer, 0.02) == 20


def test_slow_calls_run_once() -> None:
    machine = Machine(3.0)
    assert calls_per_block(machine.timer, 0.02) == 1
    assert machine.runs == 1


def test_a_clock_too_coarse_to_see_the_call_ends() -> None:
    machine = Machine(0.0)
    assert calls_per_block(machine.timer, 0.001) == 10_000


def test_calls_to_fill_goes_by_the_quickest_call() -> None:
    block = Machine(0.004, 0.002, 0.9).timer(3)
    assert block.figure == pytest.approx(0.004)
    assert calls_to_fill(block, 0.02) == 10


def test_calls_that_lead_into_a_block_are_not_timed() -> None:
    machine = Machine(0.9, 0.9, 0.001)
    np.testing.assert_allclose(machine.timer(2, lead=2).samples, 0.001)
    assert machine.runs == 4
