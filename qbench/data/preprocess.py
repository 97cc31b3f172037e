"""Turn a decoded image into the array that a recipe describes."""

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from qbench.data.recipes import Recipe

Pixels = NDArray[np.uint8]
"""An image of [height, width, channels]."""


@dataclass(frozen=True)
class Letterbox:
    """Where a letterboxed image lies: ``x = (x_boxed - left) / scale``, likewise y with `top`.

    Attributes:
        scale: Pixels of the result per pixel of the image.
        left: Columns of border to its left.
        top: Rows of border above it.
        height: Rows that the image takes.
        width: Columns that the image takes.
    """

    scale: float
    left: int
    top: int
    height: int
    width: int


def letterbox_geometry(
    image_size: tuple[int, int],
    size: tuple[int, int],
    pad: Literal["centre", "top-left"],
) -> Letterbox:
    """Return where an image of `image_size` lies in a picture of `size`, both (height, width)."""
    scale = min(size[0] / image_size[0], size[1] / image_size[1])
    height, width = (max(1, round(side * scale)) for side in image_size)
    if pad == "top-left":
        return Letterbox(scale, 0, 0, height, width)
    return Letterbox(scale, (size[1] - width) // 2, (size[0] - height) // 2, height, width)


def preprocess(image: Pixels, recipe: Recipe, size: tuple[int, int]) -> NDArray[Any]:
    """Return the input array of one image.

    Args:
        image: [height, width, 3] BGR, as OpenCV decodes it.
        recipe: What to do with it.
        size: Height and width of the result, from `check_recipe`.

    Returns:
        A contiguous array of [1, channels, height, width], or [1, height, width, channels].
    """
    pixels = _recoloured(_RESIZERS[recipe.resize](image, recipe, size), recipe.colour)
    # Pixels have 256 values, so a table gives the formula in float64, rounded once, at little cost.
    table = _normalized(np.arange(256), recipe)
    axis = 0 if recipe.layout == "nchw" else 2
    shape = np.insert(size, axis, recipe.channels)
    result = np.empty((1, *shape), dtype=recipe.dtype)
    for channel in range(recipe.channels):
        plane = np.moveaxis(result[0], axis, 0)[channel]
        plane[...] = np.take(table[channel], pixels[..., channel], mode="clip")
    return result


def _normalized(values: NDArray[np.int_], recipe: Recipe) -> NDArray[Any]:
    """Return ``(value * scale - mean) / std`` as [channels, values]."""
    scale, mean, std = (
        np.broadcast_to(np.asarray(value, dtype=np.float64), recipe.channels)[:, np.newaxis]
        for value in (recipe.scale, recipe.mean, recipe.std)
    )
    return ((values * scale - mean) / std).astype(recipe.dtype)


def _recoloured(image: Pixels, colour: str) -> Pixels:
    if colour == "gray":
        return _pixels(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))[..., np.newaxis]
    return image[..., ::-1] if colour == "rgb" else image


def _stretched(image: Pixels, recipe: Recipe, size: tuple[int, int]) -> Pixels:
    height, width = size
    return _pixels(cv2.resize(image, (width, height), interpolation=_FILTERS[recipe.interpolation]))


def _cropped(image: Pixels, recipe: Recipe, size: tuple[int, int]) -> Pixels:
    height, width = image.shape[:2]
    # Rounded down, so that the crop never exceeds its share.
    rows = max(1, int(recipe.crop_fraction * min(height, width * size[0] / size[1])))
    columns = max(1, int(recipe.crop_fraction * min(width, height * size[1] / size[0])))
    top, left = (height - rows) // 2, (width - columns) // 2
    return _stretched(image[top : top + rows, left : left + columns], recipe, size)


def _letterboxed(image: Pixels, recipe: Recipe, size: tuple[int, int]) -> Pixels:
    height, width = image.shape[:2]
    box = letterbox_geometry((height, width), size, recipe.pad)
    picture = np.full((*size, 3), recipe.pad_value, dtype=np.uint8)
    inside = picture[box.top : box.top + box.height, box.left : box.left + box.width]
    inside[...] = _stretched(image, recipe, (box.height, box.width))
    return picture


_RESIZERS = {"stretch": _stretched, "crop": _cropped, "letterbox": _letterboxed}
_FILTERS = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
}


def _pixels(image: Any) -> Pixels:
    """Return an array from OpenCV, whose stubs leave the element type open, with its type."""
    return np.asarray(image, dtype=np.uint8)
