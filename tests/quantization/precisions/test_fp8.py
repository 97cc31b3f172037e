from pathlib import Path

import graphs
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qbench.calibration.calibrate import calibrate
from qbench.errors import CalibrationError, ModelError, UsageError
from qbench.evaluation.similarity import sqnr_db
from qbench.model.graph import constant
from qbench.quantization.int8 import Int8Options
from qbench.quantization.linting.lint import lint
from qbench.quantization.quantize import quantize
from qbench.quantization.quantized import QuantizedModel


def wide_and_narrow() -> onnx.ModelProto:
    """Convolutions with 16 channels, one between them with one channel a group."""
    b = graphs.Builder((1, 16, 8, 8))
    first = b.node("Relu", "relu", b.conv("first", b.x, cin=16, cout=16))
    middle = b.conv("depthwise", first, cin=16, cout=16, group=16)
    return b.model(b.conv("last", middle, cin=16, cout=16))


def with_clip() -> onnx.ModelProto:
    """ONNX Runtime has a rewriting of Clip and QuantizeLinear that refuses FP8."""
    b = graphs.Builder((1, 16, 8, 8))
    low, high = b.constant("low", np.float32(0)), b.constant("high", np.float32(6))
    clip = b.node("Clip", "relu6", b.conv("first", b.x, cin=16, cout=16), low, high)
    return b.model(b.conv("last", clip, cin=16, cout=16))


def with_relu() -> onnx.ModelProto:
    """ONNX Runtime takes a Relu for needless in front of a QuantizeLinear, FP8 or not."""
    b = graphs.Builder((1, 16, 8, 8))
    relu = b.node("Relu", "relu", b.conv("first", b.x, cin=16, cout=16))
    return b.model(b.conv("last", relu, cin=16, cout=16))


def made(proto: onnx.ModelProto, options: Int8Options | None = None) -> QuantizedModel:
    model = graphs.model_of(proto)
    table = graphs.table_of(model)
    return quantize(model, target="tensorrt", precision="fp8", table=table, options=options)


@pytest.mark.parametrize(
    "make", [graphs.encoder, graphs.attention, wide_and_narrow, with_clip, with_relu]
)
def test_simulated_outputs_are_close_to_the_float_model(make) -> None:
    result = made(make())
    assert lint(result.ir, "tensorrt") == ()
    onnx.checker.check_model(ir.to_proto(result.ir), full_check=True)
    feeds = graphs.feeds_of(result.source, seed=100)
    wanted, found = graphs.run(result.source.ir, feeds), graphs.run(result.ir, feeds)
    for name, array in wanted.items():
        assert sqnr_db(array, found[name]) > 18


def test_codes_are_fp8_around_zero_and_the_largest_becomes_448() -> None:
    result = made(wide_and_narrow())
    graph = result.ir.graph
    assert graph.opset_imports[""] >= 19
    pairs = [node for node in graph if node.op_type in {"QuantizeLinear", "DequantizeLinear"}]
    assert {node.inputs[2].dtype for node in pairs} == {ir.DataType.FLOAT8E4M3FN}
    weights = [constant(n.inputs[0]) for n in pairs if constant(n.inputs[0]) is not None]
    assert len(weights) == 2
    for codes in weights:
        assert np.abs(codes.astype(np.float32)).max(axis=(1, 2, 3)).tolist() == [448] * 16
    statistics = result.table.statistics["x"]
    (scale,) = (constant(n.inputs[1]) for n in pairs if n.name == "x_QuantizeLinear")
    assert scale == pytest.approx(max(-statistics.low, statistics.high) / 448)


def test_a_convolution_of_few_channels_a_group_stays_float() -> None:
    (node,) = made(wide_and_narrow()).float_nodes
    assert (node.name, node.op_type) == ("depthwise", "Conv")
    assert node.reason == "FP8 would pad its 1 channel a group to 16"


def test_exclusions() -> None:
    result = made(wide_and_narrow(), Int8Options(exclude=["first"]))
    assert {node.name for node in result.float_nodes} == {"first", "depthwise"}


def test_what_cannot_be_done() -> None:
    model = graphs.model_of(graphs.residual())
    with pytest.raises(UsageError, match="CPU provider has no FP8 kernels; use --int8"):
        quantize(model, target="cpu", precision="fp8")
    with pytest.raises(ModelError, match="no Conv, Gemm or MatMul that tensorrt could quantize"):
        made(graphs.residual())  # 8 channels
    table = graphs.table_of(graphs.model_of(graphs.attention()))
    with pytest.raises(CalibrationError, match="was made from another model"):
        quantize(model, target="tensorrt", precision="fp8", table=table)


def test_biases_undo_the_mean_error_of_the_weights() -> None:
    b = graphs.Builder((1, 16, 8, 8))
    shifted = b.node("Add", "shifted", b.x, b.constant("mean", np.float32(5)))
    result = made(b.model(b.conv("conv", shifted, cin=16, cout=16, pads=[0] * 4)))
    feeds = graphs.feeds_of(result.source)
    wanted, found = graphs.run(result.source.ir, feeds), graphs.run(result.ir, feeds)
    error = (found["conv"] - wanted["conv"]).mean(axis=(0, 2, 3))
    nodes = {node.name: node for node in result.ir.graph}
    bias = constant(nodes["conv"].inputs[2])
    old = constant(next(n for n in result.source.ir.graph if n.name == "conv").inputs[2])
    assert np.abs(error).mean() < np.abs(error - (bias - old)).mean() / 2


def test_the_output_is_judged_where_the_samples_still_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(graphs.attention(), "m.onnx")
    arrays = np.random.default_rng(0).normal(size=(6, 6, graphs.CHANNELS)).astype(np.float32)
    np.savez("a.npz", x=arrays)
    table = calibrate("m.onnx", "a.npz")
    result = quantize("m.onnx", target="tensorrt", precision="fp8", table=table)
    assert result.output_sqnr_db is not None
    assert 18 < result.output_sqnr_db < 40
    assert made(graphs.attention()).output_sqnr_db is None


def test_an_output_that_is_harmed_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    b = graphs.Builder((1, 16, 8, 8))
    x = b.x
    for i in range(2):  # of what is left where nearly all cancels out
        x = b.node("Sub", f"less{i}", b.conv(f"conv{i}", x, cin=16, cout=16), x)
    weight = np.zeros((16, 16, 1, 1), np.float32)
    weight[:, 0], weight[:, 1] = 100, -100
    b.constant("near", weight)
    b.constant("same", np.repeat(np.eye(1, 16, dtype=np.float32), 16, axis=0)[..., None, None])
    alike = b.node("Conv", "alike", x, "same")
    drop = b.node("Mul", "noise", x, b.constant("small", np.float32(1e-3)))
    onnx.save(b.model(b.node("Conv", "y", b.node("Add", "sum", alike, drop), "near")), "m.onnx")
    arrays = np.random.default_rng(0).normal(size=(4, 16, 8, 8)).astype(np.float32)
    np.savez("a.npz", x=arrays)
    result = quantize(
        "m.onnx", target="tensorrt", precision="fp8", table=calibrate("m.onnx", "a.npz")
    )
    assert result.output_sqnr_db is not None
    assert result.output_sqnr_db < 15
    assert f"FP8 leaves only {result.output_sqnr_db:.0f} dB of signal to noise" in caplog.text
