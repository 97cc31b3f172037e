"""A search looks at the samples that calibration used, where they still are."""

import shutil
from pathlib import Path

import cv2
import graphs
import numpy as np
import onnx
import pytest

from qbench.calibration.calibrate import calibrate
from qbench.calibration.table import CalibrationTable, load_table
from qbench.data.choice import DataChoice
from qbench.model.load import Model, load
from qbench.quantization.searching.samples import samples_of

IMAGES = 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images, of which one is damaged."""
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(IMAGES):
        cv2.imwrite(str(folder / f"{i:02}.png"), random.integers(0, 256, (8, 8, 3), np.uint8))
    (folder / "07.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Model:
    b = graphs.Builder((1, 3, 8, 8))
    onnx.save(b.model(b.conv("stem", b.x, cin=3)), tmp_path / "m.onnx")
    return load(tmp_path / "m.onnx")


@pytest.fixture
def table(model: Model, folder: Path) -> CalibrationTable:
    return calibrate(model, folder, recipe="raw")


def test_others_stand_in_for_what_calibration_skipped(
    model: Model, table: CalibrationTable, caplog: pytest.LogCaptureFixture
) -> None:
    assert table.header.data.skipped == ("07.png",)
    caplog.clear()
    for count in (4, IMAGES - 1):
        assert len(samples_of(model, table, count)) == count
    names = {sample.name for sample in samples_of(model, table, 2 * IMAGES)}
    assert len(names) == IMAGES - 1
    assert not caplog.messages


def test_what_was_damaged_since_is_left_out(
    model: Model, table: CalibrationTable, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "11.png").write_bytes(b"no image")
    names = [sample.name for sample in samples_of(model, table, IMAGES)]
    assert names == [f"{i:02}.png" for i in range(IMAGES) if i not in (7, 11)]
    changed, damaged = caplog.messages[-2:]
    assert "no longer holds what the calibration table was made from" in changed
    assert damaged.startswith("some samples of the calibration table cannot be read")
    assert "11.png" in damaged


@pytest.mark.parametrize("limit", [None, 12])
def test_other_samples_in_a_folder_of_the_same_name_are_told(
    limit: int | None, model: Model, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = calibrate(model, DataChoice(folder, "raw", limit=limit))
    caplog.clear()
    assert len(samples_of(model, table, 4)) == 4
    assert caplog.messages == []
    cv2.imwrite(str(folder / "11.png"), np.zeros((8, 8, 3), np.uint8))
    assert len(samples_of(model, table, 4)) == 4
    (message,) = caplog.messages
    assert message.startswith(f"{folder} no longer holds what the calibration table was made from")


def test_a_folder_is_found_from_elsewhere(
    model: Model, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was named as seen from where `calibrate` ran, which wrote into `calibration/` there."""
    monkeypatch.chdir(tmp_path)
    calibrate(model, folder.name, recipe="raw").save(Path("calibration/m.json"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    table = load_table(Path("../calibration/m.json"))
    assert table.source == folder.resolve()
    assert len(samples_of(model, table, 4)) == 4


def test_there_are_none_where_the_folder_is_gone(
    model: Model, table: CalibrationTable, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(folder)
    assert samples_of(model, table, 4) == []
    assert "samples of the calibration table cannot be looked at" in caplog.text
