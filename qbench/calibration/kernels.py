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
"""A histogram counts about this many values of one image's tensor, all of smaller ones."""

_ZERO_BIN = BINS // 2


class Moments(NamedTuple):
    """What is taken of all values of an array.

    Attributes:
        low: Least value.
        high: Greatest value.
        totals: Sum of each channel, float64 [channels].
        squares: Sum of all squares, in float64. It is not finite if and only if a value is NaN or
            Inf, since the squares of finite float32 values cannot overflow; the rest is then void.
    """

    low: float
    high: float
    totals: NDArray[Any]
    squares: float


def moments(values: NDArray[Any]) -> Moments:
    """Return the moments of float32 `values` [outer, channels, inner], contiguous, not empty."""
    totals = np.zeros(values.shape[1])
    *keys, squares = _moments(values, values.view(np.int32), totals)
    bits = np.array(keys, np.int32)
    low, high = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(np.float32)
    return Moments(float(low), float(high), totals, squares)


def stride_of(size: int) -> int:
    """Return the distance between the values that a histogram counts, among `size`.

    1 for less than twice `COUNTED_VALUES`; then odd, so that it is no factor of even widths.
    """
    return max(1, size // COUNTED_VALUES) | 1


def count_into(counts: NDArray[Any], values: NDArray[Any], exponent: int) -> None:
    """Add every `stride_of`-th of the values to a histogram over [-2**exponent, 2**exponent).

    Bin ``i`` covers [(i - BINS/2) * w, (i - BINS/2 + 1) * w) with w = 2**(exponent + 1) / BINS. The
    width is a power of two, so scaling by it in float64, where nothing underflows, rounds nothing,
    and no value can slip a bin.

    Args:
        counts: int64 [BINS].
        values: float32 [n], finite and below 2**exponent in magnitude.
        exponent: Of the histogram's range.
    """
    _count(values, stride_of(values.size), counts, math.ldexp(_ZERO_BIN, -exponent))


# Row by row, so that the second loop over a row finds it in the cache.
@njit(nogil=True, cache=True)
def _moments(
    values: NDArray[Any], bits: NDArray[Any], totals: NDArray[Any]
) -> tuple[Any, Any, float]:
    low, high, squares = np.int32(0x7FFFFFFF), np.int32(-0x80000000), 0.0
    for outer in range(values.shape[0]):
        for channel in range(values.shape[1]):
            total, square = _sums(values[outer, channel])
            totals[channel] += total
            squares += square
            row_low, row_high = _extreme_keys(bits[outer, channel])
            low, high = min(low, row_low), max(high, row_high)
    return low, high, squares


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
    low, high = np.int32(0x7FFFFFFF), np.int32(-0x80000000)
    for i in range(bits.size):
        key = np.int32(bits[i] ^ ((bits[i] >> np.int32(31)) & np.int32(0x7FFFFFFF)))
        low = min(low, key)
        high = max(high, key)
    return low, high


@njit(nogil=True, cache=True)
def _count(values: NDArray[Any], stride: int, counts: NDArray[Any], inverse_width: float) -> None:
    for i in range(0, values.size, stride):
        counts[int(np.floor(np.float64(values[i]) * inverse_width)) + _ZERO_BIN] += 1
