"""Compiled loops over activation values. They release the interpreter lock."""

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

BINS = 1 << 13
"""Bins of every histogram."""

_ZERO_BIN = BINS // 2


# `reassoc` lets the sums run in vector lanes. The order of additions then depends on the array's
# length and on the CPU alone, so one image gives the same bits in any batch, order or thread.
@njit(nogil=True, cache=True, fastmath={"reassoc"})
def _moments(values: NDArray[Any]) -> tuple[np.float32, np.float32, float, float]:
    low, high = np.float32(np.inf), np.float32(-np.inf)
    total, squares = 0.0, 0.0
    for value in values:
        low = min(low, value)
        high = max(high, value)
        wide = np.float64(value)
        total += wide
        squares += wide * wide
    return low, high, total, squares


@njit(nogil=True, cache=True)
def _count(values: NDArray[Any], counts: NDArray[Any], inverse_width: float) -> None:
    for value in values:
        counts[int(np.floor(np.float64(value) * inverse_width)) + _ZERO_BIN] += 1


def moments(values: NDArray[Any]) -> tuple[float, float, float, float]:
    """Return min, max, sum and sum of squares of float32 `values` [n], the sums in float64.

    A sum that is not finite tells of a NaN or Inf among the values: finite float32 values cannot
    overflow float64.
    """
    low, high, total, squares = _moments(values)
    return float(low), float(high), float(total), float(squares)


def count_into(counts: NDArray[Any], values: NDArray[Any], exponent: int) -> None:
    """Add float32 `values` [n] to int64 `counts` [BINS] over [-2**exponent, 2**exponent).

    Bin ``i`` covers [(i - BINS/2) * w, (i - BINS/2 + 1) * w) with w = 2**(exponent + 1) / BINS. The
    width is a power of two, so scaling by it is exact in float64 and no value can slip a bin.
    Every value must be finite and below 2**exponent in magnitude.
    """
    _count(values, counts, math.ldexp(_ZERO_BIN, -exponent))
