"""Turn a decoded image into the array that a recipe describes."""

from dataclasses import dataclass
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from qbench.data.recipes import Recipe
from qbench.errors import DataError

Pixels = NDArray[np.uint8]
"""An image of [height, width, channels]."""

NO_CLASS = 255
"""Class index of pixels that do not count."""


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
    image_size: tuple[int, int], size: tuple[int, int], recipe: Recipe
) -> Letterbox:
    """Return where an image of `image_size` lies in a picture of `size`, both (height, width)."""
    scale = min(size[0] / image_size[0], size[1] / image_size[1])
    whole = int if recipe.rounding == "down" else round
    height, width = (max(1, whole(side * scale)) for side in image_size)
    if recipe.pad == "top-left":
        return Letterbox(scale, 0, 0, height, width)
    return Letterbox(scale, (size[1] - width) // 2, (size[0] - height) // 2, height, width)


def boxes_in_image(
    boxes: NDArray[np.float64], image_size: tuple[int, int], size: tuple[int, int], recipe: Recipe
) -> NDArray[np.float64]:
    """Return boxes in pixels of the image, given those in pixels of the array made from it.

    Args:
        boxes: x1, y1, x2, y2 in the array, [n, 4].
        image_size: Height and width of the image.
        size: Height and width of the array.
        recipe: What made the array.

    Raises:
        DataError: The recipe crops, so that what lies outside could never be found.
    """
    if recipe.resize == "crop":
        raise DataError(
            f"recipe {recipe.name!r} crops images, so that boxes at their edges cannot be found; "
            'give a recipe with resize = "letterbox" or "stretch"'
        )
    if recipe.resize == "stretch":
        scale, offset = np.divide(size, image_size)[::-1], np.zeros(2)
    else:
        box = letterbox_geometry(image_size, size, recipe)
        scale, offset = np.full(2, box.scale), np.array([box.left, box.top])
    corners: NDArray[np.float64] = (boxes.reshape(-1, 2) - offset) / scale
    return corners.reshape(-1, 4)


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
    table, is_nchw = _table(recipe), recipe.layout == "nchw"
    shape = (recipe.channels, *size) if is_nchw else (*size, recipe.channels)
    result = np.empty((1, *shape), dtype=recipe.dtype)
    for channel in range(recipe.channels):
        plane = result[0, channel] if is_nchw else result[0, ..., channel]
        plane[...] = np.take(table[channel], pixels[..., channel], mode="clip")
    return result


def preprocess_mask(mask: Pixels, recipe: Recipe, size: tuple[int, int]) -> Pixels:
    """Return a map of class indices, [height, width], moved as the image it belongs to.

    The border of a letterboxed image becomes `NO_CLASS`.
    """
    changes: dict[str, Any] = {"interpolation": "nearest"}
    if recipe.resize == "letterbox":
        changes["pad_value"] = NO_CLASS
    moved = msgspec.structs.replace(recipe, **changes)
    return _RESIZERS[recipe.resize](np.dstack([mask] * 3), moved, size)[..., 0]


def _table(recipe: Recipe) -> NDArray[Any]:
    """Return ``(value * scale - mean) / std`` of each value of a pixel, [channels, values]."""
    scale, mean, std = (
        np.broadcast_to(np.asarray(value, dtype=np.float64), recipe.channels)[:, np.newaxis]
        for value in (recipe.scale, recipe.mean, recipe.std)
    )
    table: NDArray[Any] = ((np.arange(256) * scale - mean) / std).astype(recipe.dtype)
    return table


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
    box = letterbox_geometry((height, width), size, recipe)
    picture = np.full((*size, 3), recipe.pad_value, dtype=np.uint8)
    inside = picture[box.top : box.top + box.height, box.left : box.left + box.width]
    inside[...] = _stretched(image, recipe, (box.height, box.width))
    return picture


_RESIZERS = {"stretch": _stretched, "crop": _cropped, "letterbox": _letterboxed}
_FILTERS = {
    # Pixels are taken at their centres as with the others; plain INTER_NEAREST is half a pixel off.
    "nearest": cv2.INTER_NEAREST_EXACT,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
}


def _pixels(image: Any) -> Pixels:
    """Return an array from OpenCV, whose stubs leave the element type open, with its type."""
    return np.asarray(image, dtype=np.uint8)
