"""Compiled loops over activation values. They release the interpreter lock.

Sums and extremes are taken of all values, by loops that the compiler runs in vector lanes.
Counting is scalar work, so large tensors are counted at evenly spaced places; which ones depends on
the shape alone.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

BINS = 1 << 13
"""Bins of every histogram."""

COUNTED_VALUES = 1 << 14
"""How many values of one image's tensor a histogram counts, about, where nothing else is said."""

_COUNTED_OF_ALL = 1 << 20
_FEWEST_COUNTED = 1 << 12

_ZERO_BIN = BINS // 2

_LOWEST_KEY, _HIGHEST_KEY = np.int32(-0x80000000), np.int32(0x7FFFFFFF)


class Moments(NamedTuple):
    """What is taken of all values of an array, by channel.

    Attributes:
        lows: Least values, float32 [channels].
        highs: Greatest values, float32 [channels].
        totals: Sums of the values, float64 [channels].
        squares: Sums of their squares, float64 [channels].
        low: Least of all values.
        high: Greatest of all values.
        total: Sum of all values.
        square: Sum of all squares. It is not finite if and only if a value is NaN or Inf, since the
            squares of finite float32 values cannot overflow; the rest is then void.
        sampled: Values at even distances, float32 [n].
        size: Number of values.
    """

    lows: NDArray[Any]
    highs: NDArray[Any]
    totals: NDArray[Any]
    squares: NDArray[Any]
    low: float
    high: float
    total: float
    square: float
    sampled: NDArray[Any]
    size: int


def moments(values: NDArray[Any], stride: int) -> Moments:
    """Return the moments of float32 `values` [outer, channels, inner], contiguous, not empty.

    Every `stride`-th value is sampled.
    """
    channels = values.shape[1]
    keys, sums = np.empty((2, channels), np.int32), np.zeros((2, channels))
    sampled = np.empty(-(-values.size // stride), np.float32)
    bits, (lows, highs) = values.view(np.int32), keys.view(np.float32)
    low, high, total, square = _moments(values, bits, keys, sums, sampled, stride)
    return Moments(lows, highs, sums[0], sums[1], low, high, total, square, sampled, values.size)


def counted_values(images: int) -> int:
    """Return how many values of one image's tensor a histogram counts, in a pass over `images`.

    Together they are about 2**20, with which ranges hardly depend on the choice; at least 2**12
    each, so that every image has a say.
    """
    return max(_COUNTED_OF_ALL // images, _FEWEST_COUNTED)


def stride_of(size: int, counted: int) -> int:
    """Return the distance between the values that a histogram counts, among `size`.

    1 for less than twice `counted`; then odd, so that it is no factor of even widths.
    """
    return max(1, size // counted) | 1


def count_into(counts: NDArray[Any], values: NDArray[Any], exponent: int) -> None:
    """Add the values to a histogram over [-2**exponent, 2**exponent).

    Bin ``i`` covers [(i - BINS/2) * w, (i - BINS/2 + 1) * w) with w = 2**(exponent + 1) / BINS. The
    width is a power of two, so scaling by it in float64, where nothing underflows, rounds nothing,
    and no value can slip a bin.

    Args:
        counts: int64 [BINS].
        values: float32 [n], finite and below 2**exponent in magnitude.
        exponent: Of the histogram's range.
    """
    _count(values, counts, math.ldexp(_ZERO_BIN, -exponent))


# Row by row, so that all loops but the first over a row find it in the cache.
@njit(nogil=True, cache=True)
def _moments(
    values: NDArray[Any],
    bits: NDArray[Any],
    keys: NDArray[Any],
    sums: NDArray[Any],
    sampled: NDArray[Any],
    stride: int,
) -> tuple[float, float, float, float]:
    keys[0], keys[1] = _HIGHEST_KEY, _LOWEST_KEY
    skip = taken = 0  # values of the next row before the next sampled one; values sampled
    for outer in range(values.shape[0]):
        for channel in range(values.shape[1]):
            row = values[outer, channel]
            total, square = _sums(row)
            sums[0, channel] += total
            sums[1, channel] += square
            low, high = _extreme_keys(bits[outer, channel])
            keys[0, channel] = min(keys[0, channel], low)
            keys[1, channel] = max(keys[1, channel], high)
            picked = row[skip::stride]
            sampled[taken : taken + picked.size] = picked
            taken += picked.size
            skip += picked.size * stride - row.size
    keys ^= (keys >> np.int32(31)) & _HIGHEST_KEY
    extremes = keys.view(np.float32)
    extremes += np.float32(0)  # -0 becomes 0: which of both is less would depend on the order
    return extremes[0].min(), extremes[1].max(), sums[0].sum(), sums[1].sum()


# `reassoc` and `nsz` let the sums run in vector lanes. The order of additions then depends on the
# array's shape and on the CPU alone: one image gives the same bits in any batch, order or thread.
@njit(nogil=True, cache=True, fastmath={"reassoc", "nsz"})
def _sums(values: NDArray[Any]) -> tuple[float, float]:
    total, squares = 0.0, 0.0
    for i in range(values.size):
        wide = np.float64(values[i])
        total += wide
        squares += wide * wide
    return total, squares


# The bits of a float32, negative ones flipped, order like integers; and the minimum of integers
# runs in vector lanes, which that of floats does not because of NaN.
@njit(nogil=True, cache=True)
def _extreme_keys(bits: NDArray[Any]) -> tuple[Any, Any]:
    low, high = _HIGHEST_KEY, _LOWEST_KEY
    for i in range(bits.size):
        key = np.int32(bits[i] ^ ((bits[i] >> np.int32(31)) & _HIGHEST_KEY))
        low = min(low, key)
        high = max(high, key)
    return low, high


@njit(nogil=True, cache=True)
def _count(values: NDArray[Any], counts: NDArray[Any], inverse_width: float) -> None:
    for i in range(values.size):
        counts[
            np.uint32(np.int32(np.floor(np.float64(values[i]) * inverse_width)) + _ZERO_BIN)
        ] += 1
