"""Round weights so that their errors cancel in the layer's output. Pure arrays.

Rounding each weight to the nearest code is best for the weights, not for what they compute: inputs
of a layer are correlated, so the error of one weight can be made good by its neighbours (Frantar et
al., "GPTQ", 2022, after Hassibi and Stork, "Optimal Brain Surgeon", 1993).
"""

from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qbench.quantization.product_pairs import MOST_OF_A_PAIR

_LIMIT = 127
"""Largest magnitude of a code."""

_MORE_DAMPING = (0.003, 0.03, 0.3, 3.0)
"""Shares of the mean variance that are added to every variance, until there is an inverse."""

_BLOCK = 32
"""Inputs whose errors are passed on together: few enough to stay in the cache with 4096 outputs."""

_SMALL = 64
"""Size of matrices that LAPACK factors and inverts."""


def compensated_codes(
    weight: NDArray[Any],
    covariance: NDArray[Any],
    scale: NDArray[Any],
    partners: NDArray[np.intp] | None = None,
) -> NDArray[np.int8]:
    """Return the codes of a layer's weights, the inputs that vary most rounded first.

    Args:
        weight: [groups, outputs, inputs].
        covariance: Of the inputs, [groups, inputs, inputs].
        scale: [groups, outputs].
        partners: Which input each is paired with, [inputs], as `product_pairs` says; None where the
            sums of pairs do not matter.
    """
    order = np.argsort(-np.einsum("gkk->gk", covariance), axis=1)
    # Inputs come first within a group, so that what is rounded at a time lies together.
    wide = weight.transpose(0, 2, 1).astype(np.float64)
    left = np.take_along_axis(wide, order[:, :, None], axis=1)
    passed_on = _inverse_factor(covariance, order)
    back = np.argsort(order, axis=1)
    codes = np.zeros(left.shape, np.int8)
    room = _Room(codes, None if partners is None else np.take_along_axis(back, partners[order], 1))
    for start in range(0, left.shape[1], _BLOCK):
        block = slice(start, min(start + _BLOCK, left.shape[1]))
        errors = _round(left[:, block], passed_on[:, block, block], scale, room, start)
        left[:, block.stop :] -= passed_on[:, block, block.stop :].transpose(0, 2, 1) @ errors
    return np.take_along_axis(codes, back[:, :, None], axis=1).transpose(0, 2, 1)


def _inverse_factor(covariance: NDArray[Any], order: NDArray[Any]) -> NDArray[Any]:
    """Return the upper triangular U with U^T U = the inverse of the damped, reordered covariance.

    Row k over its diagonal says how an error at input k is passed on to the inputs after it. With
    inputs in reverse, the covariance is L L^T, and the inverse of L, reversed again, is U. There is
    as little damping as suffices: sums in float32 over inputs that all go together, as those of a
    few images may, give variances below 0 in other directions; of huge values they are infinite,
    and nothing is passed on.
    """
    for damping in _MORE_DAMPING if np.isfinite(covariance).all() else ():
        with suppress(np.linalg.LinAlgError):
            factor = _damped(covariance, order[:, ::-1], damping)
            _invert_factor(factor)
            return factor[:, ::-1, ::-1]
    return np.broadcast_to(np.eye(covariance.shape[1]), covariance.shape)


def _damped(covariance: NDArray[Any], order: NDArray[Any], damping: float) -> NDArray[Any]:
    """Return a float64 copy with rows and columns in `order`, and a little more on the diagonal."""
    groups = np.arange(len(covariance))[:, None, None]
    damped: NDArray[Any] = covariance[groups, order[:, :, None], order[:, None, :]]
    damped = damped.astype(np.float64)
    diagonal = np.einsum("gkk->gk", damped)
    diagonal += damping * diagonal.mean(axis=1, keepdims=True) + np.finfo(np.float32).tiny
    return damped


def _invert_factor(matrix: NDArray[Any]) -> None:
    """Overwrite matrices, [groups, n, n], with the inverses of their Cholesky factors.

    In place and half by half: of 2304 inputs a matrix takes 42 MB, and the two cores that round
    layers side by side would hold four of them each.

    Raises:
        LinAlgError: A matrix is not positive definite.
    """
    size = matrix.shape[1]
    if size <= _SMALL:
        matrix[:] = np.linalg.inv(np.linalg.cholesky(matrix))
        return
    first, last = slice(size // 2), slice(size // 2, size)
    _invert_factor(matrix[:, first, first])
    below = matrix[:, last, first] @ matrix[:, first, first].transpose(0, 2, 1)  # of the factor
    matrix[:, last, last] -= below @ below.transpose(0, 2, 1)
    _invert_factor(matrix[:, last, last])
    matrix[:, last, first] = -matrix[:, last, last] @ (below @ matrix[:, first, first])
    matrix[:, first, last] = 0


class _Room(NamedTuple):
    """What limits a code.

    Attributes:
        codes: Those found so far, and zeros, int8 [groups, inputs, outputs].
        partners: Which input each is paired with, [groups, inputs], or None.
    """

    codes: NDArray[np.int8]
    partners: NDArray[np.intp] | None

    def at(self, index: int) -> tuple[Any, Any]:
        """Return the least and the greatest code of an input, numbers or [groups, outputs]."""
        if self.partners is None:
            return -_LIMIT, _LIMIT
        beside = self.codes[np.arange(len(self.codes)), self.partners[:, index]].astype(np.float64)
        least = np.maximum(-_LIMIT, -MOST_OF_A_PAIR - np.minimum(beside, 0))
        return least, np.minimum(_LIMIT, MOST_OF_A_PAIR - np.maximum(beside, 0))


def _round(
    part: NDArray[Any], passed_on: NDArray[Any], scale: NDArray[Any], room: _Room, start: int
) -> NDArray[Any]:
    """Round `part`, which is changed, input by input; return the errors to pass on.

    Args:
        part: [groups, inputs, outputs].
        passed_on: [groups, inputs, inputs].
        scale: [groups, outputs].
        room: Of all inputs; its codes are written.
        start: The first input of `part` among these.
    """
    errors = np.empty(part.shape)
    for k in range(part.shape[1]):
        codes = np.clip(np.rint(part[:, k] / scale), *room.at(start + k))
        room.codes[:, start + k] = codes
        errors[:, k] = (part[:, k] - codes * scale) / passed_on[:, k, k, None]
        part[:, k + 1 :] -= passed_on[:, k, k + 1 :, None] * errors[:, k, None]
    return errors
