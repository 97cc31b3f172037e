"""How close a test output is to its reference: pure arrays, accumulated in float64.

Any shapes, as long as they are equal. NaN in either array makes a result NaN.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qbench.errors import DataError


def sqnr_db(reference: NDArray[Any], test: NDArray[Any]) -> float:
    """Return the signal-to-quantization-noise ratio in decibels.

    10 log10(sum of reference^2 / sum of (reference - test)^2). Equal arrays give inf, also where
    both are zero; a zero reference with any other test gives -inf.

    Raises:
        DataError: The shapes differ.
    """
    wanted, found = _flat_pair(reference, test)
    with np.errstate(over="ignore", invalid="ignore"):
        noise = wanted - found
        signal_power, noise_power = float(wanted @ wanted), float(noise @ noise)
    if math.isnan(signal_power) or math.isnan(noise_power):
        return math.nan
    if noise_power == 0:
        return math.inf
    if signal_power == 0 or math.isinf(noise_power):
        return -math.inf
    return 10 * math.log10(signal_power / noise_power)


def cosine(reference: NDArray[Any], test: NDArray[Any]) -> float:
    """Return the cosine of the angle between the arrays as vectors, in [-1, 1].

    Two zero arrays point the same way (1); one zero array and another do not (0).

    Raises:
        DataError: The shapes differ.
    """
    wanted, found = _flat_pair(reference, test)
    with np.errstate(over="ignore", invalid="ignore"):
        norms = float(np.linalg.norm(wanted)) * float(np.linalg.norm(found))
        product = float(wanted @ found)
    if norms == 0:
        return 1.0 if wanted.any() == found.any() else 0.0
    if not math.isfinite(norms):
        return math.nan
    # Rounding alone can leave the range.
    return max(-1.0, min(1.0, product / norms))


def top1_agreement(reference: NDArray[Any], test: NDArray[Any]) -> float:
    """Return the share of rows, [n, classes], whose highest class is the same in both.

    Of equal logits the first counts, as argmax has it. A row with a NaN agrees with none.

    Raises:
        DataError: The shapes differ, or there are no rows.
    """
    if reference.shape != test.shape or not reference.size:
        raise DataError(_mismatch(reference, test))
    rows = len(reference)
    wanted, found = reference.reshape(rows, -1), test.reshape(rows, -1)
    whole = ~(np.isnan(wanted).any(axis=1) | np.isnan(found).any(axis=1))
    return float(np.mean((wanted.argmax(axis=1) == found.argmax(axis=1)) & whole))


def _flat_pair(
    reference: NDArray[Any], test: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if reference.shape != test.shape:
        raise DataError(_mismatch(reference, test))
    return reference.ravel().astype(np.float64), test.ravel().astype(np.float64)


def _mismatch(reference: NDArray[Any], test: NDArray[Any]) -> str:
    return (
        f"outputs of shapes {list(reference.shape)} and {list(test.shape)} cannot be compared; "
        "run both models on the same inputs"
    )
