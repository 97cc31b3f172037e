"""What is taken of one image's tensor: its moments, and counts of its values.

Sums and extremes are taken of all values, by loops that the compiler runs in vector lanes.
Counting is scalar work, so large tensors are counted at evenly spaced places; which ones depends on
the shape alone. The compiled loops are loaded by those functions alone that need them.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS = 1 << 13
"""Bins of every histogram."""

COUNTED_VALUES = 1 << 14
"""How many values of one image's tensor a histogram counts, about, where nothing else is said."""

_COUNTED_OF_ALL = 1 << 20
_FEWEST_COUNTED = 1 << 12

ZERO_BIN = BINS // 2
"""The bin that begins at 0."""


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
    from qbench.calibration.loops import take_moments

    channels = values.shape[1]
    keys, sums = np.empty((2, channels), np.int32), np.zeros((2, channels))
    sampled = np.empty(-(-values.size // stride), np.float32)
    bits, (lows, highs) = values.view(np.int32), keys.view(np.float32)
    low, high, total, square = take_moments(values, bits, keys, sums, sampled, stride)
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
    from qbench.calibration.loops import count

    count(values, counts, math.ldexp(ZERO_BIN, -exponent))
