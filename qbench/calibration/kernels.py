"""Compiled loops over activation values. They release the interpreter lock.

Each loop is a function of its own, and written so that the compiler runs it in vector lanes:
together they cost about a nanosecond a value, while `numpy.histogram` alone costs seven.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

BINS = 1 << 13
"""Bins of every histogram."""

_ZERO_BIN = BINS // 2
_LANES = 4
_BLOCK = 1024


class Scan(NamedTuple):
    """What one look at an array tells.

    Attributes:
        low: Least value.
        high: Greatest value.
        totals: Sum of each channel, float64 [channels].
        squares: Sum of all squares, in float64. It is not finite if and only if a value is NaN or
            Inf, since the squares of finite float32 values cannot overflow; the rest is then void.
        counts: Histogram, int64 [BINS]. Values out of its range are in its first or last bin.
    """

    low: float
    high: float
    totals: NDArray[Any]
    squares: float
    counts: NDArray[Any]


def scan(values: NDArray[Any], exponent: int) -> Scan:
    """Look at all values once, with a histogram over [-2**exponent, 2**exponent).

    Bin ``i`` covers [(i - BINS/2) * w, (i - BINS/2 + 1) * w) with w = 2**(exponent + 1) / BINS. The
    width is a power of two, so scaling by it in float64, where nothing underflows, rounds nothing,
    and no value can slip a bin.

    Args:
        values: float32 [outer, channels, inner], contiguous, not empty.
        exponent: Of the histogram's range.
    """
    totals, counts = np.zeros(values.shape[1]), np.zeros(BINS, np.int64)
    squares = _sum_channels(values, totals)
    flat = values.reshape(-1)
    keys = np.array(_extreme_keys(flat.view(np.int32)), np.int32)
    low, high = (keys ^ ((keys >> 31) & 0x7FFFFFFF)).view(np.float32)
    _count(flat, counts, math.ldexp(_ZERO_BIN, -exponent))
    return Scan(float(low), float(high), totals, squares, counts)


@njit(nogil=True, cache=True)
def _sum_channels(values: NDArray[Any], totals: NDArray[Any]) -> float:
    squares = 0.0
    for outer in range(values.shape[0]):
        for channel in range(values.shape[1]):
            total, square = _sums(values[outer, channel])
            totals[channel] += total
            squares += square
    return squares


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


# Neighbours often share a bin, and an increment must wait for the one before it in the same cell.
# So four interleaved histograms take turns.
@njit(nogil=True, cache=True)
def _count(values: NDArray[Any], counts: NDArray[Any], inverse_width: float) -> None:
    lanes = np.zeros(_LANES * BINS, np.int32)
    cells = np.empty(_BLOCK, np.int32)
    for start in range(0, values.size, _BLOCK):
        block = values[start : start + _BLOCK]
        _cells(block, cells, inverse_width)
        for i in range(block.size):
            lanes[cells[i]] += 1
    for i in range(BINS):
        for lane in range(_LANES):
            counts[i] += lanes[i * _LANES + lane]


@njit(nogil=True, cache=True)
def _cells(values: NDArray[Any], cells: NDArray[Any], inverse_width: float) -> None:
    lowest, highest = float(-_ZERO_BIN), float(_ZERO_BIN - 1)
    for i in range(values.size):
        bin_ = min(max(np.floor(np.float64(values[i]) * inverse_width), lowest), highest)
        cell = (np.int32(bin_) + np.int32(_ZERO_BIN)) * np.int32(_LANES)
        cells[i] = cell + np.int32(i & (_LANES - 1))
