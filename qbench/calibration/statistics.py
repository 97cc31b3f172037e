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

from qbench.calibration.channels import ChannelStatistics, no_channels
from qbench.calibration.fixed_point import to_float
from qbench.calibration.kernels import (
    BINS,
    COUNTED_VALUES,
    Moments,
    count_into,
    stride_of,
    take,
    take_sigmoids,
)

SMALLEST_EXPONENT = -80
"""Histograms are not narrower than +-2**-80: smaller activations are zero to any 8-bit format."""

_FRACTION_BITS = 80
"""Sums are kept as whole multiples of 2**-80."""

_NO_CHANNELS = no_channels(0)


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
        channels: Statistics of each channel; None where no channel axis was given.
    """

    count: int = 0
    low: float = math.inf
    high: float = -math.inf
    total: int = 0
    squares: int = 0
    exponent: int = SMALLEST_EXPONENT
    counts: NDArray[Any] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    channels: ChannelStatistics | None = None

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
    def channel_lows(self) -> NDArray[Any] | None:
        """Exact minimum of each channel, float32 [channels]; None without a channel axis."""
        return None if self.channels is None else self.channels.lows

    @property
    def channel_highs(self) -> NDArray[Any] | None:
        """Exact maximum of each channel, float32 [channels]; None without a channel axis."""
        return None if self.channels is None else self.channels.highs

    @property
    def channel_means(self) -> NDArray[Any] | None:
        """Mean of the values of each channel, float64 [channels]; None without a channel axis."""
        return None if self.channels is None else self._per_value(self.channels.totals)

    @property
    def channel_second_moments(self) -> NDArray[Any] | None:
        """Mean of the squares of each channel, float64 [channels]; None without a channel axis."""
        return None if self.channels is None else self._per_value(self.channels.squares)

    def add(
        self,
        array: NDArray[Any],
        channel_axis: int | None = None,
        counted: int = COUNTED_VALUES,
    ) -> Moments | None:
        """Count in the values of `array`, of any shape and float type: one image's tensor.

        Args:
            array: The values.
            channel_axis: Axis whose entries are observed apart, too; the same in every call.
            counted: The histogram counts about this many values; the same in every call.

        Returns:
            What was seen, or None of an empty array.

        Raises:
            NonFiniteError: A value is NaN or Inf; nothing is counted then.
        """
        if not array.size:
            return None
        values = _by_channel(np.ascontiguousarray(array, np.float32), channel_axis)
        channels = _NO_CHANNELS if channel_axis is None else self._channels_of(values.shape[1])
        return self._add_laid_out(values[..., np.newaxis], values.shape[1], channels, counted)

    def add_blocks(
        self,
        blocks: NDArray[Any],
        size: int,
        counted: int = COUNTED_VALUES,
        *,
        by_channel: bool,
    ) -> Moments | None:
        """Do as `add` for a tensor [outer, `size`, ...] whose channels lie in blocks.

        All but the last bits of sums are as if they lay one after the other.

        Args:
            blocks: float32 [outer, blocks, inner, lanes], contiguous; see `kernels.take`.
            size: Number of channels.
            counted: As there.
            by_channel: Whether they are observed apart, too; the same in every call.

        Raises:
            NonFiniteError: As there.
        """
        if not blocks.size:
            return None
        channels = self._channels_of(size) if by_channel else _NO_CHANNELS
        return self._add_laid_out(blocks, size, channels, counted)

    def _add_laid_out(
        self, values: NDArray[Any], size: int, channels: ChannelStatistics, counted: int
    ) -> Moments:
        stride = stride_of(values.shape[0] * size * values.shape[2], counted)
        seen, is_counted = take(values, size, stride, channels, self.counts, self.exponent)
        self._add_whole(seen, is_counted=is_counted)
        return seen

    def add_sigmoids(self, seen: Moments) -> None:
        """Count in the output of a Sigmoid by what was seen of its input."""
        derived, is_counted = take_sigmoids(seen, self.counts, self.exponent)
        self._add_whole(derived, is_counted=is_counted)

    def _add_whole(self, seen: Moments, *, is_counted: bool) -> None:
        if not math.isfinite(seen.square):
            raise NonFiniteError
        self.count += seen.size
        self.low, self.high = min(self.low, seen.low), max(self.high, seen.high)
        self.total += _to_fixed(seen.total)
        self.squares += _to_fixed(seen.square)
        if not is_counted:
            self._widen(_exponent(seen))
            count_into(self.counts, seen.sampled, self.exponent)

    def merge(self, other: "TensorStatistics") -> None:
        """Count in all that `other` has seen."""
        self.count += other.count
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.total += other.total
        self.squares += other.squares
        if other.channels is not None:
            self._channels_of(other.channels.lows.size).merge(other.channels)
        self._widen(other.exponent)
        self.counts += widened(other.counts, self.exponent - other.exponent)

    def _channels_of(self, size: int) -> ChannelStatistics:
        if self.channels is None:
            self.channels = no_channels(size)
        return self.channels

    def _per_value(self, sums: NDArray[Any]) -> NDArray[Any]:
        """Return fixed-point sums [2, channels] over the number of values of a channel."""
        means: NDArray[Any] = to_float(sums) / (self.count / sums.shape[1])
        return means

    def _widen(self, exponent: int) -> None:
        if exponent > self.exponent:
            self.counts = widened(self.counts, exponent - self.exponent)
            self.exponent = exponent


def widened(counts: NDArray[Any], doublings: int) -> NDArray[Any]:
    """Return a histogram, [BINS], over a range that is `doublings` times doubled; exact."""
    for _ in range(doublings):
        if not counts.any():
            break
        wider = np.zeros_like(counts)
        wider[BINS // 4 : 3 * BINS // 4] = counts[0::2] + counts[1::2]
        counts = wider
    return counts


def _exponent(seen: Moments) -> int:
    """Return the least exponent of a histogram that holds all values, which are finite."""
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
