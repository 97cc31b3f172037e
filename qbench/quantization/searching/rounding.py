"""Round weights so that their errors cancel in the layer's output. Pure arrays.

Rounding each weight to the nearest code is best for the weights, not for what they compute: inputs
of a layer are correlated, so the error of one weight can be made good by its neighbours (Frantar et
al., "GPTQ", 2022, after Hassibi and Stork, "Optimal Brain Surgeon", 1993).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_DAMPING = 0.01
"""Share of the mean variance that is added to every variance: samples are few."""

_BLOCK = 128
"""Inputs whose errors are passed on together."""


def compensated_codes(
    weight: NDArray[Any], covariance: NDArray[Any], scale: NDArray[Any], limit: int
) -> NDArray[np.int8]:
    """Return the codes of a layer's weights, the inputs that vary most rounded first.

    Args:
        weight: [groups, outputs, inputs].
        covariance: Of the inputs, [groups, inputs, inputs].
        scale: [groups, outputs].
        limit: Largest magnitude of a code.
    """
    order = np.argsort(-np.einsum("gkk->gk", covariance), axis=1)
    left = np.take_along_axis(weight.astype(np.float64), order[:, None, :], axis=2)
    passed_on = _inverse_factor(covariance, order)
    codes = np.empty(weight.shape, np.int8)
    for start in range(0, weight.shape[2], _BLOCK):
        block = slice(start, min(start + _BLOCK, weight.shape[2]))
        part = left[:, :, block]
        codes[:, :, block], errors = _round(part, passed_on[:, block, block], scale, limit)
        left[:, :, block.stop :] -= errors @ passed_on[:, block, block.stop :]
    back = np.argsort(order, axis=1)
    return np.take_along_axis(codes, back[:, None, :], axis=2)


def _inverse_factor(covariance: NDArray[Any], order: NDArray[Any]) -> NDArray[Any]:
    """Return the upper triangular U with U^T U = the inverse of the damped, reordered covariance.

    Row k over its diagonal says how an error at input k is passed on to the inputs after it.
    """
    rows = np.take_along_axis(covariance.astype(np.float64), order[:, :, None], axis=1)
    damped = np.take_along_axis(rows, order[:, None, :], axis=2)
    diagonal = np.einsum("gkk->gk", damped)
    diagonal += _DAMPING * diagonal.mean(axis=1, keepdims=True) + np.finfo(np.float32).tiny
    lower = np.linalg.cholesky(np.linalg.inv(damped))
    return lower.transpose(0, 2, 1)


def _round(
    part: NDArray[Any], passed_on: NDArray[Any], scale: NDArray[Any], limit: int
) -> tuple[NDArray[np.int8], NDArray[Any]]:
    """Round `part`, which is changed, input by input; return codes and errors to pass on."""
    codes, errors = np.empty(part.shape, np.int8), np.empty(part.shape)
    for k in range(part.shape[2]):
        codes[:, :, k] = np.clip(np.rint(part[:, :, k] / scale), -limit, limit)
        error = part[:, :, k] - codes[:, :, k] * scale
        errors[:, :, k] = error / passed_on[:, k, k, None]
        part[:, :, k + 1 :] -= errors[:, :, k, None] * passed_on[:, k, None, k + 1 :]
    return codes, errors
