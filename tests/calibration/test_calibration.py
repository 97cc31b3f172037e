"""`qbench.calibrate` and the choice of data, recipe and table."""

from pathlib import Path

import cv2
import graphs
import numpy as np
import onnx
import pytest

import qbench
from qbench.calibration.calibrate import calibrate, load_found_table, make_table, table_path
from qbench.data.choice import DataChoice
from qbench.data.recipes import Recipe
from qbench.errors import CalibrationError, DataError, ModelError
from qbench.model.load import Model, load

RECIPE = Recipe(name="mine", resize="stretch", scale=1 / 255)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    b = graphs.Builder((1, 3, 16, 16))
    stem = b.node("Relu", "stem_relu", b.conv("stem", b.x, cin=3))
    onnx.save(b.model(b.conv("head", stem)), tmp_path / "m.onnx")
    return load(tmp_path / "m.onnx")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "imgs"
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(12):
        cv2.imwrite(str(folder / f"{i:02}.png"), random.integers(0, 256, (20, 24, 3), np.uint8))
    return folder


def test_images(model: Model, images: Path) -> None:
    table = qbench.calibrate(model, images, recipe=RECIPE)
    header = table.header
    assert (header.model, header.model_sha256) == ("m.onnx", model.sha256)
    assert header.data.source == str(images)
    assert (header.data.images, header.data.skipped) == (12, ())
    assert (header.recipe, header.image_size) == (RECIPE, (16, 16))
    assert {"numpy", "qbench-onnx"} & header.versions.keys()
    assert table.statistics["x"].count == 12 * 3 * 16 * 16
    assert 0 <= table.statistics["x"].low < table.statistics["x"].high <= 1


def test_the_table_does_not_depend_on_threads(model: Model, images: Path) -> None:
    tables = [calibrate(model, images, recipe=RECIPE, threads=threads) for threads in (1, 2, 3)]
    assert len({table.sha256 for table in tables}) == 1


def test_a_limit_and_corrupt_images(model: Model, images: Path) -> None:
    (images / "05.png").write_bytes(b"no image")
    table = calibrate(model, images, recipe=RECIPE)
    assert (table.header.data.images, table.header.data.skipped) == (11, ("05.png",))
    assert calibrate(model, DataChoice(images, RECIPE, limit=3)).header.data.images in {2, 3}


def test_progress_counts_every_sample(model: Model, images: Path) -> None:
    seen: list[tuple[int, int]] = []
    calibrate(model, images, recipe=RECIPE, on_progress=lambda *done: seen.append(done))
    assert seen == [(i, 12) for i in range(1, 13)]


def test_arrays_need_no_recipe(model: Model, tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(4, 3, 16, 16)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=array)
    table = calibrate(model, tmp_path / "a.npz")
    assert (table.header.recipe, table.header.image_size) == (None, None)
    assert table.statistics["x"].low == array.min()


def test_arrays_may_lie_in_folders_below(model: Model, tmp_path: Path) -> None:
    (tmp_path / "data" / "part").mkdir(parents=True)
    np.savez(tmp_path / "data" / "part" / "a.npz", x=np.ones((4, 3, 16, 16), np.float32))
    assert calibrate(model, tmp_path / "data").header.recipe is None


def test_images_beside_arrays_are_read_as_images(model: Model, images: Path) -> None:
    np.savez(images / "a.npz", x=np.ones((4, 3, 16, 16), np.float32))
    assert calibrate(model, images, recipe=RECIPE).header.recipe == RECIPE


def test_a_size_for_a_model_that_leaves_it_open(images: Path, tmp_path: Path) -> None:
    b = graphs.Builder(("N", 3, "H", "W"))
    onnx.save(b.model(b.conv("head", b.conv("stem", b.x, cin=3))), tmp_path / "open.onnx")
    table = calibrate(tmp_path / "open.onnx", DataChoice(images, RECIPE, size=(8, 24)))
    assert table.header.image_size == (8, 24)


def test_nan_from_a_bad_model_names_the_tensor(images: Path, tmp_path: Path) -> None:
    b = graphs.Builder((1, 3, 16, 16))
    root = b.node("Sqrt", "root", b.node("Sub", "below", b.x, b.constant("two", np.float32(2))))
    onnx.save(b.model(b.conv("head", b.conv("stem", root, cin=3))), tmp_path / "nan.onnx")
    with pytest.raises(CalibrationError, match=r"tensor 'root' holds NaN or Inf for \d\d\.png"):
        calibrate(tmp_path / "nan.onnx", images, recipe=RECIPE)


def test_a_model_without_compute(images: Path, tmp_path: Path) -> None:
    b = graphs.Builder((1, 3, 16, 16))
    onnx.save(b.model(b.node("Relu", "y", b.x)), tmp_path / "relu.onnx")
    with pytest.raises(ModelError, match=r"relu\.onnx has no Conv, Gemm or MatMul"):
        calibrate(tmp_path / "relu.onnx", images, recipe=RECIPE)


def test_a_folder_without_data(model: Model, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no images in .*empty; give a folder of images"):
        calibrate(model, tmp_path / "empty", recipe=RECIPE)


def test_a_table_is_kept_and_found_again(model: Model, images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "calibration"
    made = make_table(model, folder, DataChoice(images, RECIPE))
    assert table_path(model, folder) == folder / "m.json"
    assert (folder / "m.json").is_file()
    assert load_found_table(model, folder).sha256 == made.sha256


def test_no_table_is_found(model: Model, tmp_path: Path) -> None:
    message = r"was made from m\.onnx; run `qbench calibrate .+/m\.onnx --data IMAGES`"
    with pytest.raises(CalibrationError, match=message):
        load_found_table(model, tmp_path)
