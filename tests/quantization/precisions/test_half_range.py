import logging
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from qbench.calibration.calibrate import calibrate
from qbench.errors import CalibrationError
from qbench.evaluation.similarity import sqnr_db
from qbench.model.load import Model, load
from qbench.model.prepare import prepare
from qbench.quantization.precisions.half import HalfOptions, to_half
from qbench.quantization.precisions.half_range import LARGEST, MARGIN, wide_nodes
from qbench.quantization.quantize import quantize


def loud() -> onnx.ModelProto:
    """The squares between two convolutions are far beyond FP16; what follows is not."""
    b = graphs.Builder()
    grown = b.node("Mul", "grown", b.conv("stem", b.x), b.constant("gain", np.float32(300)))
    squares = b.node("Mul", "squares", grown, grown)
    moved = b.node("Reshape", "moved", squares, b.constant("shape", np.array(graphs.IMAGE)))
    shrunk = b.node("Mul", "shrunk", moved, b.constant("inverse", np.float32(1e-5)))
    return b.model(b.conv("head", shrunk))


def reasons(proto: onnx.ModelProto, peaks: dict[str, float]) -> dict[str, str]:
    return wide_nodes(prepare(graphs.model_of(proto)).ir.graph, peaks)


def run_in_fp16(graph: ir.Model, feeds: graphs.Feeds) -> NDArray[Any]:
    """The output by the reference implementation; ONNX Runtime computes in FP32 on most CPUs."""
    with np.errstate(over="ignore", invalid="ignore"):
        (output,) = ReferenceEvaluator(ir.to_proto(graph)).run(None, feeds)
    return output


@pytest.fixture
def calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A loud model, with a table that was made from arrays which are still there."""
    monkeypatch.chdir(tmp_path)
    onnx.save(loud(), "m.onnx")
    arrays = np.random.default_rng(0).normal(size=(12, *graphs.IMAGE[1:])).astype(np.float32)
    np.savez("a.npz", x=arrays)
    calibrate("m.onnx", "a.npz").save(Path("calibration/m.json"))
    return load("m.onnx")


def test_writers_and_readers_of_a_large_tensor_stay_fp32() -> None:
    limit = LARGEST / MARGIN
    found = reasons(graphs.residual(), {"branch1": limit * 1.01, "join": limit})
    text = "tensor branch1 reaches 1.65e+04, too near to FP16's 65504"
    assert found == {"branch1": text, "branch_relu": text}


def test_a_large_input_makes_its_readers_stay() -> None:
    assert set(reasons(graphs.residual(), {"x": 1e5})) == {"stem"}


def test_an_epsilon_that_fp16_would_make_zero_keeps_its_sum_and_the_root_of_it() -> None:
    b = graphs.Builder()
    safe = b.node("Add", "safe", b.x, b.constant("eps", np.float32(1e-12)))
    root = b.node("Sqrt", "root", safe)
    proto = b.model(b.node("Div", "y", b.x, root))
    text = "its constant 1e-12 would be 0 in FP16"
    assert reasons(proto, {}) == {"safe": text, "root": text}


def test_small_weights_among_others_may_become_zero() -> None:
    b = graphs.Builder()
    weights = np.full(graphs.CHANNELS, 1e-9, np.float32).reshape(1, -1, 1, 1)
    assert reasons(b.model(b.node("Mul", "y", b.x, b.constant("w", weights))), {}) == {}


def test_constants_beyond_the_range_stay_unless_they_are_bounds() -> None:
    b = graphs.Builder()
    mask = b.constant("mask", np.full(graphs.IMAGE, -3e38, np.float32))
    masked = b.node("Add", "masked", b.x, mask)
    shares = b.node("Softmax", "shares", b.node("Transpose", "turned", masked))
    proto = b.model(b.node("Min", "y", shares, b.constant("huge", np.float32(1e9))))
    text = "its constant mask reaches 3e+38, beyond FP16's 65504"
    assert reasons(proto, {}) == dict.fromkeys(["masked", "turned", "shares"], text)


def test_what_overflows_is_found_on_the_calibration_data(calibrated: Model) -> None:
    result = quantize(calibrated, target="tensorrt", precision="fp16")  # finds the table
    assert result.table is not None
    assert result.notes == ()
    assert [node.name for node in result.float_nodes] == ["squares", "moved", "shrunk"]
    feeds = graphs.feeds_of(calibrated)
    wanted = graphs.run(calibrated.ir, feeds)["head"]
    assert sqnr_db(wanted, run_in_fp16(result.ir, feeds)) > 40
    unchecked = to_half(prepare(calibrated).ir).ir
    assert not np.isfinite(run_in_fp16(unchecked, feeds)).all()


def test_without_a_table_a_note_says_what_was_not_checked(calibrated: Model) -> None:
    Path("calibration/m.json").unlink()
    result = quantize(calibrated, target="tensorrt", precision="fp16")
    assert result.notes == (
        "without a calibration table no tensor was checked for FP16's range; "
        "--data IMAGES finds those that overflow",
    )
    assert "squares" not in {node.name for node in result.float_nodes}


def test_without_the_data_the_table_alone_is_asked(caplog: pytest.LogCaptureFixture) -> None:
    b = graphs.Builder()
    grown = b.node("Mul", "grown", b.conv("stem", b.x), b.constant("gain", np.float32(3e4)))
    model = graphs.model_of(b.model(b.conv("head", grown)))
    with caplog.at_level(logging.WARNING):
        table = graphs.table_of(model)
        result = quantize(model, target="tensorrt", precision="fp16", table=table)
    assert "the samples of the calibration table cannot be looked at" in caplog.text
    assert [node.name for node in result.float_nodes] == ["grown", "head"]


def test_a_table_of_another_model(calibrated: Model) -> None:
    table = graphs.table_of(graphs.model_of(graphs.depthwise()))
    with pytest.raises(CalibrationError, match="was made from another model"):
        quantize(calibrated, target="tensorrt", precision="fp16", table=table)


def test_exclusions(calibrated: Model) -> None:
    options = HalfOptions(exclude=["head"])
    result = quantize(calibrated, target="tensorrt", precision="bf16", options=options)
    assert [(node.name, node.reason) for node in result.float_nodes] == [
        ("head", "excluded by name")
    ]
