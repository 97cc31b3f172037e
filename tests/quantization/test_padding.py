"""Images get a code for each of their levels, though TensorRT takes no zero-point."""

from pathlib import Path

import graphs
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import ModelProto

from qbench.calibration.calibrate import calibrate
from qbench.calibration.table import CalibrationTable
from qbench.model.graph import ints
from qbench.model.load import Model, load
from qbench.model.prepare import prepare
from qbench.placement.targets import place
from qbench.quantization.choice import Choice
from qbench.quantization.int8 import Int8Options, Quantizer
from qbench.quantization.padding import pad_in_front

IMAGE = (1, 3, 8, 8)


def two_convolutions() -> ModelProto:
    b = graphs.Builder(IMAGE)
    return b.model(b.conv("second", b.node("Relu", "relu", b.conv("first", b.x, cin=3))))


def padded(proto: ModelProto, *, lopsided: bool = True) -> tuple[Model, ir.Model, frozenset[str]]:
    model = prepare(graphs.model_of(proto))
    found, names = pad_in_front(model.ir, place(model, "tensorrt"), lambda _: lopsided)
    return model, found, names


def pads(model: ir.Model) -> dict[str, bool]:
    return {n.name or "": any(ints(n, "pads", [])) for n in model.graph if n.op_type == "Conv"}


def test_the_first_convolution_is_padded_in_front_and_the_model_computes_the_same() -> None:
    model, found, names = padded(two_convolutions())
    assert names == {"x_padded"}
    assert pads(model.ir) == {"first": True, "second": True}
    assert pads(found) == {"first": False, "second": True}
    feeds = graphs.feeds_of(model)
    for name, array in graphs.run(model.ir, feeds).items():
        np.testing.assert_allclose(graphs.run(found, feeds)[name], array, atol=1e-5)


def test_a_tensor_of_the_model_may_be_called_like_the_padded_one() -> None:
    model, found, names = padded(graphs.renamed(two_convolutions(), "relu", "x_padded"))
    assert names == {"x_padded_1"}
    feeds = graphs.feeds_of(model)
    expected = graphs.run(model.ir, feeds)["second"]
    np.testing.assert_allclose(graphs.run(found, feeds)["second"], expected, atol=1e-5)


def test_a_range_around_zero_needs_no_padding() -> None:
    model, found, names = padded(two_convolutions(), lopsided=False)
    assert (len(names), pads(found)) == (0, pads(model.ir))


def test_convolutions_that_pad_differently_keep_their_padding() -> None:
    b = graphs.Builder(IMAGE)
    wide, narrow = b.conv("wide", b.x, cin=3), b.conv("narrow", b.x, cin=3, size=1)
    _, _, names = padded(b.model(b.conv("head", b.node("Add", "sum", wide, narrow))))
    assert not names


def table_of_images(model: Model, folder: Path, shift: float) -> CalibrationTable:
    """Of images of 0 to 255, times 1/255 and less `shift`."""
    random = np.random.default_rng(0)
    for number in range(16):
        levels = random.integers(0, 256, IMAGE)
        levels.flat[:2] = 0, 255
        np.savez(folder / f"{number}.npz", x=(levels / 255 - shift).astype(np.float32))
    return calibrate(model, folder)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    (tmp_path / "data").mkdir()
    onnx.save(two_convolutions(), tmp_path / "m.onnx")
    return load(tmp_path / "m.onnx")


def test_each_level_of_an_image_is_a_code(model: Model, tmp_path: Path) -> None:
    table = table_of_images(model, tmp_path / "data", 0.0)
    quantizer = Quantizer(model, "tensorrt", table, Int8Options(effort="fast"))
    parameters = quantizer.parameters(quantizer.plan, Choice())["x_padded"]
    codes = np.arange(256) / 255 / parameters.scale + parameters.zero_point
    assert np.abs(codes - np.rint(codes)).max() < 1e-3
    assert (round(codes.min()), round(codes.max())) == (-128, 127)
    # The zeros of the padding are zeros for the convolution, too, so borders are right.
    x = {"x": np.ones(IMAGE, np.float32)}
    expected = graphs.run(model.ir, x, simulate=False)["second"]
    found = graphs.run(quantizer.graph(Choice()).ir, x)["second"]
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize(("target", "shift"), [("tensorrt", 0.5), ("cpu", 0.0)])
def test_others_keep_their_padding(model: Model, tmp_path: Path, target: str, shift: float) -> None:
    table = table_of_images(model, tmp_path / "data", shift)
    quantizer = Quantizer(model, target, table, Int8Options(effort="fast"))
    assert "x_padded" not in quantizer.plan.observed
