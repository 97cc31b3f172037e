import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from qbench.benchmarking.stats import (
    FEWEST_ROUNDS,
    Interval,
    aa_error,
    half_width,
    is_breach,
    paired_difference,
    proportion_interval,
    ratio_interval,
    resampled_interval,
    sittings_interval,
    verdict,
)
from qbench.errors import DataError, InconclusiveError

Noise = Callable[[np.random.Generator, int], NDArray[np.float64]]

NOISES: dict[str, Noise] = {
    "normal": lambda rng, n: rng.normal(0, 0.02, n),
    "heavy tails": lambda rng, n: 0.02 * rng.standard_t(2, n),
    "skewed": lambda rng, n: 0.02 * (np.exp(rng.normal(0, 1, n)) - 1),
    "outliers": lambda rng, n: rng.normal(0, np.where(rng.random(n) < 0.1, 0.5, 0.02)),
}

log_ratios = arrays(np.float64, st.integers(FEWEST_ROUNDS, 60), elements=st.floats(-2, 2))


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
@pytest.mark.parametrize("rounds", [15, 40])
def test_ratio_interval_covers_the_true_ratio(noise: Noise, rounds: int) -> None:
    rng = np.random.default_rng(rounds)
    trials = 300
    intervals = [ratio_interval(math.log(1.5) + noise(rng, rounds), t) for t in range(trials)]
    covered = sum(one.low <= 1.5 <= one.high for one in intervals) / trials
    # The standard error of a share of .94 over 300 trials is .014.
    assert 0.90 <= covered <= 0.985


@pytest.mark.parametrize("rounds", [6, 15, 16, 41])
def test_ratio_interval_equals_plain_resampling(rounds: int) -> None:
    rng = np.random.default_rng(rounds)
    logs = rng.normal(0, 0.05, rounds)
    medians = np.median(logs[rng.integers(rounds, size=(100_000, rounds))], axis=1)
    low, high = np.exp(np.quantile(medians, (0.025, 0.975)))
    interval = ratio_interval(logs, seed=1)
    # A quantile may fall on either side of a step of the discrete distribution.
    steps = np.diff(np.sort(logs)).max()
    assert interval.low == pytest.approx(low, abs=steps / 4)
    assert interval.high == pytest.approx(high, abs=steps / 4)
    assert interval.value == pytest.approx(np.exp(np.median(logs)))


@given(log_ratios)
def test_ratio_interval_holds_its_value_and_stays_within_the_data(
    logs: NDArray[np.float64],
) -> None:
    interval = ratio_interval(logs, seed=0)
    slack = 1e-12
    assert interval.low <= interval.value * (1 + slack)
    assert interval.value <= interval.high * (1 + slack)
    assert math.exp(logs.min()) * (1 - slack) <= interval.low
    assert interval.high <= math.exp(logs.max()) * (1 + slack)


@given(log_ratios, st.floats(-1, 1))
def test_ratio_interval_scales_with_the_ratio(logs: NDArray[np.float64], shift: float) -> None:
    plain, shifted = ratio_interval(logs, seed=0), ratio_interval(logs + shift, seed=0)
    for name in ("value", "low", "high"):
        wanted = getattr(plain, name) * math.exp(shift)
        assert getattr(shifted, name) == pytest.approx(wanted, rel=1e-9)


def sittings_of(count: int, rounds: int) -> NDArray[np.int64]:
    return np.repeat(np.arange(count), rounds)


def test_sittings_interval_is_student_s_over_their_medians() -> None:
    logs = np.array([0.01, 0.02, 9.0, 0.03, 0.04, 0.03, -9.0, 0.05, 0.06])  # medians 2, 3, 5 %
    interval = sittings_interval(logs, sittings_of(3, 3))
    half = 4.303 * np.std([0.02, 0.03, 0.05], ddof=1) / math.sqrt(3)
    assert math.log(interval.value) == pytest.approx(1 / 30)
    assert math.log(interval.high / interval.value) == pytest.approx(half, rel=0.01)
    assert math.log(interval.value / interval.low) == pytest.approx(half, rel=0.01)


@pytest.mark.parametrize(("freedom", "quantile"), [(3, 3.182), (4, 2.776), (9, 2.262), (99, 1.984)])
def test_sittings_are_few_or_many(freedom: int, quantile: float) -> None:
    logs = np.random.default_rng(0).normal(0, 0.01, freedom + 1)
    interval = sittings_interval(logs, sittings_of(freedom + 1, 1))
    error = np.std(logs, ddof=1) / math.sqrt(freedom + 1)
    assert half_width(interval) == pytest.approx(quantile * error, rel=0.002)


@pytest.mark.parametrize("sittings", [3, 5, 10])
@pytest.mark.parametrize("between", [0.0, 0.007, 0.03])
def test_sittings_interval_covers_what_lies_between_and_within(
    sittings: int, between: float
) -> None:
    rng = np.random.default_rng(0)
    trials, covered = 2000, 0
    for _ in range(trials):
        loads = np.repeat(rng.normal(0, between, sittings), 5)
        interval = sittings_interval(
            loads + rng.normal(0, 0.02, 5 * sittings), sittings_of(sittings, 5)
        )
        covered += interval.low <= 1 <= interval.high
    assert 0.935 <= covered / trials <= 0.965


def test_ratio_interval_is_seeded() -> None:
    logs = np.random.default_rng(0).normal(0, 0.1, 20)
    assert ratio_interval(logs, 3) == ratio_interval(logs, 3)


def test_too_few_rounds_settle_nothing() -> None:
    with pytest.raises(InconclusiveError, match="5 rounds settle no ratio; measure at least 6"):
        ratio_interval(np.zeros(5), seed=0)


def test_half_width_is_relative() -> None:
    assert half_width(Interval(2.0, 2.0 / 1.01, 2.0 * 1.01)) == pytest.approx(math.log(1.01))


@pytest.mark.parametrize(
    ("low", "high", "noise", "expected"),
    [
        (1.02, 1.05, 0.0, "faster"),
        (0.95, 0.98, 0.0, "slower"),
        (0.995, 1.005, 0.0, "same"),
        (1.001, 1.009, 0.0, "same"),
        (1.005, 1.02, 0.0, "inconclusive"),
        (0.90, 1.20, 0.0, "inconclusive"),
        (1.02, 1.05, 0.02, "inconclusive"),
        (1.001, 1.03, 0.02, "same"),
        (1.05, 1.06, 0.02, "faster"),
        (1.02, 1.05, 0.005, "faster"),
        (0.80, 0.82, 0.1, "slower"),
    ],
)
def test_verdict(low: float, high: float, noise: float, expected: str) -> None:
    assert verdict(Interval((low + high) / 2, low, high), noise) == expected


@given(st.floats(0.5, 2), st.floats(1, 1.2), st.floats(1, 1.2), st.floats(0, 0.1))
def test_verdict_turns_round_with_the_ratio(
    value: float, below: float, above: float, noise: float
) -> None:
    margin = 1 + max(0.01, 2 * noise)
    low, high = value / below, value * above
    # Rounding decides at the margin itself.
    if any(abs(math.log(end)) == pytest.approx(math.log(margin)) for end in (low, high)):
        return
    turned = {"faster": "slower", "slower": "faster"}
    found = verdict(Interval(value, low, high), noise)
    assert verdict(Interval(1 / value, 1 / high, 1 / low), noise) == turned.get(found, found)


def test_aa_error_is_the_same_in_both_directions() -> None:
    assert aa_error(Interval(1.02, 1.0, 1.04)) == pytest.approx(0.02)
    assert aa_error(Interval(1 / 1.02, 0.9, 1.0)) == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("low", "high", "breach"),
    [(1.011, 1.02, True), (0.9, 0.985, True), (1.002, 1.2, False), (0.9, 1.2, False)],
)
def test_breach_needs_the_whole_interval_beyond_one_percent(
    low: float, high: float, breach: bool
) -> None:
    assert is_breach(Interval(1.0, low, high)) is breach


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (8, 10, 0.4902, 0.9433),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),  # these two: Newcombe 1998, table I
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval(correct: int, n: int, low: float, high: float) -> None:
    found = proportion_interval(correct, n)
    assert found.value == correct / n
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_is_a_share_and_holds_its_value(counts: tuple[int, int]) -> None:
    found = proportion_interval(*counts)
    assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (3, 2), (-1, 5)])
def test_no_proportion(correct: int, n: int) -> None:
    with pytest.raises(DataError, match="is no proportion"):
        proportion_interval(correct, n)


def test_paired_difference_is_a_minus_b() -> None:
    a = np.array([True] * 90 + [False] * 10)
    b = np.array([True] * 70 + [False] * 30)
    found = paired_difference(a, b, seed=0)
    assert found.value == pytest.approx(0.2)
    assert 0.1 < found.low < 0.2 < found.high < 0.3
    assert paired_difference(b, a, seed=0).value == pytest.approx(-0.2)


def test_paired_difference_sees_pairs_not_shares() -> None:
    rng = np.random.default_rng(0)
    a = rng.random(400) < 0.85
    b = a.copy()
    b[:4] ^= True
    shuffled = rng.permutation(b)
    paired, unpaired = paired_difference(a, b, 0), paired_difference(a, shuffled, 0)
    assert paired.high - paired.low < 0.4 * (unpaired.high - unpaired.low)


def test_paired_difference_covers_the_true_difference() -> None:
    rng = np.random.default_rng(5)
    trials, covered = 300, 0
    for trial in range(trials):
        a = rng.random(200) < 0.9
        b = a & (rng.random(200) < 0.95)
        found = paired_difference(a, b, trial)
        covered += found.low <= 0.9 * 0.05 <= found.high
    assert 0.90 <= covered / trials <= 0.985


@pytest.mark.parametrize("sizes", [(3, 4), (0, 0)])
def test_outcomes_that_cannot_be_paired(sizes: tuple[int, int]) -> None:
    a, b = (np.ones(size, np.bool_) for size in sizes)
    with pytest.raises(DataError, match="cannot be paired; evaluate both models"):
        paired_difference(a, b, seed=0)


def test_resampled_interval_leaves_out_sets_without_a_figure() -> None:
    resampled = np.append(np.linspace(0, 1, 1001), [np.nan] * 10)
    found = resampled_interval(0.4, resampled)
    assert found.value == 0.4
    assert (found.low, found.high) == pytest.approx((0.025, 0.975))
