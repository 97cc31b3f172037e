import graphs
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qbench.model.prepare import prepare
from qbench.placement.analysis import (
    channel_axis,
    compute_nodes,
    is_expectation,
    is_gelu_gate,
    tail_nodes,
    weight_axis,
)


def nodes_of(proto: onnx.ModelProto) -> dict[str | None, ir.Node]:
    return {node.name: node for node in prepare(graphs.model_of(proto)).ir.graph}


def single(op_type: str, weight_shape: tuple[int, ...], **attributes: int) -> ir.Node:
    b = graphs.Builder()
    b.node(op_type, "node", b.x, b.weight("w", *weight_shape), **attributes)
    return graphs.model_of(b.model("node")).ir.graph[0]


@pytest.mark.parametrize(
    ("node", "axis"),
    [
        (single("Conv", (4, 8, 3, 3)), 0),
        (single("Conv", (8, 1, 3, 3), group=8), 0),
        (single("ConvTranspose", (8, 4, 2, 2)), 1),
        (single("ConvTranspose", (8, 1, 2, 2), group=8), None),
        (single("Gemm", (8, 10)), 1),
        (single("Gemm", (10, 8), transB=1), 0),
        (single("MatMul", (16, 10)), 1),
        (single("MatMul", (1, 8, 16, 10)), 3),
        (single("MatMul", (16,)), None),
        (single("Relu", (1,)), None),
    ],
)
def test_the_axis_of_output_channels(node: ir.Node, axis: int | None) -> None:
    assert weight_axis(node) == axis


def test_the_axis_of_input_channels() -> None:
    nodes = nodes_of(graphs.classifier())
    assert channel_axis(nodes["features"].inputs[0]) == 1
    assert channel_axis(nodes["flat"].outputs[0]) == -1
    assert channel_axis(nodes["features_relu"].outputs[0]) is None


def test_readers_that_disagree_about_the_channels_leave_none() -> None:
    """Of [N, C, H, W], a convolution weighs C and a MatMul weighs W."""
    b = graphs.Builder()
    relu = b.node("Relu", "relu", b.x)
    b.conv("conv", relu)
    nodes = nodes_of(b.model("conv", b.node("MatMul", "mixed", relu, b.weight("w", 16, 4))))
    assert channel_axis(nodes["relu"].outputs[0]) is None


def test_products_of_two_activations_have_no_channels() -> None:
    """The number of tokens may change from image to image."""
    nodes = nodes_of(graphs.encoder())
    axes = {name: channel_axis(nodes[name].outputs[0]) for name in ("norm1", "gelu", "shares")}
    assert axes == {"norm1": -1, "gelu": -1, "shares": None}


@pytest.mark.parametrize("function", ["Erf", "Tanh"])
def test_a_gelu_gate_multiplies_by_one_plus_a_saturating_function(function: str) -> None:
    b = graphs.Builder()
    gate = b.node("Add", "gate", b.node(function, "function", b.x), b.constant("1", np.float32(1)))
    halved = b.node("Mul", "halved", b.x, b.constant("half", np.float32(0.5)))
    nodes = nodes_of(b.model(b.node("Mul", "gelu", halved, gate)))
    assert [name for name, node in nodes.items() if is_gelu_gate(node)] == ["gelu"]


def test_only_the_mean_over_a_softmax_is_an_expectation() -> None:
    nodes = nodes_of(graphs.detector())
    assert [name for name, node in nodes.items() if is_expectation(node)] == ["dfl"]
    # Attention averages values with a computed weight, which is worth quantizing.
    assert not any(is_expectation(node) for node in nodes_of(graphs.attention()).values())


def test_an_expectation_is_found_behind_data_movement() -> None:
    b = graphs.Builder((1, 6, 4))
    softmax = b.node("Softmax", "softmax", b.x)
    turned = b.node("Transpose", "turned", softmax, perm=[0, 2, 1])
    b.node("MatMul", "mean", turned, b.constant("steps", np.arange(6, dtype=np.float32)))
    assert is_expectation(nodes_of(b.model("mean"))["mean"])


def test_the_tail_follows_the_last_compute_node() -> None:
    model = prepare(graphs.model_of(graphs.detector())).ir
    tail = tail_nodes(model.graph, compute_nodes(model.graph))
    assert {node.name for node in tail} == {
        *("logits", "swapped", "shares", "dfl", "sides"),
        *("scores", "classes", "detections"),
    }


def test_compute_on_integers_is_not_quantized() -> None:
    b = graphs.Builder((2, 3))
    whole = b.node("Cast", "whole", b.x, to=onnx.TensorProto.INT32)
    weight = b.constant("w", np.ones((3, 3), np.int32))
    b.node("Cast", "y", b.node("MatMul", "product", whole, weight), to=onnx.TensorProto.FLOAT)
    graph = prepare(graphs.model_of(b.model("y"))).ir.graph
    assert compute_nodes(graph) == []
