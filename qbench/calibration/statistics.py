"""Statistics of one tensor that merge exactly, whatever the order of merging.

Counts are integers, sums are integers in fixed point, and a histogram's range doubles by adding
bins in pairs. So the same images give the same bits for any batch size, order, thread count and
sharding.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qbench.calibration.kernels import BINS, Moments, count_into, moments

SMALLEST_EXPONENT = -80
"""Histograms are not narrower than +-2**-80: smaller activations are zero to any 8-bit format."""

_FRACTION_BITS = 80
"""Sums are kept as whole multiples of 2**-80."""

_CHANNEL_BITS = 20
"""Sums of channels, which are many, are kept in 64 bits as whole multiples of 2**-20."""


class NonFiniteError(ValueError):
    """A tensor holds NaN or Inf."""


@dataclass
class TensorStatistics:
    """Exact min and max, fixed-point sums and a histogram of all values seen so far.

    Attributes:
        count: Number of values.
        total: Sum of the values in units of 2**-80.
        squares: Sum of their squares in units of 2**-80.
        exponent: The histogram covers [-2**exponent, 2**exponent).
        counts: Histogram, int64 [BINS]; see `kernels.count_into` for its bins and what it counts.
        channel_totals: Sum of the values of each channel in units of 2**-20, int64 [channels],
            which holds sums up to 8e12; None where no channel axis was given.
    """

    count: int = 0
    low: float = math.inf
    high: float = -math.inf
    total: int = 0
    squares: int = 0
    exponent: int = SMALLEST_EXPONENT
    counts: NDArray[Any] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    channel_totals: NDArray[Any] | None = None

    @property
    def mean(self) -> float:
        """Mean of all values."""
        return _to_float(self.total) / self.count

    @property
    def second_moment(self) -> float:
        """Mean of the squares of all values."""
        return _to_float(self.squares) / self.count

    @property
    def bin_width(self) -> float:
        """Width of one histogram bin."""
        return math.ldexp(2.0 / BINS, self.exponent)

    @property
    def channel_means(self) -> NDArray[Any] | None:
        """Mean of the values of each channel, float64 [channels]."""
        if self.channel_totals is None:
            return None
        per_channel = self.count / self.channel_totals.size
        return np.ldexp(self.channel_totals / per_channel, -_CHANNEL_BITS)

    def add(self, array: NDArray[Any], channel_axis: int | None = None) -> None:
        """Count in the values of `array`, of any shape and float type: one image's tensor.

        Args:
            array: The values.
            channel_axis: Axis whose entries are summed apart, too; the same in every call.

        Raises:
            NonFiniteError: A value is NaN or Inf; nothing is counted then.
        """
        if not array.size:
            return
        values = _by_channel(np.ascontiguousarray(array, np.float32), channel_axis)
        seen = moments(values)
        if not math.isfinite(seen.squares):
            raise NonFiniteError
        self.count += values.size
        self.low, self.high = min(self.low, seen.low), max(self.high, seen.high)
        self.total += _to_fixed(math.fsum(seen.totals))
        self.squares += _to_fixed(seen.squares)
        if channel_axis is not None:
            self._add_channels(np.rint(np.ldexp(seen.totals, _CHANNEL_BITS)).astype(np.int64))
        self._widen(_exponent(seen))
        count_into(self.counts, values.reshape(-1), self.exponent)

    def merge(self, other: "TensorStatistics") -> None:
        """Count in all that `other` has seen."""
        self.count += other.count
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.total += other.total
        self.squares += other.squares
        if other.channel_totals is not None:
            self._add_channels(other.channel_totals)
        self._widen(other.exponent)
        self.counts += widened(other.counts, self.exponent - other.exponent)

    def _add_channels(self, totals: NDArray[Any]) -> None:
        own = self.channel_totals
        self.channel_totals = totals if own is None else own + totals

    def _widen(self, exponent: int) -> None:
        if exponent > self.exponent:
            self.counts = widened(self.counts, exponent - self.exponent)
            self.exponent = exponent


def widened(counts: NDArray[Any], doublings: int) -> NDArray[Any]:
    """Return `counts` over a range that is `doublings` times doubled; exact."""
    for _ in range(doublings):
        if not counts.any():
            break
        wider = np.zeros_like(counts)
        wider[BINS // 4 : 3 * BINS // 4] = counts[0::2] + counts[1::2]
        counts = wider
    return counts


def _exponent(seen: Moments) -> int:
    """Return the least exponent of a histogram that holds all values seen."""
    magnitude = max(-seen.low, seen.high)
    return math.frexp(magnitude)[1] if magnitude else SMALLEST_EXPONENT


def _by_channel(values: NDArray[Any], axis: int | None) -> NDArray[Any]:
    """Return a view [outer, channels, inner] of `values`; one channel without an axis."""
    if axis is None:
        return values.reshape(1, 1, -1)
    axis %= values.ndim
    return values.reshape(math.prod(values.shape[:axis]), values.shape[axis], -1)


def _to_fixed(value: float) -> int:
    numerator, denominator = value.as_integer_ratio()
    return (numerator << _FRACTION_BITS) // denominator


def _to_float(units: int) -> float:
    return units / (1 << _FRACTION_BITS)
