"""Scales, zero-points and rounding. Pure arrays, no I/O.

The affine scheme of ONNX QuantizeLinear: ``q = clip(round_half_even(x / scale) + zero_point)`` and
``x' = (q - zero_point) * scale``.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST_SCALE = np.float32(2.0**-60)
"""A tensor of zeros gets this scale, so that no division by zero can follow."""


@dataclass(frozen=True)
class QuantizationParameters:
    """Scale and zero-point of a tensor.

    Attributes:
        scale: float32, a scalar or [channels].
        zero_point: int8 or uint8 of the same shape; its dtype is the dtype of the codes.
    """

    scale: NDArray[Any]
    zero_point: NDArray[Any]


def symmetric(low: float, high: float) -> QuantizationParameters:
    """Return int8 parameters with zero-point 0 over [-127, 127] steps for the range [low, high]."""
    limit = max(abs(low), abs(high))
    scale = np.maximum(np.float32(limit / 127), SMALLEST_SCALE)
    return QuantizationParameters(np.array(scale, np.float32), np.array(0, np.int8))


def asymmetric(low: float, high: float) -> QuantizationParameters:
    """Return uint8 parameters over 255 steps for the range [low, high] widened to hold zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.maximum(np.float32((high - low) / 255), SMALLEST_SCALE)
    zero_point = np.clip(np.rint(-low / scale), 0, 255)
    return QuantizationParameters(np.array(scale, np.float32), np.array(zero_point, np.uint8))


def per_channel_symmetric(
    weight: NDArray[Any], axis: int | None, bits: int = 8
) -> QuantizationParameters:
    """Return int8 parameters with zero-point 0 from the largest magnitude of each channel.

    Args:
        weight: The float weights, any shape.
        axis: Channel axis, or None for one scale.
        bits: 8 for codes in [-127, 127], 7 for [-63, 63].
    """
    others = None if axis is None else tuple(i for i in range(weight.ndim) if i != axis)
    limit = np.abs(weight).max(axis=others) / (2 ** (bits - 1) - 1)
    scale = np.maximum(limit.astype(np.float32), SMALLEST_SCALE)
    return QuantizationParameters(scale, np.zeros(scale.shape, np.int8))


def quantize(
    array: NDArray[Any], parameters: QuantizationParameters, axis: int | None = None
) -> NDArray[Any]:
    """Return the integer codes of `array`, saturated to the range of the zero-point's dtype."""
    scale, zero_point = _along(parameters, array.ndim, axis)
    limits = np.iinfo(parameters.zero_point.dtype)
    codes: NDArray[Any] = np.clip(np.rint(array / scale) + zero_point, limits.min, limits.max)
    return codes.astype(parameters.zero_point.dtype)


def dequantize(
    codes: NDArray[Any], parameters: QuantizationParameters, axis: int | None = None
) -> NDArray[Any]:
    """Return the float32 values that `codes` stand for."""
    scale, zero_point = _along(parameters, codes.ndim, axis)
    values: NDArray[Any] = (codes.astype(np.float32) - zero_point) * scale
    return values


def _along(
    parameters: QuantizationParameters, rank: int, axis: int | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return scale and zero-point shaped to broadcast along `axis` of a tensor of `rank`."""
    zero_point = parameters.zero_point.astype(np.float32)
    if axis is None:
        return parameters.scale, zero_point
    shape = [1] * rank
    shape[axis] = -1
    return parameters.scale.reshape(shape), zero_point.reshape(shape)
