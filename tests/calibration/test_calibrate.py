"""What calibration says aloud, and what it refuses before any work."""

import logging
from pathlib import Path

import cv2
import graphs
import numpy as np
import onnx
import pytest

from qbench.calibration.calibrate import FEWEST_SAMPLES, calibrate, load_found_table
from qbench.calibration.table import find_table, load_table
from qbench.data.choice import DataChoice
from qbench.errors import CalibrationError, ModelError, StorageError
from qbench.model.load import Model, load
from qbench.quantization.int8 import Int8Options
from qbench.quantization.quantize import quantize


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "imgs"
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(10):
        cv2.imwrite(str(folder / f"{i}.png"), random.integers(0, 256, (8, 8, 3), np.uint8))
    return folder


def model_with_batch(batch: int, folder: Path) -> Path:
    b = graphs.Builder((batch, 3, 8, 8))
    path = folder / f"batch{batch}.onnx"
    onnx.save(b.model(b.conv("head", b.conv("stem", b.x, cin=3))), path)
    return path


def test_skipped_images_are_counted_and_named(
    images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (images / "3.png").write_bytes(b"no image")
    with caplog.at_level(logging.WARNING):
        calibrate(model_with_batch(1, tmp_path), images, recipe="raw")
    assert "1 of 10 skipped: 3.png (" in caplog.text


def test_few_images_are_worth_a_line_that_says_what_to_do(
    images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = model_with_batch(1, tmp_path)
    with caplog.at_level(logging.WARNING):
        calibrate(model, DataChoice(images, "raw", limit=FEWEST_SAMPLES))
        assert caplog.messages == []
        calibrate(model, DataChoice(images, "raw", limit=1))
    (message,) = caplog.messages
    assert message.startswith("1 sample to calibrate on: ")
    assert "give 8 or more" in message


def test_a_fixed_batch_changes_counts_and_nothing_else(
    images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        one, four = (
            calibrate(model_with_batch(batch, tmp_path), images, recipe="raw").statistics
            for batch in (1, 4)
        )
    assert caplog.messages == ["input 'x' has a fixed batch: each sample fills its 4"]
    assert one.keys() == four.keys()
    for name, single in one.items():
        assert (four[name].low, four[name].high) == (single.low, single.high)
        assert four[name].count == 4 * single.count
        assert np.array_equal(four[name].counts, 4 * single.counts)
        assert four[name].mean == pytest.approx(single.mean)


def test_arrays_tell_the_size_that_a_model_leaves_open(tmp_path: Path) -> None:
    b = graphs.Builder(("N", 3, "H", "W"))
    onnx.save(b.model(b.conv("head", b.conv("stem", b.x, cin=3))), tmp_path / "m.onnx")
    for name in ("1", "2"):
        np.savez(tmp_path / f"{name}.npz", x=np.ones((1, 3, 12, 16), np.float32))
    table = calibrate(tmp_path / "m.onnx", tmp_path)
    assert table.image_size == (12, 16)
    found = quantize(tmp_path / "m.onnx", target="tensorrt", table=table)
    assert found.int8_mac_fraction == 1.0  # which nobody could know without a size


@pytest.mark.parametrize(("other", "size"), [((12, 16), (12, 16)), ((6, 8), None)])
def test_inputs_of_several_sizes_tell_none(
    tmp_path: Path, other: tuple[int, int], size: tuple[int, int] | None
) -> None:
    b = graphs.Builder(("N", 3, "H", "W"))
    proto = b.model(b.conv("head", b.conv("stem", b.x, cin=3)))
    second = onnx.helper.make_tensor_value_info(
        "y", onnx.TensorProto.FLOAT, ["N", 3, "height", "width"]
    )
    proto.graph.input.append(second)
    onnx.save(proto, tmp_path / "m.onnx")
    arrays = {"x": np.ones((1, 3, 12, 16), "f"), "y": np.ones((1, 3, *other), "f")}
    np.savez(tmp_path / "0.npz", **arrays)
    assert calibrate(tmp_path / "m.onnx", tmp_path).image_size == size


def test_a_quantized_model_needs_no_table(images: Path, tmp_path: Path) -> None:
    path = model_with_batch(1, tmp_path)
    table = calibrate(path, images, recipe="raw")
    quantize(
        path,
        target="cpu",
        table=table,
        output=tmp_path / "q.onnx",
        options=Int8Options(effort="fast"),
    )
    with pytest.raises(ModelError, match=r"q\.onnx is quantized already; give the float model"):
        load_found_table(load(tmp_path / "q.onnx"), tmp_path)
    with pytest.raises(ModelError, match=r"q\.onnx is quantized already; give the float model"):
        calibrate(tmp_path / "q.onnx", DataChoice(images, "raw"))


def test_a_model_in_half_precision_is_asked_for_no_table(tmp_path: Path) -> None:
    half = quantize(graphs.model_of(graphs.residual()), target="tensorrt", precision="fp16").ir
    with pytest.raises(ModelError, match="computes in float16; export it in float32 to quantize"):
        load_found_table(Model(half, Path("half.onnx"), ""), tmp_path)


def test_a_table_without_its_histograms(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    calibrate(model_with_batch(1, tmp_path), images, recipe="raw").save(path)
    path.with_suffix(".npz").unlink()
    with pytest.raises(CalibrationError, match=r"t\.json lacks its histograms .*t\.npz; copy them"):
        load_table(path)


def test_a_folder_in_the_place_of_a_table(images: Path, tmp_path: Path) -> None:
    table = calibrate(model_with_batch(1, tmp_path), images, recipe="raw")
    (tmp_path / "t.json").mkdir()
    with pytest.raises(StorageError, match=r"t\.json: it is a folder; name a file in it with -o"):
        table.save(tmp_path / "t.json")
    assert not (tmp_path / "t.npz").exists()
    assert find_table(tmp_path, table.header.model_sha256) is None


@pytest.mark.parametrize("batch", ["N", 1])
def test_a_recurrent_state_is_fed_one_call_a_file(
    batch: int | str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    proto = graphs.recurrent(batch)
    onnx.save(proto, tmp_path / "m.onnx")
    random = np.random.default_rng(0)
    for name in range(FEWEST_SAMPLES):
        frame, state = random.normal(size=(1, 8, 12)), random.normal(size=(2, 1, 8))
        np.savez(tmp_path / f"{name}.npz", x=frame.astype("f"), state=state.astype("f"))
    with caplog.at_level(logging.WARNING):
        table = calibrate(tmp_path / "m.onnx", tmp_path)
    assert caplog.messages == []  # the first axis of the state is no batch
    assert table.header.data.images == FEWEST_SAMPLES
    found = quantize(tmp_path / "m.onnx", target="cpu", table=table)
    assert found.output_sqnr_db is not None
    assert found.output_sqnr_db > 30
    assert found.notes == ("recurrent layers stay float: lstm (LSTM)",)
    assert found.int8_mac_fraction is not None
    assert found.int8_mac_fraction < 0.3  # the LSTM does most of the work
