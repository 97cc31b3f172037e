"""What a benchmark feeds its models where no recipe is given."""

from pathlib import Path

import graphs
import onnx
import pytest
from colours import write_images

from qbench.benchmarking.subject import Feed, LabelledData
from qbench.data.choice import DataChoice
from qbench.model.load import Model, load


def saved(path: Path) -> Model:
    b = graphs.Builder((1, 3, 8, 8))
    onnx.save(b.model(b.conv("conv", b.x, cin=3)), path)
    return load(path)


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("yolox_nano", "yolox"),
        ("int8", "yolox"),  # says nothing, so it is a variant of the first model
        ("efficientnet_lite0", "efficientnet-lite"),
    ],
)
def test_a_name_that_says_nothing_takes_the_recipe_of_the_first_model(
    name: str, recipe: str, tmp_path: Path
) -> None:
    images = LabelledData(DataChoice(write_images(tmp_path / "imgs")))
    first = saved(tmp_path / "yolox_nano.onnx")
    feeding = Feed(images, first).of_model(saved(tmp_path / f"{name}.onnx"), None)
    assert feeding.images is not None
    assert feeding.images.recipe is not None
    assert feeding.images.recipe.name == recipe


def test_paths_may_be_strings(tmp_path: Path) -> None:
    images = LabelledData(DataChoice(str(write_images(tmp_path / "imgs"))), str(tmp_path))
    fed = Feed(images).of_model(saved(tmp_path / "yolox.onnx"), None).images
    assert fed is not None
    assert (fed.path, fed.labels) == (tmp_path / "imgs", tmp_path)
