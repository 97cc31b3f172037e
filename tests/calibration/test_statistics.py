import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from qbench.calibration.kernels import BINS, COUNTED_VALUES, stride_of
from qbench.calibration.statistics import (
    SMALLEST_EXPONENT,
    NonFiniteError,
    TensorStatistics,
    widened,
)

Image = NDArray[np.float32]

anything = st.floats(-(2.0**100), 2.0**100, width=32)
usual = st.floats(-100, 100, width=32)
shapes = st.tuples(st.just(3), st.integers(0, 10))
images = st.lists(arrays(np.float32, shapes, elements=usual | anything), min_size=1, max_size=6)


def statistics_of(*arrays: Image, channel_axis: int | None = None) -> TensorStatistics:
    statistics = TensorStatistics()
    for array in arrays:
        statistics.add(array, channel_axis)
    return statistics


def identity(statistics: TensorStatistics) -> tuple[object, ...]:
    """Everything that is known, to the bit."""
    scalars = (statistics.count, statistics.low, statistics.high, statistics.exponent)
    known = statistics.channels
    channels = known and tuple(
        array.tobytes() for array in (known.lows, known.highs, known.totals, known.squares)
    )
    return *scalars, statistics.total, statistics.squares, statistics.counts.tobytes(), channels


@given(images, st.randoms(use_true_random=False), st.integers(1, 4))
@example([np.float32([[0]]), np.float32([[2.0**-20]])], None, 2)
@example([np.float32([[1e30]]), np.float32([[-1e-30]])], None, 2)
def test_shards_merge_to_the_same_bits_in_any_split_and_order(
    images: list[Image], random: object, shards: int
) -> None:
    shuffled = list(images)
    if random is not None:
        random.shuffle(shuffled)
    merged = TensorStatistics()
    for shard in range(shards):
        merged.merge(statistics_of(*shuffled[shard::shards], channel_axis=0))
    assert identity(merged) == identity(statistics_of(*images, channel_axis=0))


@given(arrays(np.float32, st.integers(1, 50), elements=usual))
def test_scalars_are_those_of_numpy(image: Image) -> None:
    statistics = statistics_of(image)
    wide = image.astype(np.float64)
    assert (statistics.low, statistics.high) == (image.min(), image.max())
    assert statistics.count == image.size
    assert statistics.mean == pytest.approx(wide.mean(), abs=1e-12)
    assert statistics.second_moment == pytest.approx(np.square(wide).mean(), abs=1e-10)


@given(arrays(np.float32, st.integers(1, 50), elements=usual))
def test_the_histogram_is_that_of_numpy(image: Image) -> None:
    statistics = statistics_of(image)
    edges = (np.arange(BINS + 1) - BINS // 2) * statistics.bin_width
    assert np.array_equal(statistics.counts, np.histogram(image, edges)[0])


@given(arrays(np.float32, st.integers(1, 50), elements=usual))
def test_the_histogram_is_as_narrow_as_can_be(image: Image) -> None:
    statistics = statistics_of(image)
    limit = np.abs(image).max()
    assert limit < 2.0**statistics.exponent
    assert limit >= 2.0 ** (statistics.exponent - 1) or statistics.exponent == SMALLEST_EXPONENT


blocked_shapes = st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 14))


@given(
    arrays(np.float32, blocked_shapes, elements=usual),
    st.sampled_from([2, 8]),
    st.sampled_from([None, 1]),
    st.sampled_from([5, COUNTED_VALUES]),
)
def test_blocks_count_like_channels_one_after_the_other(
    image: Image, lanes: int, axis: int | None, counted: int
) -> None:
    """All but the last bits of sums are the same."""
    samples, channels, inner = image.shape
    padded = np.pad(image, ((0, 0), (0, -channels % lanes), (0, 0)))
    blocks = padded.reshape(samples, -1, lanes, inner).transpose(0, 1, 3, 2)
    found, wanted = TensorStatistics(), TensorStatistics()
    found.add_blocks(np.ascontiguousarray(blocks), channels, counted, by_channel=axis is not None)
    wanted.add(image, axis, counted)
    assert identity(found)[:4] == identity(wanted)[:4]
    assert np.array_equal(found.counts, wanted.counts)
    assert found.mean == pytest.approx(wanted.mean, abs=1e-12)
    assert found.second_moment == pytest.approx(wanted.second_moment, abs=1e-10)
    assert np.array_equal(found.channel_lows, wanted.channel_lows)
    assert np.array_equal(found.channel_highs, wanted.channel_highs)
    if axis is not None:
        np.testing.assert_allclose(found.channel_means, wanted.channel_means, atol=1e-12)
        np.testing.assert_allclose(
            found.channel_second_moments, wanted.channel_second_moments, atol=1e-10
        )


@given(arrays(np.int64, BINS, elements=st.integers(0, 1000)), st.integers(0, 3))
def test_widening_adds_bins_in_pairs(counts: NDArray[np.int64], doublings: int) -> None:
    wide = widened(counts, doublings)
    assert wide.sum() == counts.sum()
    kept = BINS >> doublings
    middle = wide[(BINS - kept) // 2 : (BINS + kept) // 2]
    assert np.array_equal(middle, counts.reshape(kept, -1).sum(axis=1))


def test_zeros() -> None:
    statistics = statistics_of(np.zeros((2, 3), np.float32))
    assert (statistics.low, statistics.high, statistics.mean) == (0, 0, 0)
    assert statistics.counts[BINS // 2] == statistics.count == 6


def test_zeros_do_not_widen_what_is_narrow() -> None:
    small = np.float32([1e-6])
    assert statistics_of(np.zeros(3, np.float32), small).exponent == statistics_of(small).exponent


@pytest.mark.parametrize("value", [-3.5, 1e-12, 0.125])
def test_a_constant(value: float) -> None:
    statistics = statistics_of(np.full(7, value, np.float32))
    assert statistics.low == statistics.high == np.float32(value)
    assert statistics.mean == pytest.approx(value, rel=1e-6)
    assert statistics.counts.max() == 7


def test_an_empty_array_counts_nothing() -> None:
    assert identity(statistics_of(np.zeros((0, 4), np.float32))) == identity(TensorStatistics())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    statistics = statistics_of(np.float32([1, 2]))
    before = identity(statistics)
    with pytest.raises(NonFiniteError, match=r"^$"):
        statistics.add(np.float32([1, value, 3]))
    assert identity(statistics) == before


def test_infinities_that_cancel_are_refused() -> None:
    with pytest.raises(NonFiniteError, match=r"^$"):
        statistics_of(np.float32([np.inf, -np.inf]))


def test_the_largest_floats_fit() -> None:
    limit = float(np.finfo(np.float32).max)
    statistics = statistics_of(np.float32([limit, -limit]))
    assert statistics.exponent == 128
    assert math.isfinite(statistics.second_moment)


@given(
    arrays(np.float32, (3, 2, 4, 5), elements=usual), st.sampled_from([1, -1]), st.integers(1, 3)
)
def test_channels_are_those_of_numpy(images: Image, axis: int, shards: int) -> None:
    merged = TensorStatistics()
    for shard in range(shards):
        merged.merge(statistics_of(*images[shard::shards, None], channel_axis=axis))
    rows = np.moveaxis(images, axis, 0).reshape(images.shape[axis], -1)
    wide = rows.astype(np.float64)
    assert np.array_equal(merged.channel_lows, rows.min(axis=1))
    assert np.array_equal(merged.channel_highs, rows.max(axis=1))
    assert merged.channel_means == pytest.approx(wide.mean(axis=1), abs=1e-12)
    assert merged.channel_second_moments == pytest.approx(np.square(wide).mean(axis=1), abs=1e-10)


def test_without_a_channel_axis_nothing_is_known_of_channels() -> None:
    seen = statistics_of(np.ones((1, 2), np.float32))
    assert seen.channel_lows is seen.channel_highs is None
    assert seen.channel_means is seen.channel_second_moments is None


def test_large_tensors_are_counted_at_evenly_spaced_places() -> None:
    values = np.random.default_rng(0).normal(size=40 * COUNTED_VALUES).astype(np.float32)
    statistics = TensorStatistics()
    statistics.add(values)
    assert statistics.count == values.size
    assert statistics.low == values.min()
    stride = stride_of(values.size, COUNTED_VALUES)
    assert stride == 41
    counted = TensorStatistics()
    for value in np.array_split(values[::stride], 4):
        counted.add(value)
    assert statistics.counts.sum() == counted.counts.sum()
    shift = statistics.exponent - counted.exponent
    assert np.array_equal(widened(counted.counts, shift), statistics.counts)
