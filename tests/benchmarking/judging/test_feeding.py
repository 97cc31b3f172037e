"""What is fed and what judges it, as values that are opened where a candidate runs."""

from pathlib import Path

import cv2
import graphs
import numpy as np
import onnx
import pytest

from qbench.benchmarking.judging.feeding import Feeding, first_samples
from qbench.benchmarking.judging.labelled_data import LabelledData
from qbench.data.choice import DataChoice
from qbench.data.image_folder import ImageFolder
from qbench.data.recipes import Recipe
from qbench.errors import DataError
from qbench.model.spec import TensorSpec
from qbench.runtimes.ort.runner import OrtRunner

RECIPE = Recipe(name="mine")
INPUT = TensorSpec("x", ("N", 3, 8, 8), np.dtype(np.float32))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images 0 to 3, of which 1 is damaged; the pixels of each are its number."""
    for i in range(4):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((8, 8, 3), i, np.uint8))
    (tmp_path / "1.png").write_bytes(b"no image")
    return tmp_path


def test_samples_that_can_be_read_come_over_again(folder: Path) -> None:
    source = ImageFolder(folder, RECIPE, INPUT)
    names = [sample.name for sample in first_samples(source, 5)]
    assert names == ["0.png", "2.png", "3.png", "0.png", "2.png"]
    assert [sample.name for sample in first_samples(source, 2)] == ["0.png", "2.png"]


def test_samples_none_of_which_can_be_read(folder: Path) -> None:
    for i in (0, 2, 3):
        (folder / f"{i}.png").unlink()
    with pytest.raises(DataError, match=r"1\.png is no image"):
        first_samples(ImageFolder(folder, RECIPE, INPUT), 2)


def images(task: str, decoder: str = "auto") -> LabelledData:
    return LabelledData(DataChoice("imgs", RECIPE), None, task, decoder)


def test_a_decoder_that_was_found_reads_the_other_precisions_too() -> None:
    found = Feeding((INPUT,), images=images("detect")).read_by("yolox")
    assert found.images == images("detect", "yolox")


@pytest.mark.parametrize(
    "feeding", [Feeding((INPUT,)), Feeding((INPUT,), images=images("detect", "yolov5"))]
)
def test_a_decoder_that_was_asked_for_stays(feeding: Feeding) -> None:
    assert feeding.read_by("yolox") is feeding
    assert Feeding((INPUT,), images=images("detect")).read_by(None).images == images("detect")


def test_images_of_a_model_are_looked_for_at_once() -> None:
    with pytest.raises(DataError, match="no data at imgs"):
        Feeding((INPUT,), images=images("classify")).check()
    Feeding(None, images=images("classify")).check()  # an engine's inputs are not known yet


def test_a_stack_is_as_large_as_was_asked_for(folder: Path) -> None:
    """Whatever the first axis of inputs without a batch is, such as the anchors of a detector."""
    b = graphs.Builder(("N", graphs.CHANNELS, 16, 16))
    anchors = b.node("ReduceSum", "anchor", b.input("anchors", (840, 4)))
    onnx.save(b.model(b.node("Add", "head", b.conv("stem", b.x), anchors)), folder / "m.onnx")
    runner = OrtRunner(folder / "m.onnx")
    sample = Feeding(runner.inputs, None, None, None).sample(runner, 3)
    assert sample.feeds["x"].shape[0] == sample.batch == 3
    assert sample.feeds["anchors"].shape == (840, 4)
