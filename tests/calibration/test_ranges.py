import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from qbench.calibration.ranges import (
    METHODS,
    SATURATING,
    clipping_range,
    minmax,
    mse_behind,
)
from qbench.calibration.statistics import TensorStatistics
from qbench.errors import UsageError
from qbench.quantization.numerics import asymmetric, dequantize, quantize, symmetric

Values = NDArray[np.float32]

values = arrays(np.float32, st.integers(1, 200), elements=st.floats(-50, 50, width=32))
methods = st.sampled_from(sorted(METHODS))

DISTRIBUTIONS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "relu": lambda rng, n: np.maximum(rng.normal(size=n), 0),
    "silu": lambda rng, n: (x := rng.normal(0, 3, n)) / (1 + np.exp(-x)),
    "outliers": lambda rng, n: rng.normal(size=n) * np.where(rng.random(n) < 1e-3, 20, 1),
    "heavy tails": lambda rng, n: rng.standard_t(3, n),
    "uniform": lambda rng, n: rng.uniform(-1, 3, n),
}
every_distribution = pytest.mark.parametrize("name", DISTRIBUTIONS)
both_kinds = pytest.mark.parametrize("is_symmetric", [False, True])


def draw(name: str, count: int = 30_000) -> Values:
    result: Values = DISTRIBUTIONS[name](np.random.default_rng(0), count).astype(np.float32)
    return result


def statistics_of(array: Values) -> TensorStatistics:
    statistics = TensorStatistics()
    statistics.add(array)
    return statistics


def error(array: Values, low: float, high: float, is_symmetric: bool) -> float:
    """Mean squared error of the values after 8-bit rounding."""
    parameters = symmetric(low, high) if is_symmetric else asymmetric(low, high)
    rounded = dequantize(quantize(array, parameters), parameters)
    return float(np.mean(np.square(rounded.astype(np.float64) - array)))


@given(values, methods, st.booleans())
def test_ranges_hold_zero_and_lie_within_the_extremes(
    array: Values, method: str, is_symmetric: bool
) -> None:
    low, high = clipping_range(statistics_of(array), method, symmetric=is_symmetric)
    limit = float(np.abs(array).max())
    lowest, highest = (-limit, limit) if is_symmetric else (array.min(), array.max())
    assert min(lowest, 0) <= low <= 0 <= high <= max(highest, 0)
    if is_symmetric:
        assert low == -high


@given(values, methods, st.booleans())
def test_ranges_are_not_empty_unless_all_is_zero(
    array: Values, method: str, is_symmetric: bool
) -> None:
    low, high = clipping_range(statistics_of(array), method, symmetric=is_symmetric)
    assert (low < high) == bool(array.any())


@every_distribution
@both_kinds
def test_mse_is_no_worse_than_minmax(name: str, is_symmetric: bool) -> None:
    array = draw(name)
    statistics = statistics_of(array)
    best, widest = (
        error(array, *clipping_range(statistics, method, symmetric=is_symmetric), is_symmetric)
        for method in ("mse", "minmax")
    )
    assert best <= 1.001 * widest


@every_distribution
def test_mse_is_the_best_share_of_the_extremes(name: str) -> None:
    array = draw(name)
    limit = float(np.abs(array).max())
    shares = np.linspace(0.1, 1, 40)
    best = min(error(array, -limit * share, limit * share, True) for share in shares)
    assert error(array, *clipping_range(statistics_of(array), "mse", symmetric=True), True) <= (
        1.02 * best
    )


def test_mse_clips_an_outlier() -> None:
    array = np.append(draw("normal", 1_000_000), np.float32(40))
    low, high = clipping_range(statistics_of(array), "mse", symmetric=False)
    assert high < 30
    assert error(array, low, high, False) < 0.7 * error(array, float(array.min()), 40, False)


@given(values)
def test_minmax_is_exact(array: Values) -> None:
    low, high = clipping_range(statistics_of(array), "minmax", symmetric=False)
    assert (low, high) == (min(array.min(), 0), max(array.max(), 0))


@every_distribution
def test_percentile_is_the_quantile_within_a_bin(name: str) -> None:
    array = draw(name)
    statistics = statistics_of(array)
    low, high = clipping_range(statistics, "percentile", symmetric=False)
    wanted = np.quantile(array, [0.00005, 0.99995], method="inverted_cdf")
    assert low == pytest.approx(min(wanted[0], 0), abs=statistics.bin_width)
    assert high == pytest.approx(wanted[1], abs=statistics.bin_width)


@every_distribution
def test_symmetric_percentile_is_the_quantile_of_magnitudes(name: str) -> None:
    array = draw(name)
    statistics = statistics_of(array)
    _, high = clipping_range(statistics, "percentile", symmetric=True)
    wanted = np.quantile(np.abs(array), 0.9999, method="inverted_cdf")
    assert high == pytest.approx(wanted, abs=statistics.bin_width)


@both_kinds
def test_entropy_clips_outliers(is_symmetric: bool) -> None:
    array = draw("outliers")
    low, high = clipping_range(statistics_of(array), "entropy", symmetric=is_symmetric)
    assert 2 < high < 0.5 * np.abs(array).max()
    assert -0.5 * np.abs(array).max() < low < -2


def test_entropy_keeps_a_uniform_range() -> None:
    array = draw("uniform")
    _, high = clipping_range(statistics_of(array), "entropy", symmetric=False)
    assert high == pytest.approx(3, rel=0.05)


def test_entropy_does_not_see_zeros() -> None:
    """Behind a ReLU most values are zero; that must not change the range of the others."""
    array = draw("relu")[:1000]  # with the zeros still few enough for all to be counted
    sparse = np.concatenate([array, np.zeros(10 * array.size, np.float32)])
    dense, sparse_range = (
        clipping_range(statistics_of(a), "entropy", symmetric=True) for a in (array, sparse)
    )
    assert dense == sparse_range


@pytest.mark.parametrize("method", METHODS)
@both_kinds
def test_zeros_give_an_empty_range(method: str, is_symmetric: bool) -> None:
    statistics = statistics_of(np.zeros(10, np.float32))
    assert clipping_range(statistics, method, symmetric=is_symmetric) == (0, 0)


def test_an_unknown_method() -> None:
    with pytest.raises(UsageError, match="unknown range method 'kl'; choose one of minmax, perc"):
        clipping_range(TensorStatistics(), "kl", symmetric=True)


def test_behind_a_silu_the_lower_end_gives_way() -> None:
    """SiLU(x) is almost 0 below -10, so a range to -40 would waste most steps."""
    values = np.concatenate([np.linspace(-40, 0, 5000), np.linspace(0, 10, 5000)])
    statistics = TensorStatistics()
    statistics.add(values.astype(np.float32))
    low, high = mse_behind(statistics, "silu")
    assert -20 < low < -5
    assert 8 < high <= 10


@pytest.mark.parametrize("function", sorted(SATURATING))
def test_the_range_behind_a_function_is_no_worse_than_the_extremes(function: str) -> None:
    values = np.random.default_rng(0).normal(-3, 6, 20_000).astype(np.float32)
    statistics = TensorStatistics()
    statistics.add(values)
    apply = SATURATING[function]

    def error(low: float, high: float) -> float:
        step = (high - low) / 255
        rounded = np.clip(np.rint(values / step), np.rint(low / step), np.rint(high / step)) * step
        return float(np.square(apply(rounded) - apply(values)).mean())

    assert error(*mse_behind(statistics, function)) < error(*minmax(statistics, False))


@pytest.mark.parametrize("function", sorted(SATURATING))
def test_behind_a_function_zeros_have_no_range(function: str) -> None:
    statistics = TensorStatistics()
    statistics.add(np.zeros(10, np.float32))
    assert mse_behind(statistics, function) == (0, 0)
