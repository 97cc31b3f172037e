import logging
from pathlib import Path

import pytest

from qbench.data.choice import guess_recipe


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
