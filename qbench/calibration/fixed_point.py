"""Sums of float64 arrays that do not depend on the order of adding.

A sum is kept as int64 [2, n]: whole multiples of 2**14 and of 2**-46. Adding integers is
associative, and carrying after every addition gives each sum one form alone. A term is rounded once
to 2**-46 and held within +-2**62, so that 2**15 of the largest still fit.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_HIGH_EXPONENT = 14
_LOW_EXPONENT = -46
LOW_BITS = _HIGH_EXPONENT - _LOW_EXPONENT
LOW_HALF = 1 << (LOW_BITS - 1)
HIGH_UNIT, LOW_UNIT = 2.0**_HIGH_EXPONENT, 2.0**_LOW_EXPONENT
LIMIT = 2.0**62


def no_sums(size: int) -> NDArray[Any]:
    """Return `size` sums of nothing, int64 [2, size]."""
    return np.zeros((2, size), np.int64)


def add_sums(sums: NDArray[Any], others: NDArray[Any]) -> None:
    """Add the sums `others` [2, n] to `sums` [2, n]."""
    sums += others
    carries = (sums[1] + LOW_HALF) >> LOW_BITS
    sums[0] += carries
    sums[1] -= carries << LOW_BITS


def to_float(sums: NDArray[Any]) -> NDArray[Any]:
    """Return `sums` [2, n] as float64 [n]."""
    floats: NDArray[Any] = np.ldexp(sums, np.array([[_HIGH_EXPONENT], [_LOW_EXPONENT]])).sum(axis=0)
    return floats
