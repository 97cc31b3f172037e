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

_TOGETHER = 4
"""Places whose lanes are added as if they were columns: the lanes of one are too short a loop."""

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
    size: int,
    stride: int,
    channels: tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]],
    counts: NDArray[Any],
    inverse_width: float,
) -> tuple[float, float, float, float, NDArray[Any], bool]:
    """Do what `kernels.take` does; return its moments but the size, and what else it returns.

    Args:
        values: float32 [outer, blocks, inner, lanes], contiguous, not empty.
        size: Number of channels.
        stride: Distance between sampled values.
        channels: See `ChannelStatistics.arrays`.
        counts: int64 [BINS].
        inverse_width: One over the width of a bin.
    """
    outer, blocks, inner, lanes = values.shape
    keys, sums = np.empty((2, blocks * lanes), np.int32), np.zeros((2, blocks * lanes))
    keys[0], keys[1] = _HIGHEST_KEY, _LOWEST_KEY
    sampled = np.empty(-(-outer * size * inner // stride), np.float32)
    if lanes > 1:
        _take_blocks(values, size, keys, sums, sampled, stride)
    elif inner == 1:
        _take_columns(values.reshape(outer, size), keys, sums, sampled, stride)
    else:
        _take_rows(values.reshape(outer, size, inner), keys, sums, sampled, stride)
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


@_compiled()
def _take_blocks(
    values: NDArray[Any],
    size: int,
    keys: NDArray[Any],
    sums: NDArray[Any],
    sampled: NDArray[Any],
    stride: int,
) -> None:
    """Take the moments of [outer, blocks, inner, lanes]; sample what `_take_rows` would, too."""
    outers, blocks, inner, lanes = values.shape
    bits, wide = values.view(np.int32), _TOGETHER * lanes
    wide_keys, wide_sums = np.empty((2, wide), np.int32), np.empty((2, wide))
    rows = inner // _TOGETHER
    rest = rows * _TOGETHER
    skip = taken = 0  # as in `_take_rows`
    for outer in range(outers):
        for block in range(blocks):
            wide_keys[0], wide_keys[1], wide_sums[:] = _HIGHEST_KEY, _LOWEST_KEY, 0
            own, own_bits = values[outer, block], bits[outer, block]
            whole, whole_bits = own[:rest].reshape(rows, wide), own_bits[:rest].reshape(rows, wide)
            _add_columns(whole, whole_bits, wide_keys, wide_sums)
            _add_columns(own[rest:], own_bits[rest:], wide_keys[:, :lanes], wide_sums[:, :lanes])
            first = block * lanes
            _fold(wide_keys, wide_sums, keys[:, first : first + lanes], sums[:, first:])
            for lane in range(min(lanes, size - first)):
                while skip < inner:
                    sampled[taken] = own[skip, lane]
                    taken += 1
                    skip += stride
                skip -= inner


@_compiled()
def _fold(
    wide_keys: NDArray[Any], wide_sums: NDArray[Any], keys: NDArray[Any], sums: NDArray[Any]
) -> None:
    """Add what was taken of the lanes of several places to that of the lanes, `keys` [2, lanes]."""
    lanes = keys.shape[1]
    for first in range(0, wide_keys.shape[1], lanes):
        for lane in range(lanes):
            i = first + lane
            sums[0, lane] += wide_sums[0, i]
            sums[1, lane] += wide_sums[1, i]
            keys[0, lane] = min(keys[0, lane], wide_keys[0, i])
            keys[1, lane] = max(keys[1, lane], wide_keys[1, i])


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
def take_sigmoids(
    values: NDArray[Any], low: float, high: float, counts: NDArray[Any], inverse_width: float
) -> tuple[float, float, float, float, NDArray[Any], bool]:
    """Do what `kernels.take_sigmoids` does; return what `take` does.

    Args:
        values: float32 [n], not empty.
        low: Least value of all, of which these are some.
        high: Greatest.
        counts: int64 [BINS].
        inverse_width: One over the width of a bin.
    """
    found, total, square = np.empty_like(values), 0.0, 0.0
    for i in range(values.size):
        found[i] = _sigmoid(values[i])
        wide = np.float64(found[i])
        total += wide
        square += wide * wide
    least, greatest = _sigmoid(np.float32(low)), _sigmoid(np.float32(high))
    is_counted = bool(greatest * inverse_width < ZERO_BIN)
    if is_counted:
        count(found, counts, inverse_width)
    return float(least), float(greatest), total, square, found, is_counted


@_compiled(inline="always")
def _sigmoid(value: Any) -> Any:
    return np.float32(1) / (np.float32(1) + np.exp(-value))


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
