"""Intervals of changes: right on planted differences, silent on none."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from qbench.benchmarking.stats import Interval
from qbench.runs.comparing.intervals import (
    BETWEEN_SESSIONS,
    difference_of,
    quotient_of,
    speedup,
)

ROUNDS, CALLS = 30, 20


def session(seed: int, seconds: float = 0.002, noise: float = 0.02) -> NDArray[np.float64]:
    """Seconds of calls in rounds; what a round adds, its calls have in common."""
    rng = np.random.default_rng(seed)
    rounds = rng.normal(0, noise, (ROUNDS, 1))
    return np.asarray(seconds * np.exp(rounds + rng.normal(0, 0.01, (ROUNDS, CALLS)))).ravel()


def test_differences_of_equal_spread_grow_by_the_square_root_of_two() -> None:
    found = difference_of(Interval(0.8, 0.7, 0.9), Interval(0.5, 0.4, 0.6))
    assert found.value == pytest.approx(0.3)
    assert (found.low, found.high) == pytest.approx((0.3 - 0.1414, 0.3 + 0.1414), abs=1e-4)


def test_differences_of_lopsided_intervals() -> None:
    """Each end is made of the ends that decide it."""
    found = difference_of(Interval(0.8, 0.5, 0.84), Interval(0.5, 0.47, 0.9))
    assert found.low == pytest.approx(0.3 - 0.5)
    assert found.high == pytest.approx(0.3 + 0.05)


def test_a_quotient_is_a_difference_of_logarithms() -> None:
    found = quotient_of(Interval(2.0, 1.0, 4.0), Interval(1.0, 1.0, 1.0))
    assert (found.value, found.low, found.high) == pytest.approx((2.0, 1.0, 4.0))


def test_a_planted_slowdown_is_found() -> None:
    found = speedup(session(0), session(1, 0.0022))
    assert found is not None
    assert found.low < 1 / 1.1 < found.high < 0.97


def test_rounds_that_differ_widen_the_interval() -> None:
    calm, wild = (speedup(session(0), session(1, noise=noise)) for noise in (0.02, 0.3))
    assert calm is not None
    assert wild is not None
    assert math.log(wild.high / wild.low) > 3 * math.log(calm.high / calm.low)


def test_equal_sessions_differ_as_rarely_as_they_may() -> None:
    found = [speedup(session(i), session(1000 + i)) for i in range(100)]
    apart = [ratio for ratio in found if ratio and not ratio.low <= 1 <= ratio.high]
    assert len(apart) <= 5


def test_between_sessions_no_interval_is_narrow() -> None:
    calls = np.full(100, 0.002)
    found = speedup(calls, calls)
    assert found is not None
    assert math.log(found.high) == pytest.approx(BETWEEN_SESSIONS)
    assert math.log(found.low) == pytest.approx(-BETWEEN_SESSIONS)


def test_too_few_calls_tell_nothing() -> None:
    assert speedup(np.ones(5), np.ones(100)) is None
    assert speedup(np.ones(100), np.ones(5)) is None
