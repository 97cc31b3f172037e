"""Names, shapes and element types of a model's inputs and outputs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Shape = tuple[int | str | None, ...]
"""A dimension is an int where it is fixed, a str where it is named, None where it is unknown."""

_IMAGE_RANK = 4
_COLOURS = {1, 3, 4}


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape and element type of a model input or output.

    The shape is `()` of a scalar, and of an output whose rank the model leaves open.
    """

    name: str
    shape: Shape
    dtype: np.dtype[Any]


def shape_text(shape: Iterable[int | str | None], joint: str = ",") -> str:
    """Return a shape as in `N,3,640,640`; an unknown dimension is a question mark."""
    return joint.join("?" if dim is None else str(dim) for dim in shape)


def is_image(shape: Shape) -> bool:
    """Return whether a shape has the rank of a batch of images."""
    return len(shape) == _IMAGE_RANK


def with_image_size(shape: Shape, size: tuple[int, int] | None) -> Shape:
    """Return the `shape` of an input with `size`, height and width, where an image's are open.

    A shape of another rank is returned as it is.
    """
    if size is None or not is_image(shape):
        return shape
    sides = dict(zip(_side_axes(shape), size, strict=True))
    return tuple(
        dim if isinstance(dim, int) else sides.get(axis, dim) for axis, dim in enumerate(shape)
    )


def open_image_size(shape: Shape, sample: Sequence[int]) -> tuple[int, int] | None:
    """Return height and width of a sample's shape where the input's `shape` leaves one open."""
    if not is_image(shape) or len(sample) != len(shape):
        return None
    height, width = _side_axes(shape)
    is_fixed = isinstance(shape[height], int) and isinstance(shape[width], int)
    return None if is_fixed else (sample[height], sample[width])


def image_size(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Return height and width of a batch of images, [N, C, H, W] or [N, H, W, C]; else None."""
    if not is_image(shape):
        return None
    height, width = _side_axes(shape)
    return shape[height], shape[width]


def _side_axes(shape: Shape) -> tuple[int, int]:
    """Return the axes of height and width.

    The channels come last where the last dimension is fixed and the second is open or counts no
    colours (1, 3 or 4), which the last one does; else second.
    """
    _, second, _, last = shape
    is_last = isinstance(last, int) and (
        not isinstance(second, int) or (last in _COLOURS and second not in _COLOURS)
    )
    return (1, 2) if is_last else (2, 3)
