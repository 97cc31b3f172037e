import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from qbench.data.preprocess import (
    NO_CLASS,
    boxes_in_image,
    letterbox_geometry,
    preprocess,
    preprocess_mask,
)
from qbench.data.recipes import Recipe
from qbench.errors import DataError

sides = st.integers(1, 300)


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_channel_order_and_layout() -> None:
    image = noise(4, 6)
    planes = np.moveaxis(image, 2, 0)[np.newaxis].astype(np.float32)
    assert np.array_equal(preprocess(image, Recipe(colour="bgr"), (4, 6)), planes)
    assert np.array_equal(preprocess(image, Recipe(colour="rgb"), (4, 6)), planes[:, ::-1])
    interleaved = preprocess(image, Recipe(colour="bgr", layout="nhwc"), (4, 6))
    assert np.array_equal(interleaved[0], image.astype(np.float32))


def test_gray_weighs_the_channels() -> None:
    image = np.zeros((2, 2, 3), dtype=np.uint8)
    image[0, 0] = (0, 0, 255)  # red in BGR
    gray = preprocess(image, Recipe(colour="gray"), (2, 2))
    assert gray.shape == (1, 1, 2, 2)
    assert gray[0, 0, 0, 0] == pytest.approx(0.299 * 255, abs=1)


def test_formula_per_channel() -> None:
    recipe = Recipe(scale=(1 / 255, 0.5, 1), mean=(0.4, 1, 127), std=(0.2, 2, 128))
    image = noise(8, 8)
    rgb = image[..., ::-1].astype(np.float64)
    expected = (rgb * recipe.scale - np.asarray(recipe.mean)) / recipe.std
    result = preprocess(image, recipe, (8, 8))
    assert np.array_equal(result[0], np.moveaxis(expected, 2, 0).astype(np.float32))


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("resize", ["stretch", "crop", "letterbox"])
def test_type_shape_and_contiguity(layout: str, dtype: str, resize: str) -> None:
    recipe = Recipe(layout=layout, dtype=dtype, resize=resize)  # type: ignore[arg-type]
    result = preprocess(noise(31, 17), recipe, (12, 20))
    assert result.shape == ((1, 3, 12, 20) if layout == "nchw" else (1, 12, 20, 3))
    assert result.dtype == dtype
    assert result.flags.c_contiguous


def test_uint8_keeps_pixels() -> None:
    image = noise(5, 5)
    recipe = Recipe(layout="nhwc", colour="bgr", dtype="uint8")
    assert np.array_equal(preprocess(image, recipe, (5, 5))[0], image)


def test_crop_takes_the_centre() -> None:
    image = noise(40, 80)
    recipe = Recipe(resize="crop", crop_fraction=0.5, layout="nhwc", colour="bgr")
    assert np.array_equal(preprocess(image, recipe, (20, 20))[0], image[10:30, 30:50])


def test_crop_to_an_oblong_keeps_the_aspect_ratio() -> None:
    image = noise(40, 80)
    recipe = Recipe(resize="crop", layout="nhwc", colour="bgr")
    assert np.array_equal(preprocess(image, recipe, (40, 20))[0], image[:, 30:50])


@given(height=sides, width=sides, fraction=st.floats(0.001, 1), rows=sides, columns=sides)
def test_crop_never_leaves_the_image(
    height: int, width: int, fraction: float, rows: int, columns: int
) -> None:
    image = np.full((height, width, 3), 9, dtype=np.uint8)
    recipe = Recipe(resize="crop", crop_fraction=fraction)
    result = preprocess(image, recipe, (rows, columns))
    assert result.shape == (1, 3, rows, columns)
    assert (result == 9).all()


@pytest.mark.parametrize(("pad", "left"), [("centre", 4), ("top-left", 0)])
def test_letterbox_position_and_border(pad: str, left: int) -> None:
    recipe = Recipe(resize="letterbox", pad=pad, pad_value=77)  # type: ignore[arg-type]
    image = np.full((16, 8, 3), 200, dtype=np.uint8)
    result = preprocess(image, recipe, (16, 16))[0, 0]
    assert (result[:, left : left + 8] == 200).all()
    assert (np.delete(result, np.s_[left : left + 8], axis=1) == 77).all()


@given(height=sides, width=sides, rows=sides, columns=sides)
def test_letterbox_lies_inside_and_touches_two_sides(
    height: int, width: int, rows: int, columns: int
) -> None:
    box = letterbox_geometry((height, width), (rows, columns), Recipe(resize="letterbox"))
    assert box.top >= 0
    assert box.left >= 0
    assert box.top + box.height <= rows
    assert box.left + box.width <= columns
    assert box.height == rows or box.width == columns
    assert abs((rows - box.height - box.top) - box.top) <= 1
    assert abs((columns - box.width - box.left) - box.left) <= 1


def test_letterbox_maps_points_back() -> None:
    image = np.zeros((60, 100, 3), dtype=np.uint8)
    image[30:34, 70:74] = 255
    recipe = Recipe(resize="letterbox", pad_value=0)
    box = letterbox_geometry((60, 100), (320, 320), recipe)
    result = preprocess(image, recipe, (320, 320))[0, 0]
    ys, xs = np.nonzero(result > 128)
    assert (xs.mean() + 0.5 - box.left) / box.scale == pytest.approx(72, abs=0.3)
    assert (ys.mean() + 0.5 - box.top) / box.scale == pytest.approx(32, abs=0.3)


@pytest.mark.parametrize(("rounding", "height"), [("nearest", 277), ("down", 276)])
def test_letterbox_rounds_as_the_recipe_says(rounding: str, height: int) -> None:
    recipe = Recipe(resize="letterbox", rounding=rounding)  # type: ignore[arg-type]
    assert letterbox_geometry((426, 640), (416, 416), recipe).height == height  # of 276.9


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(resize="stretch", pad_value=114),
        Recipe(resize="letterbox", pad_value=0),
        Recipe(resize="letterbox", pad_value=0, pad="top-left", rounding="down"),
    ],
)
def test_boxes_map_back_to_the_image(recipe: Recipe) -> None:
    image = np.zeros((60, 100, 3), dtype=np.uint8)
    image[20:40, 50:90] = 255
    result = preprocess(image, recipe, (240, 320))[0, 0]
    ys, xs = np.nonzero(result > 128)
    box = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], np.float64)
    found = boxes_in_image(box, (60, 100), (240, 320), recipe)
    np.testing.assert_allclose(found, [[50, 20, 90, 40]], atol=0.4)


def test_boxes_of_a_cropped_image() -> None:
    recipe = Recipe(name="mine", resize="crop")
    with pytest.raises(DataError, match="recipe 'mine' crops images, so that boxes at their edges"):
        boxes_in_image(np.zeros((1, 4)), (9, 9), (9, 9), recipe)


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("nearest", cv2.INTER_NEAREST_EXACT),
        ("bilinear", cv2.INTER_LINEAR),
        ("bicubic", cv2.INTER_CUBIC),
        ("area", cv2.INTER_AREA),
    ],
)
def test_interpolation(name: str, flag: int) -> None:
    image = noise(30, 30)
    recipe = Recipe(interpolation=name, layout="nhwc", colour="bgr")  # type: ignore[arg-type]
    assert np.array_equal(
        preprocess(image, recipe, (13, 17))[0], cv2.resize(image, (17, 13), interpolation=flag)
    )


@pytest.mark.parametrize("resize", ["stretch", "crop", "letterbox"])
def test_a_mask_moves_as_its_image(resize: str) -> None:
    recipe = Recipe(resize=resize, interpolation="nearest", layout="nhwc")  # type: ignore[arg-type]
    mask = np.arange(12, dtype=np.uint8).repeat(4)[None].repeat(20, axis=0)
    image = preprocess(np.dstack([mask] * 3), recipe, (24, 24))[0, ..., 0]
    moved = preprocess_mask(mask, recipe, (24, 24))
    inside = moved != NO_CLASS
    assert np.array_equal(moved[inside], image[inside])
    assert inside.all() == (resize != "letterbox")
    smooth = Recipe(resize=resize)  # type: ignore[arg-type]
    assert np.array_equal(preprocess_mask(mask, smooth, (24, 24)), moved)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_mask_takes_the_pixels_at_the_centres_of_the_new_ones(size: int) -> None:
    """There a smooth filter of the image is centred; others lie left of it and above."""
    mask = np.tile(np.arange(15, dtype=np.uint8), (15, 1))
    centres = (np.arange(size) + 0.5) * 15 / size
    for turned in (mask, mask.T):
        moved = preprocess_mask(turned, Recipe(), (size, size))
        assert (moved[0] if turned is mask else moved[:, 0]).tolist() == [int(c) for c in centres]
