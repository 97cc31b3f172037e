from pathlib import Path
from typing import Any

import cv2
import graphs
import numpy as np
import onnx
import pytest
from graphs import CHANNELS, Builder

from qbench.calibration.calibrate import calibrate
from qbench.data.choice import DataChoice
from qbench.errors import CalibrationError, DataError, ModelError
from qbench.evaluation import compare_layers as module
from qbench.evaluation.compare_layers import LayerComparison, LayerOptions, compare_layers
from qbench.evaluation.layerwise import LIMIT_DB
from qbench.model.load import load
from qbench.quantization.options import Int8Options
from qbench.quantization.precisions.half import HalfOptions
from qbench.quantization.quantize import quantize


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A residual network whose second branch reads a tensor with a scale 20 times too small."""
    monkeypatch.chdir(tmp_path)
    onnx.save(graphs.residual(), "m.onnx")
    model = load("m.onnx")
    quantize(model, target="tensorrt", table=graphs.table_of(model), output="good.onnx")
    spoilt = onnx.load("good.onnx")
    for constant in spoilt.graph.initializer:
        if constant.name == "branch_relu_scale":
            scale = onnx.numpy_helper.to_array(constant) / 20
            constant.CopyFrom(onnx.numpy_helper.from_array(scale, constant.name))
    onnx.save(spoilt, "bad.onnx")
    return "m.onnx", "bad.onnx"


def arrays(count: int, shape: tuple[int, ...] = graphs.IMAGE) -> Path:
    random = np.random.default_rng(5)
    samples = random.normal(size=(count, *shape[1:])).astype(np.float32)
    np.savez("data.npz", x=samples)
    return Path("data.npz")


def test_the_layer_that_was_spoilt_is_named(models: tuple[str, str]) -> None:
    found = compare_layers(*models, arrays(3))
    assert (found.first_bad, found.steepest) == ("branch_relu", "branch_relu")
    assert found.layer("branch_relu").test == "branch_relu_dequantized"
    assert found.layer("branch1").sqnr_db > 25
    assert found.layer("branch_relu").sqnr_db < 3
    assert (found.samples, found.skipped, found.arithmetic) == (3, (), "exact")
    assert len(found.layers) == found.total
    good = compare_layers("m.onnx", "good.onnx", arrays(3))
    assert good.first_bad is None
    assert compare_layers("m.onnx", "good.onnx", options=LayerOptions(threshold_db=90)).first_bad


def test_a_model_equals_itself() -> None:
    model = graphs.model_of(graphs.classifier())
    found = compare_layers(model, model)
    assert {layer.sqnr_db for layer in found.layers} == {LIMIT_DB}
    assert (found.first_bad, found.steepest, found.reference) == (None, None, "in memory")


def test_parts_of_a_large_network_give_the_same(
    models: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a network whose first half alone is run for the first half of its layers."""
    whole = compare_layers(*models, arrays(3))
    seen: list[int] = []
    opened = module.open_graph

    def counted(graph: Any, **options: Any) -> Any:
        seen.append(len(graph.graph))
        return opened(graph, **options)

    monkeypatch.setattr(module, "open_graph", counted)
    monkeypatch.setattr(module, "HELD_BYTES", 3 * 4 * CHANNELS * 16 * 16)
    progress: list[tuple[int, int]] = []
    options = LayerOptions(on_progress=lambda *step: progress.append(step))
    found = compare_layers(*models, arrays(3), options=options)
    assert [layer.name for layer in found.layers] == [layer.name for layer in whole.layers]
    for one, other in zip(found.layers, whole.layers, strict=True):
        # Where a network is cut, ONNX Runtime fuses less of it, and adds in another order.
        assert one.sqnr_db == pytest.approx(other.sqnr_db, rel=1e-4)
    parts = len(seen) // 2
    assert parts == -(-len(whole.layers) // 3)
    assert seen[0] < seen[-2]
    assert progress == [(done, 3 * parts) for done in range(1, 3 * parts + 1)]


@pytest.mark.parametrize("native", [False, True])
def test_images_are_compared_without_what_is_padded_around_and_added_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    b = Builder((1, 3, 16, 16))
    proto = b.model(b.conv("head", b.conv("stem", b.x, cin=3, pads=[0, 1, 2, 1])))
    pixels = np.random.default_rng(0).uniform(size=(4, 3, 16, 16)).astype(np.float32)
    np.savez("data.npz", x=pixels)
    onnx.save(proto, "m.onnx")
    table = calibrate("m.onnx", Path("data.npz"))
    options = Int8Options(effort="fast")
    quantize("m.onnx", target="tensorrt", table=table, output="q.onnx", options=options)
    found = compare_layers("m.onnx", "q.onnx", "data.npz", options=LayerOptions(native=native))
    assert found.layer("x").test == "x_padded_offset_dequantized"
    # A step of 1/255 makes noise of its square / 12; the mean square of the pixels is 1/3.
    assert found.layer("x").sqnr_db == pytest.approx(10 * np.log10(12 * 255**2 / 3), abs=0.5)
    assert found.layer("stem").inputs == ("x",)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: m.onnx for RGB images, imgs/*.png, of which 5 is broken."""
    monkeypatch.chdir(tmp_path)
    b = Builder((1, 3, 16, 16))
    onnx.save(b.model(b.conv("head", b.conv("stem", b.x, cin=3))), "m.onnx")
    random = np.random.default_rng(0)
    Path("imgs").mkdir()
    for number in range(12):
        cv2.imwrite(f"imgs/{number:02}.png", random.integers(0, 256, (16, 16, 3), np.uint8))
    Path("imgs/05.png").write_bytes(b"broken")
    return Path("imgs")


def test_samples_that_cannot_be_read_are_skipped_in_every_part(
    images: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "HELD_BYTES", 1)
    found = compare_layers("m.onnx", "m.onnx", DataChoice(images, "raw"))
    assert (found.samples, found.skipped) == (11, ("05.png",))
    assert caplog.text.count("1 of 12 skipped") == 1


@pytest.mark.parametrize("keep_io", [True, False])
def test_half_precision_is_compared_too(keep_io: bool) -> None:
    model = graphs.model_of(graphs.residual())
    options = HalfOptions(keep_io=keep_io)
    half = quantize(model, target="tensorrt", precision="fp16", options=options)
    found = compare_layers(model, graphs.Model(half.ir, None, ""))
    assert all(50 < layer.sqnr_db < 100 for layer in found.layers)
    assert found.layers[-1].name == "head"


@pytest.mark.parametrize("precision", ["dynamic", "weight-only"])
def test_other_forms_are_compared_too(precision: str) -> None:
    model = graphs.model_of(graphs.encoder())
    made = quantize(model, target="cpu", precision=precision)
    found = compare_layers(model, graphs.Model(made.ir, None, ""))
    assert len(found.layers) == found.total
    assert all(layer.sqnr_db > 15 for layer in found.layers)
    assert found.layers[-1].sqnr_db < 60


def test_native_compares_what_does_not_hinder_fusion(models: tuple[str, str]) -> None:
    found = compare_layers(*models, arrays(2), options=LayerOptions(native=True))
    assert found.arithmetic == "native"
    assert "branch1" not in {layer.name for layer in found.layers}
    assert found.layer("branch_relu").sqnr_db < 3


def test_equalized_tensors_are_compared_up_to_their_factors(tmp_path: Path) -> None:
    model = graphs.model_of(graphs.fragile())
    made = quantize(model, target="tensorrt", table=_table_with_samples(model, tmp_path))
    found = compare_layers(model, graphs.Model(made.ir, None, ""))
    assert [layer.test for layer in found.layers if "equalized" in layer.test]
    assert found.first_bad is None


def _table_with_samples(model: graphs.Model, folder: Path) -> Any:
    random = np.random.default_rng(0)
    np.savez(folder / "data.npz", x=random.normal(size=(8, *graphs.IMAGE[1:])).astype(np.float32))
    return calibrate(model, folder / "data.npz")


def test_without_data_the_tables_samples_are_taken(models: tuple[str, str]) -> None:
    assert compare_layers(*models).data == "4 random samples (seed 0)"
    model = load("m.onnx")
    table = _table_with_samples(model, Path())
    assert "8 samples in data.npz" in compare_layers(*models, table=table).data
    table.save(Path("calibration/m.json"))
    assert "8 samples in data.npz" in compare_layers(*models).data
    Path("data.npz").unlink()
    assert compare_layers(*models, table=Path("calibration/m.json")).samples == 4
    other = graphs.model_of(graphs.classifier())
    with pytest.raises(CalibrationError, match="was made from another model"):
        compare_layers(other, other, table=table)


def test_the_tables_images_have_the_size_that_is_asked_for(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = graphs.Builder((1, 3, "height", "width"))
    onnx.save(b.model(b.conv("head", b.x, cin=3)), "open.onnx")
    table = calibrate("open.onnx", DataChoice(images, "raw", size=(16, 16)))
    opened, sizes = module.open_choice, []

    def noted(path: Path, specs: Any, choice: DataChoice) -> Any:
        sizes.append(choice.size)
        return opened(path, specs, choice)

    monkeypatch.setattr(module, "open_choice", noted)
    for size in (None, (8, 8)):
        compare_layers("open.onnx", "open.onnx", table=table, options=LayerOptions(image_size=size))
    assert sizes == [(16, 16), (8, 8)]


def test_images_are_prepared_as_for_calibration(images: Path) -> None:
    table = calibrate("m.onnx", DataChoice(images, "raw"))
    quantize("m.onnx", target="tensorrt", table=table, output="q.onnx")

    def of(recipe: str | None) -> LayerComparison:
        return compare_layers("m.onnx", "q.onnx", DataChoice(images, recipe), table=table)

    assert of(None) == of("raw")
    assert of(None).layers != of("imagenet").layers


def test_a_dynamic_size_has_to_be_said() -> None:
    b = Builder(("n", CHANNELS, "h", "w"))
    model = graphs.model_of(b.model(b.conv("head", b.x)))
    with pytest.raises(DataError, match="dynamic beyond its batch; give --size 640"):
        compare_layers(model, model)
    assert compare_layers(model, model, options=LayerOptions(image_size=(8, 8))).samples == 4


def test_tensors_of_one_name_and_two_shapes(tmp_path: Path) -> None:
    b, other = Builder(), Builder()
    onnx.save(b.model(b.conv("head", b.conv("stem", b.x))), tmp_path / "a.onnx")
    strided = other.conv("stem", other.x, strides=[2, 2])
    onnx.save(other.model(other.conv("head", strided)), tmp_path / "b.onnx")
    with pytest.raises(DataError, match="layer 'stem' has 2048 values in the reference and 512"):
        compare_layers(tmp_path / "a.onnx", tmp_path / "b.onnx")


def test_a_missing_model() -> None:
    with pytest.raises(ModelError, match=r"no model at none\.onnx; check the path"):
        compare_layers("none.onnx", "none.onnx")
