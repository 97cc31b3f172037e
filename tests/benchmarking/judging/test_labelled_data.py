"""What a benchmark feeds its models where no recipe is given."""

from pathlib import Path

import pytest
from colours import write_images

from qbench.benchmarking.judging.labelled_data import LabelledData
from qbench.data.choice import DataChoice
from qbench.data.recipes import Recipe


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
    fed = images.with_recipe(Path(f"{name}.onnx"), Path("yolox_nano.onnx"), None)
    assert isinstance(fed.choice.recipe, Recipe)
    assert fed.choice.recipe.name == recipe
