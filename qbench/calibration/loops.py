"""Compiled loops over activation values. They release the interpreter lock.

Numba takes half a second and 55 MiB to import, so this is imported only where values are counted.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from qbench.calibration.fixed_point import HIGH_UNIT, LIMIT, LOW_BITS, LOW_HALF, LOW_UNIT
from qbench.calibration.kernels import ZERO_BIN

_LOWEST_KEY, _HIGHEST_KEY = np.int32(-0x80000000), np.int32(0x7FFFFFFF)

_CACHED = 1 << 12
"""Values that are sampled while they are in the cache."""

_Loop = Callable[..., Any]


def _compiled(**options: Any) -> Callable[[_Loop], _Loop]:
    """Return a decorator that compiles a loop and keeps the result, if there is a place to keep it.

    There is none where neither the package nor a home can be written, as in a container.
    """

    def decorated(loop: _Loop) -> _Loop:
        try:
            kept: _Loop = njit(nogil=True, cache=True, **options)(loop)
        except RuntimeError:
            kept = njit(nogil=True, **options)(loop)
        return kept

    return decorated


# All that a tensor needs is one call: workers wait for the interpreter's lock behind each.
@_compiled()
def take(
    values: NDArray[Any],
    stride: int,
    channels: tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]],
    counts: NDArray[Any],
    inverse_width: float,
) -> tuple[float, float, float, float, NDArray[Any], bool]:
    """Do what `kernels.take` does; return its moments but the size, and what else it returns.

    Args:
        values: float32 [outer, channels, inner], contiguous, not empty.
        stride: Distance between sampled values.
        channels: See `ChannelStatistics.arrays`.
        counts: int64 [BINS].
        inverse_width: One over the width of a bin.
    """
    outer, size, inner = values.shape
    keys, sums = np.empty((2, size), np.int32), np.zeros((2, size))
    keys[0], keys[1] = _HIGHEST_KEY, _LOWEST_KEY
    sampled = np.empty(-(-values.size // stride), np.float32)
    if inner == 1:
        _take_columns(values.reshape(outer, size), keys, sums, sampled, stride)
    else:
        _take_rows(values, keys, sums, sampled, stride)
    extremes = keys.view(np.float32)
    low, high, total, square = np.float32(np.inf), np.float32(-np.inf), 0.0, 0.0
    for channel in range(size):
        for end in range(2):
            keys[end, channel] = _key(keys[end, channel])
            extremes[end, channel] += np.float32(0)  # of -0 and 0 the order would decide
        low, high = min(low, extremes[0, channel]), max(high, extremes[1, channel])
        total += sums[0, channel]
        square += sums[1, channel]
    is_counted = False
    if np.isfinite(square):
        _add_to_channels(channels, extremes, sums)
        is_counted = bool(max(-low, high) * inverse_width < ZERO_BIN)
        if is_counted:
            count(sampled, counts, inverse_width)
    return float(low), float(high), total, square, sampled, is_counted


@_compiled()
def _add_to_channels(
    channels: tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]],
    extremes: NDArray[Any],
    sums: NDArray[Any],
) -> None:
    lows, highs, totals, squares = channels
    for channel in range(lows.size):
        lows[channel] = min(lows[channel], extremes[0, channel])
        highs[channel] = max(highs[channel], extremes[1, channel])
    add_in_fixed_point(totals, sums[0])
    add_in_fixed_point(squares, sums[1])


# Row by row, so that all loops but the first over a row find it in the cache.
@_compiled()
def _take_rows(
    values: NDArray[Any],
    keys: NDArray[Any],
    sums: NDArray[Any],
    sampled: NDArray[Any],
    stride: int,
) -> None:
    """Take the moments of [outer, channels, inner]."""
    bits = values.view(np.int32)
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
            while skip < row.size:
                sampled[taken] = row[skip]
                taken += 1
                skip += stride
            skip -= row.size


# `reassoc` and `nsz` let the sums run in vector lanes. The order of additions then depends on the
# array's shape and on the CPU alone: one image gives the same bits in any batch, order or thread.
@_compiled(fastmath={"reassoc", "nsz"})
def _sums(values: NDArray[Any]) -> tuple[float, float]:
    total, squares = 0.0, 0.0
    for i in range(values.size):
        wide = np.float64(values[i])
        total += wide
        squares += wide * wide
    return total, squares


@_compiled()
def _extreme_keys(bits: NDArray[Any]) -> tuple[np.int32, np.int32]:
    low, high = _HIGHEST_KEY, _LOWEST_KEY
    for i in range(bits.size):
        key = _key(bits[i])
        low = min(low, key)
        high = max(high, key)
    return low, high


# The bits of a float32, negative ones flipped, order like integers; and the minimum of integers
# runs in vector lanes, which that of floats does not because of NaN.
@_compiled(inline="always")
def _key(bits: np.int32) -> np.int32:
    return np.int32(bits ^ ((bits >> np.int32(31)) & _HIGHEST_KEY))


@_compiled()
def _take_columns(
    values: NDArray[Any],
    keys: NDArray[Any],
    sums: NDArray[Any],
    sampled: NDArray[Any],
    stride: int,
) -> None:
    """Take the moments of [rows, channels], a few rows at a time, which sampling finds cached."""
    rows, channels = values.shape
    bits, flat = values.view(np.int32), values.reshape(values.size)
    at_once = 4 * max(1, _CACHED // (4 * channels))
    taken = 0
    for first in range(0, rows, at_once):
        last = min(first + at_once, rows)
        _add_columns(values[first:last], bits[first:last], keys, sums)
        while taken * stride < last * channels:
            sampled[taken] = flat[taken * stride]
            taken += 1


# Four rows at a time, so that what is kept of a channel is read and written a fourth as often.
@_compiled()
def _add_columns(
    values: NDArray[Any], bits: NDArray[Any], keys: NDArray[Any], sums: NDArray[Any]
) -> None:
    rows, channels = values.shape
    whole = rows - rows % 4
    for row in range(0, whole, 4):
        for i in range(channels):
            a, b = np.float64(values[row, i]), np.float64(values[row + 1, i])
            c, d = np.float64(values[row + 2, i]), np.float64(values[row + 3, i])
            sums[0, i] += (a + b) + (c + d)
            sums[1, i] += (a * a + b * b) + (c * c + d * d)
        for i in range(channels):
            e, f = _key(bits[row, i]), _key(bits[row + 1, i])
            g, h = _key(bits[row + 2, i]), _key(bits[row + 3, i])
            keys[0, i] = min(keys[0, i], min(min(e, f), min(g, h)))
            keys[1, i] = max(keys[1, i], max(max(e, f), max(g, h)))
    for row in range(whole, rows):
        for i in range(channels):
            wide = np.float64(values[row, i])
            sums[0, i] += wide
            sums[1, i] += wide * wide
            key = _key(bits[row, i])
            keys[0, i] = min(keys[0, i], key)
            keys[1, i] = max(keys[1, i], key)


@_compiled()
def count(values: NDArray[Any], counts: NDArray[Any], inverse_width: float) -> None:
    """Add float32 `values` [n] to the histogram `counts`; see `kernels.count_into`."""
    for i in range(values.size):
        counts[np.uint32(np.int32(np.floor(np.float64(values[i]) * inverse_width)) + ZERO_BIN)] += 1


@_compiled()
def sigmoids(values: NDArray[Any]) -> tuple[NDArray[Any], float, float]:
    """Return the sigmoids of float32 values [n], their sum and that of their squares."""
    found, total, squares = np.empty_like(values), 0.0, 0.0
    for i in range(values.size):
        found[i] = np.float32(1) / (np.float32(1) + np.exp(-values[i]))
        wide = np.float64(found[i])
        total += wide
        squares += wide * wide
    return found, total, squares


@_compiled()
def add_in_fixed_point(sums: NDArray[Any], terms: NDArray[Any]) -> None:
    """Add float64 `terms` [n] to `sums`, int64 [2, n]; see `fixed_point`."""
    for i in range(sums.shape[1]):
        term = min(max(terms[i], -LIMIT), LIMIT)
        high = np.trunc(term / HIGH_UNIT)
        low = term - high * HIGH_UNIT  # exact: the rest of the same mantissa
        rest = sums[1, i] + np.int64(np.rint(low / LOW_UNIT))
        carry = (rest + LOW_HALF) >> LOW_BITS
        sums[0, i] += np.int64(high) + carry
        sums[1, i] = rest - (carry << LOW_BITS)
