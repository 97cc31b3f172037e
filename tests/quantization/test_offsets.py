"""What stands in for a zero-point where the target has none."""

from dataclasses import replace

import graphs
import numpy as np
import onnx_ir as ir
import pytest
from graphs import CHANNELS, Builder, Feeds, feeds_of, model_of

from qbench.model.graph import constant
from qbench.model.load import Model
from qbench.model.parts import with_outputs
from qbench.model.prepare import prepare
from qbench.placement.plan import Activation, Plan
from qbench.placement.targets import place
from qbench.quantization.numerics import (
    QuantizationParameters,
    dequantize,
    quantize,
    symmetric,
    with_offset,
)
from qbench.quantization.qdq import write_qdq
from qbench.quantization.weights import WeightCoding

PARAMETERS = with_offset(0, 3)
"""Of what a Relu writes; the zero-point is -128."""


def behind_relu(op_type: str) -> Builder:
    """A layer without padding behind a Relu, after a convolution that stays float."""
    b = Builder((1, 6, CHANNELS) if op_type in {"Gemm", "MatMul"} else graphs.IMAGE)
    if op_type == "Conv":
        b.conv("layer", b.node("Relu", "relu", b.conv("first", b.x)), size=1)
    elif op_type == "Gemm":
        rows = b.constant("rows", np.array([6, CHANNELS]))
        relu = b.node("Relu", "relu", b.node("Reshape", "flat", b.x, rows))
        b.node("Gemm", "layer", relu, b.weight("layer.w", 5, CHANNELS), transB=1)
    else:
        product = b.node("MatMul", "layer", b.node("Relu", "relu", b.x), b.weight("w", CHANNELS, 5))
        b.node("Add", "biased", b.constant("b", np.ones(5, np.float32)), product)
    return b


def only(plan: Plan, tensor: str) -> Plan:
    """The plan with no other activation than that of `tensor`."""
    activations = [a for a in plan.activations if a.tensor == tensor]
    readers = {reader.node for activation in activations for reader in activation.readers}
    weights = [weight for weight in plan.weights if weight.reader.node in readers]
    return replace(plan, activations=tuple(activations), weights=tuple(weights))


def rounded_by_hand(model: Model, feeds: Feeds, output: str) -> np.ndarray:
    """The output with weights rounded, and with the Relu's rounded around a zero-point."""
    weight = next(w for w in place(model, "tensorrt").weights if w.reader.node == "layer")
    graph = model.ir.clone()
    layer = next(node for node in graph.graph if node.name == "layer")
    exact = constant(layer.inputs[1])
    assert exact is not None
    rounded = ir.Tensor(WeightCoding().encode(layer, weight, exact).rounded(), name=weight.tensor)
    graph.graph.initializers[weight.tensor].const_value = rounded
    relu = graphs.run(with_outputs(graph, ["relu"]), feeds)["relu"]
    given = ir.val("given", ir.DataType.FLOAT, relu.shape)
    graph.graph.inputs.append(given)
    layer.replace_input_with(0, given)
    around_zero = dequantize(quantize(relu, PARAMETERS), PARAMETERS)
    return graphs.run(graph, {**feeds, "given": around_zero})[output]


@pytest.mark.parametrize(
    ("op_type", "output"), [("Conv", "layer"), ("Gemm", "layer"), ("MatMul", "biased")]
)
def test_an_offset_does_what_a_zero_point_would(op_type: str, output: str) -> None:
    model = prepare(model_of(behind_relu(op_type).model(output)))
    plan = only(place(model, "tensorrt"), "relu")
    written = write_qdq(model.ir.clone(), plan, {"relu": PARAMETERS})
    feeds = feeds_of(model)
    found = graphs.run(written, feeds)[output]
    same = np.isclose(found, rounded_by_hand(model, feeds, output), atol=1e-4)
    assert same.mean() > 0.99  # a value half-way between two codes may go either way
    zero_points = [constant(n.inputs[2]) for n in written.graph if n.op_type == "QuantizeLinear"]
    assert zero_points == [0]


def test_a_residual_addition_reads_the_tensor_as_it_was() -> None:
    b = Builder()
    relu = b.node("Relu", "relu", b.conv("first", b.x))
    b.node("Add", "sum", b.conv("layer", relu, size=1), relu)
    model = prepare(model_of(b.model("sum")))
    plan = only(place(model, "tensorrt"), "relu")
    feeds = feeds_of(model)
    found = graphs.run(write_qdq(model.ir.clone(), plan, {"relu": with_offset(0, 6)}), feeds)["sum"]
    assert np.abs(found - graphs.run(model.ir, feeds)["sum"]).max() < 0.1


def test_half_of_the_noise_amplitude_is_left() -> None:
    model = prepare(model_of(behind_relu("Conv").model("layer")))
    plan, feeds = only(place(model, "tensorrt"), "relu"), feeds_of(model)
    top = float(graphs.run(with_outputs(model.ir, ["relu"]), feeds)["relu"].max())

    def error(parameters: QuantizationParameters) -> float:
        found = graphs.run(write_qdq(model.ir.clone(), plan, {"relu": parameters}), feeds)["layer"]
        return float(np.square(found - graphs.run(model.ir, feeds)["layer"]).mean())

    assert error(with_offset(0, top)) < 0.6 * error(symmetric(0, top))


def takes_offset(builder: Builder, output: str) -> bool:
    plan = place(prepare(model_of(builder.model(output))), "tensorrt")
    return activation_of(plan, "relu").takes_offset


def activation_of(plan: Plan, tensor: str) -> Activation:
    return next(a for a in plan.activations if a.tensor == tensor)


def test_padding_with_zeros_takes_no_offset() -> None:
    b = Builder()
    b.conv("layer", b.node("Relu", "relu", b.x))
    assert not takes_offset(b, "layer")


def test_padding_that_depends_on_the_size_takes_no_offset() -> None:
    b = Builder()
    relu, weight = b.node("Relu", "relu", b.x), b.weight("w", 4, CHANNELS, 3, 3)
    b.node("Conv", "layer", relu, weight, auto_pad="SAME_UPPER")
    assert not takes_offset(b, "layer")


def test_all_who_compute_with_a_tensor_must_take_the_offset() -> None:
    b = Builder()
    relu = b.node("Relu", "relu", b.x)
    b.node("Add", "sum", b.conv("layer", relu, size=1), b.conv("padded", relu))
    assert not takes_offset(b, "sum")


def test_a_matmul_without_a_bias_behind_it_takes_no_offset() -> None:
    b = Builder((1, 6, CHANNELS))
    b.node("MatMul", "layer", b.node("Relu", "relu", b.x), b.weight("w", CHANNELS, 5))
    assert not takes_offset(b, "layer")


def test_a_product_of_two_activations_takes_no_offset() -> None:
    b = Builder((1, CHANNELS, CHANNELS))
    b.node("MatMul", "layer", b.node("Relu", "relu", b.x), b.x)
    assert not takes_offset(b, "layer")


def test_a_bias_that_is_computed_takes_no_offset() -> None:
    b = Builder()
    bias = b.node("ReduceMax", "bias", b.x, axes=[0, 2, 3], keepdims=0)
    weight = b.weight("w", 4, CHANNELS, 1, 1)
    b.node("Conv", "layer", b.node("Relu", "relu", b.x), weight, bias)
    assert not takes_offset(b, "layer")


def test_a_nearly_symmetric_range_gets_no_zero_point() -> None:
    assert with_offset(-2, 3).zero_point == 0
    assert with_offset(-2, 3).scale == symmetric(-2, 3).scale


@pytest.mark.parametrize(("low", "high"), [(0.0, 3.0), (0.5, 3.0), (-0.28, 6.0), (-7.0, 0.0)])
def test_a_lopsided_range_uses_all_codes_and_keeps_zero_exact(low: float, high: float) -> None:
    parameters = with_offset(low, high)
    ends = np.array([min(low, 0), max(high, 0), 0], np.float32)
    codes = quantize(ends, parameters)
    assert codes.dtype == np.int8
    assert (codes[0], codes[1]) == pytest.approx((-128, 127), abs=1)
    assert dequantize(codes, parameters)[2] == 0
