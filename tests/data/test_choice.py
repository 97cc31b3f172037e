import logging
from pathlib import Path

import pytest

from qbench.data.choice import DataChoice, guess_recipe, prepared_alike
from qbench.data.recipes import Recipe
from qbench.errors import DataError


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("efficientnet_lite0.onnx", "efficientnet-lite"),
        ("yolox_nano_416.onnx", "yolox"),
        ("yolov8n.onnx", "yolov8"),
        ("ResNet50.onnx", "imagenet"),
    ],
)
def test_a_recipe_is_guessed_from_the_name_aloud(
    name: str, recipe: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert guess_recipe(Path(name)) == recipe
    assert f"no --recipe given: '{recipe}' is assumed" in caplog.text


SMALL = Recipe(name="own", size=(32, 32), scale=0.5)


@pytest.mark.parametrize(
    ("recipe", "size", "expected"),
    [
        (None, None, (32, 32)),
        (None, (64, 64), (64, 64)),  # said with --size
        (Recipe(name="own", scale=0.5), None, (32, 32)),
        (Recipe(name="own", scale=0.5, size=32), (32, 32), (32, 32)),
        (Recipe(name="own", scale=0.5, dynamic_size=96), None, (32, 32)),
    ],
)
def test_images_are_prepared_as_for_calibration_in_any_size(
    recipe: Recipe | None, size: tuple[int, int] | None, expected: tuple[int, int]
) -> None:
    found = prepared_alike(DataChoice("imgs", recipe, size), None, SMALL).recipe
    assert isinstance(found, Recipe)
    assert (found.size, found.scale) == (expected, 0.5)


def test_images_prepared_otherwise_than_for_calibration_are_refused() -> None:
    with pytest.raises(DataError, match="by recipe 'unnamed', but calibration used 'own'; drop"):
        prepared_alike(DataChoice("imgs", Recipe()), None, SMALL)
