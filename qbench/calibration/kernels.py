"""What is taken of one image's tensor: its moments, and counts of its values.

Sums and extremes are taken of all values, by loops that the compiler runs in vector lanes.
Counting is scalar work, so large tensors are counted at evenly spaced places; which ones depends on
the shape alone. The compiled loops are loaded by those functions alone that need them.
"""

import math
from typing import Any, NamedTuple

from numpy.typing import NDArray

from qbench.calibration.channels import ChannelStatistics

BINS = 1 << 13
"""Bins of every histogram."""

COUNTED_VALUES = 1 << 14
"""How many values of one image's tensor a histogram counts, about, where nothing else is said."""

_COUNTED_OF_ALL = 1 << 20
_FEWEST_COUNTED = 1 << 12

ZERO_BIN = BINS // 2
"""The bin that begins at 0."""


class Moments(NamedTuple):
    """What is taken of all values of an array.

    Attributes:
        low: The least.
        high: The greatest.
        total: Their sum.
        square: The sum of their squares. It is not finite if and only if a value is NaN or Inf,
            since the squares of finite float32 values cannot overflow; the rest is then void.
        sampled: Values at even distances, float32 [n].
        size: Number of values.
    """

    low: float
    high: float
    total: float
    square: float
    sampled: NDArray[Any]
    size: int


def take(
    values: NDArray[Any],
    size: int,
    stride: int,
    channels: ChannelStatistics,
    counts: NDArray[Any],
    exponent: int,
) -> tuple[Moments, bool]:
    """Return the moments of an array; count it into its channels, and a sample into a histogram.

    Whether the histogram holds it, too, is returned as well.

    An array with NaN or Inf is counted nowhere, and one with values beyond the histogram's range
    not into the histogram.

    Args:
        values: float32 [outer, blocks, inner, lanes], contiguous, not empty. A block holds `lanes`
            channels side by side; where the last lacks some, zeros stand for them.
        size: Number of channels.
        stride: Every `stride`-th value is sampled, in the order [outer, channels, inner].
        channels: Of as many channels, or of none, where they are not asked for.
        counts: See `count_into`.
        exponent: See `count_into`.
    """
    from qbench.calibration import loops

    inverse_width = _inverse_width(exponent)
    low, high, total, square, sampled, is_counted = loops.take(
        values, size, stride, channels.arrays, counts, inverse_width
    )
    number = values.shape[0] * size * values.shape[2]
    return Moments(low, high, total, square, sampled, number), is_counted


def take_sigmoids(seen: Moments, counts: NDArray[Any], exponent: int) -> tuple[Moments, bool]:
    """Return the moments of a Sigmoid's output from those of its input; count a sample of it.

    The extremes are those of the input, mapped; the sampled values are sampled at the same places.
    Sums are estimated from them. Whether the histogram holds the sample is returned as well.

    Args:
        seen: What was taken of the input.
        counts: See `count_into`.
        exponent: See `count_into`.
    """
    from qbench.calibration import loops

    low, high, total, square, sampled, is_counted = loops.take_sigmoids(
        seen.sampled, seen.low, seen.high, counts, _inverse_width(exponent)
    )
    share = seen.size / sampled.size
    return Moments(low, high, total * share, square * share, sampled, seen.size), is_counted


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

    count(values, counts, _inverse_width(exponent))


def _inverse_width(exponent: int) -> float:
    return math.ldexp(ZERO_BIN, -exponent)
