"""How close a test output is to its reference: pure arrays, accumulated in float64.

Any shapes, as long as they are equal. NaN in either array makes a result NaN.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qbench.errors import MismatchError

Boxes = tuple[NDArray[np.float64], NDArray[np.int64]]

_SAME_BOX = 0.5
_AS_NEAR = 1e-6
_ROWS_AT_ONCE = 1024


def sqnr_db(reference: NDArray[Any], test: NDArray[Any]) -> float:
    """Return the signal-to-quantization-noise ratio in decibels.

    10 log10(sum of reference^2 / sum of (reference - test)^2). Equal arrays give inf, also where
    both are zero; a zero reference with any other test gives -inf.

    Raises:
        MismatchError: The shapes differ.
    """
    return decibels(*powers(reference, test))


def powers(reference: NDArray[Any], test: NDArray[Any]) -> tuple[float, float]:
    """Return the sums of reference^2 and of (reference - test)^2.

    Raises:
        MismatchError: The shapes differ.
    """
    wanted, found = _flat_pair(reference, test)
    with np.errstate(over="ignore", invalid="ignore"):
        noise = wanted - found
        return float(wanted @ wanted), float(noise @ noise)


def decibels(signal: float, noise: float) -> float:
    """Return the ratio of two powers in decibels; see `sqnr_db` for the limits."""
    if math.isnan(signal) or math.isnan(noise):
        return math.nan
    if noise == 0:
        return math.inf
    if signal == 0 or math.isinf(noise):
        return -math.inf
    return 10 * math.log10(signal / noise)


def cosine(reference: NDArray[Any], test: NDArray[Any]) -> float:
    """Return the cosine of the angle between the arrays as vectors, in [-1, 1].

    Two zero arrays point the same way (1); one zero array and another do not (0).

    Raises:
        MismatchError: The shapes differ.
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
        MismatchError: The shapes differ, or there are no rows.
    """
    if reference.shape != test.shape or not reference.size:
        raise MismatchError(_mismatch(reference, test))
    rows = len(reference)
    wanted, found = reference.reshape(rows, -1), test.reshape(rows, -1)
    whole = ~(np.isnan(wanted).any(axis=1) | np.isnan(found).any(axis=1))
    return float(np.mean((wanted.argmax(axis=1) == found.argmax(axis=1)) & whole))


def same_neighbours(reference: NDArray[Any], test: NDArray[Any]) -> NDArray[np.bool_]:
    """Return whether the nearest other row, by the product, is the same in both, [n].

    Of rows that are equally near in the reference any will do, such as those of equal images.

    Args:
        reference: Rows of one length, [n, values], n at least 2.
        test: The same of the test.

    Raises:
        MismatchError: The shapes differ.
    """
    if reference.shape != test.shape:
        raise MismatchError(_mismatch(reference, test))
    same = np.empty(len(reference), np.bool_)
    for start in range(0, len(reference), _ROWS_AT_ONCE):
        rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(reference)))
        wanted, found = _products(reference, rows), _products(test, rows)
        chosen = np.take_along_axis(wanted, found.argmax(1)[:, np.newaxis], 1)[:, 0]
        same[rows] = chosen >= wanted.max(1) - _AS_NEAR
    return same


def _products(table: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the products of some rows with all, [rows, n]; minus infinity with themselves."""
    products: NDArray[np.float64] = (table[rows] @ table.T).astype(np.float64)
    products[np.arange(len(rows)), rows] = -np.inf
    return products


def box_ious(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the area in common over the area in all, of boxes x1, y1, x2, y2: [len(a), len(b)]."""
    low = np.maximum(a[:, np.newaxis, :2], b[:, :2])
    high = np.minimum(a[:, np.newaxis, 2:], b[:, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1) for boxes in (a, b)]
    union = areas[0][:, np.newaxis] + areas[1] - common
    ious: NDArray[np.float64] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return ious


def detection_agreement(reference: Boxes, test: Boxes) -> float:
    """Return 2 * pairs / (detections of the reference + of the test), in [0, 1]; 1 without any.

    A pair has one class and an IoU of at least .5. Each detection is in at most one: those of the
    test choose one after another, the best first.

    Args:
        reference: Boxes x1, y1, x2, y2, [n, 4], and the class of each, [n].
        test: The same of the test, best first.
    """
    alike = box_ious(reference[0], test[0]) * (reference[1][:, np.newaxis] == test[1])
    pairs = 0
    for candidates in alike.T:
        best = int(candidates.argmax()) if candidates.size else 0
        if candidates.size and candidates[best] >= _SAME_BOX:
            pairs += 1
            alike[best] = 0
    total = len(reference[0]) + len(test[0])
    return 2 * pairs / total if total else 1.0


def _flat_pair(
    reference: NDArray[Any], test: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if reference.shape != test.shape:
        raise MismatchError(_mismatch(reference, test))
    return reference.ravel().astype(np.float64), test.ravel().astype(np.float64)


def _mismatch(reference: NDArray[Any], test: NDArray[Any]) -> str:
    return (
        f"outputs of shapes {list(reference.shape)} and {list(test.shape)} cannot be compared; "
        "run both models on the same inputs, or judge by labels where the number of rows varies"
    )
