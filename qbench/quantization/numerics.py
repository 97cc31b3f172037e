"""Scales, zero-points and rounding. Pure arrays, no I/O.

The affine scheme of ONNX QuantizeLinear: ``q = clip(round_half_even(x / scale) + zero_point)`` and
``x' = (q - zero_point) * scale``. Codes are integers, or FP8 numbers in which rounding is that of
their own format.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike, NDArray

from qbench.errors import QuantizationError

SMALLEST_SCALE = np.float32(2.0**-60)
"""Scales are no smaller, so that no division by zero can follow."""

_SCALE_OF_ZEROS = 2.0**-16
"""Of an activation that is zero throughout: a bias behind it, in steps of this times the weights'
scales, mostly fits into int32 and loses nothing that counts."""

FLOAT8 = np.dtype(ml_dtypes.float8_e4m3fn)
"""FP8 E4M3: 4 bits of exponent, 3 of mantissa, no infinity, at most 448."""

INT4 = np.dtype(ml_dtypes.int4)

_LIMITS = {
    np.dtype(np.int8): (-128, 127),
    np.dtype(np.uint8): (0, 255),
    INT4: (-8, 7),
    FLOAT8: (-448, 448),
}
"""Smallest and largest code of each type."""

_SHRINKAGES = np.linspace(1.0, 0.6, 9, dtype=np.float32)
"""Shares of a block's largest magnitude that are tried as its range."""

_BLOCK_VALUES = 1 << 17

_LOPSIDED = 0.8
"""An offset must make the steps of a range at least this much smaller."""


@dataclass(frozen=True)
class QuantizationParameters:
    """Scale and zero-point of a tensor.

    Attributes:
        scale: float32, a scalar, [channels], or of the tensor's rank with one entry for every
            block of values along an axis.
        zero_point: Of the same shape; its dtype is the dtype of the codes: int8, uint8, int4, or
            FP8, whose zero-point is 0.
    """

    scale: NDArray[Any]
    zero_point: NDArray[Any]


def symmetric(low: float, high: float) -> QuantizationParameters:
    """Return int8 parameters with zero-point 0 over [-127, 127] steps for the range [low, high]."""
    return _around_zero(max(abs(low), abs(high)) / 127 or _SCALE_OF_ZEROS, np.int8)


def with_offset(low: float, high: float) -> QuantizationParameters:
    """Return int8 parameters that use all 256 codes for the range [low, high], widened to hold 0.

    The zero-point is 0 where that would gain little, since the range is nearly symmetric.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low >= _LOPSIDED * 2 * max(-low, high):
        return symmetric(low, high)
    unsigned = asymmetric(low, high)
    return QuantizationParameters(
        unsigned.scale, (unsigned.zero_point.astype(np.int16) - 128).astype(np.int8)
    )


def float8(low: float, high: float) -> QuantizationParameters:
    """Return FP8 parameters that map the largest magnitude of the range [low, high] to 448."""
    return _around_zero(max(abs(low), abs(high)) / 448, FLOAT8)


def asymmetric(low: float, high: float) -> QuantizationParameters:
    """Return uint8 parameters over 255 steps for the range [low, high] widened to hold zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.maximum(np.float32((high - low) / 255 or _SCALE_OF_ZEROS), SMALLEST_SCALE)
    zero_point = np.clip(np.rint(-low / scale), 0, 255)
    return QuantizationParameters(np.array(scale, np.float32), np.array(zero_point, np.uint8))


def per_channel_symmetric(
    weight: NDArray[Any], axis: int | None, least: NDArray[Any] | None = None
) -> QuantizationParameters:
    """Return int8 parameters with zero-point 0 from the largest magnitude of each channel.

    Args:
        weight: The float weights, any shape.
        axis: Channel axis, or None for one scale.
        least: Magnitudes, [channels], that have to fit into 127 steps, too.

    Raises:
        QuantizationError: A weight is NaN or infinite; so do those below.
    """
    largest = _largest(weight, axis)
    if least is not None:
        largest = np.maximum(largest, least if axis is not None else least.max())
    return _around_zero(largest / 127, np.int8)


def per_channel_float8(weight: NDArray[Any], axis: int | None) -> QuantizationParameters:
    """Return FP8 parameters from the largest magnitude of each channel, as those for int8."""
    return _around_zero(_largest(weight, axis) / 448, FLOAT8)


def per_block_int4(weight: NDArray[Any], axis: int, block: int) -> QuantizationParameters:
    """Return int4 parameters with zero-point 0 for every `block` values along `axis`.

    A block's scale is the one among a few with the least squared error: with 15 steps, clipping the
    largest weight can pay.

    Args:
        weight: The float weights; `block` divides their size along `axis`.
        axis: The axis along which products are summed up.
        block: Values that share a scale.
    """
    moved = np.moveaxis(weight, axis, -1)
    scale = np.empty((*moved.shape[:-1], moved.shape[-1] // block), np.float32)
    for rows in row_blocks(moved):
        part = np.ascontiguousarray(moved[rows])
        scale[rows] = _best_int4_scale(part.reshape(*part.shape[:-1], -1, block))
    scale = np.moveaxis(scale, -1, axis)
    return QuantizationParameters(scale, np.zeros(scale.shape, INT4))


def _best_int4_scale(blocks: NDArray[Any]) -> NDArray[Any]:
    """Return the scale of each block; blocks are along the last axis."""
    full = _around_zero(np.abs(blocks).max(axis=-1) / 7, INT4).scale
    best, least = full, np.full(full.shape, np.inf, np.float32)
    steps = np.empty(blocks.shape, np.float32)
    for share in _SHRINKAGES:
        scale = (full * share)[..., None]
        np.rint(np.divide(blocks, scale, out=steps), out=steps)
        np.clip(steps, -8, 7, out=steps)
        steps *= scale
        steps -= blocks
        error = np.einsum("...k,...k->...", steps, steps)
        best = np.where(error < least, scale[..., 0], best)
        least = np.minimum(error, least)
    return best


def _around_zero(scale: Any, dtype: DTypeLike) -> QuantizationParameters:
    scale = np.maximum(np.asarray(scale, np.float32), SMALLEST_SCALE)
    if not np.isfinite(scale).all():
        raise QuantizationError("weights hold NaN or Inf; train or export the model again")
    return QuantizationParameters(np.array(scale, np.float32), np.zeros(scale.shape, dtype))


def _largest(weight: NDArray[Any], axis: int | None) -> NDArray[Any]:
    """Return the largest magnitude of each channel, without a copy of all magnitudes."""
    others = None if axis is None else tuple(i for i in range(weight.ndim) if i != axis)
    largest: NDArray[Any] = np.maximum(weight.max(axis=others), -weight.min(axis=others))
    return largest


def quantize(
    array: NDArray[Any], parameters: QuantizationParameters, axis: int | None = None
) -> NDArray[Any]:
    """Return the codes of `array`, saturated to the range of the zero-point's dtype."""
    codes = np.empty(array.shape, parameters.zero_point.dtype)
    low, high = _LIMITS[codes.dtype]
    has_offset = bool(np.any(parameters.zero_point))
    apart, *both = _side_by_side(array, parameters, axis)
    every = (np.broadcast_to(one, apart.shape) for one in both)
    parts = (apart, *every, codes.reshape(apart.shape))
    values, scale, zero_point, out = (np.atleast_1d(one) for one in parts)
    for rows in row_blocks(values):
        steps = values[rows] / scale[rows]
        if codes.dtype != FLOAT8:  # else the assignment below rounds
            np.rint(steps, out=steps)
        if has_offset:
            steps += zero_point[rows]
        out[rows] = np.clip(steps, low, high, out=steps)
    return codes


def row_blocks(array: NDArray[Any]) -> Iterator[slice]:
    """Yield slices of an array's rows, few enough to stay in the cache through several steps."""
    rows = max(1, _BLOCK_VALUES * len(array) // max(array.size, 1))
    return (slice(start, start + rows) for start in range(0, len(array), rows))


def dequantize(
    codes: NDArray[Any], parameters: QuantizationParameters, axis: int | None = None
) -> NDArray[Any]:
    """Return the float32 values that `codes` stand for."""
    apart, scale, zero_point = _side_by_side(codes, parameters, axis)
    values: NDArray[Any] = apart.astype(np.float32)
    if zero_point.any():
        values -= zero_point
    values *= scale
    return values.reshape(codes.shape)


def _side_by_side(
    array: NDArray[Any], parameters: QuantizationParameters, axis: int | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return an array, scale and zero-point as they broadcast: `axis` is split into blocks."""
    scale, zero_point = parameters.scale, parameters.zero_point.astype(np.float32)
    if axis is None:
        return array, scale, zero_point
    shape = array.shape
    if scale.ndim > 1:
        blocks = scale.shape[axis]
        apart = array.reshape(*shape[:axis], blocks, shape[axis] // blocks, *shape[axis + 1 :])
        return apart, np.expand_dims(scale, axis + 1), np.expand_dims(zero_point, axis + 1)
    channels = [1] * len(shape)
    channels[axis] = -1
    return array, scale.reshape(channels), zero_point.reshape(channels)
