"""Statistics of each channel of one tensor; they merge exactly, whatever the order."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qbench.calibration.fixed_point import add_sums, no_sums


@dataclass
class ChannelStatistics:
    """Exact extremes and fixed-point sums of the values of each channel.

    Attributes:
        lows: Least values, float32 [channels].
        highs: Greatest values, float32 [channels].
        totals: Sums of the values, in fixed point: int64 [2, channels], see `fixed_point`.
        squares: Sums of their squares, in fixed point.
    """

    lows: NDArray[Any]
    highs: NDArray[Any]
    totals: NDArray[Any]
    squares: NDArray[Any]

    @property
    def arrays(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        """All four, in this order."""
        return self.lows, self.highs, self.totals, self.squares

    def merge(self, other: "ChannelStatistics") -> None:
        """Count in all that `other` has seen."""
        np.minimum(self.lows, other.lows, out=self.lows)
        np.maximum(self.highs, other.highs, out=self.highs)
        add_sums(self.totals, other.totals)
        add_sums(self.squares, other.squares)


def no_channels(size: int) -> ChannelStatistics:
    """Return the statistics of `size` channels that have seen nothing."""
    lows, highs = np.full(size, np.inf, np.float32), np.full(size, -np.inf, np.float32)
    return ChannelStatistics(lows, highs, no_sums(size), no_sums(size))


CHANNEL_ARRAYS: dict[str, NDArray[Any]] = {
    "channel_lows": np.zeros(0, np.float32),
    "channel_highs": np.zeros(0, np.float32),
    "channel_totals": no_sums(0),
    "channel_squares": no_sums(0),
}
"""Names of the arrays of `ChannelStatistics` on disk, and what they are without any channel."""


def join_channels(tensors: list[ChannelStatistics]) -> dict[str, NDArray[Any]]:
    """Return `CHANNEL_ARRAYS` with the channels of all tensors, one after the other."""
    columns = zip(CHANNEL_ARRAYS.values(), *(one.arrays for one in tensors), strict=True)
    joined = (np.concatenate(column, axis=-1) for column in columns)
    return dict(zip(CHANNEL_ARRAYS, joined, strict=True))


def split_channels(joined: dict[str, NDArray[Any]], sizes: list[int]) -> list[ChannelStatistics]:
    """Return the channels of each tensor, of which `sizes` says how many there are.

    Raises:
        ValueError: An array has another type or size than that.
    """
    for name, array in joined.items():
        empty = CHANNEL_ARRAYS[name]
        if array.dtype != empty.dtype or array.shape != (*empty.shape[:-1], sum(sizes)):
            raise ValueError(f"its {name} do not fit its JSON")
    ends = np.cumsum(sizes)[:-1]
    parts = (np.split(array, ends, axis=-1) for array in joined.values())
    return [ChannelStatistics(*part) for part in zip(*parts, strict=True)]
