from unittest.mock import Mock

import graphs
import numpy as np
import onnx
import pytest
import qdq
from onnx import TensorProto, helper

from qbench.errors import ModelError
from qbench.model import shapes
from qbench.model.graph import static_shape
from qbench.model.load import Model
from qbench.model.prepare import prepare
from qbench.model.shapes import (
    Macs,
    bind_shapes,
    bound_to_one,
    example_shapes,
    macs_by_node,
    macs_of,
)
from qbench.model.spec import open_image_size


def macs(proto: onnx.ModelProto) -> dict[str, int]:
    prepared = prepare(graphs.model_of(proto))
    return macs_by_node(bind_shapes(prepared.ir, example_shapes(prepared)))


def dynamic(*shape: int | str) -> Model:
    b = graphs.Builder(shape)
    return prepare(graphs.model_of(b.model(b.conv("head", b.x))))


def test_macs_of_convolutions() -> None:
    # Output pixels x output channels x kernel x input channels per group.
    assert macs(graphs.depthwise()) == {
        "depthwise": 16 * 16 * 8 * 9,
        "pointwise": 16 * 16 * 8 * 8,
        "head": 16 * 16 * 8 * 9 * 8,
    }


def test_macs_of_a_transposed_convolution() -> None:
    # Input pixels x input channels x kernel x output channels.
    assert macs(graphs.conv_transpose())["up"] == 8 * 8 * 8 * 4 * 8


def test_macs_of_matrix_products() -> None:
    assert macs(graphs.classifier())["fc"] == 8 * 10
    # 6 tokens of 8 channels.
    assert macs(graphs.attention()) == {
        "query": 6 * 8 * 8,
        "key": 6 * 8 * 8,
        "scores": 6 * 6 * 8,
        "mixed": 6 * 8 * 6,
    }


def test_macs_of_static_integer_operators() -> None:
    b = qdq.QdqBuilder()
    pair = "x.scale", "x.zero"
    kernels = b.constant("kernels", np.ones((4, 8, 3, 3), np.uint8))
    rows = b.constant("rows", np.ones((10, 4), np.uint8))
    b.q(b.x, "x")
    conv = b.node("QLinearConv", "conv", "x.q", *pair, kernels, *pair, *pair, pads=[1] * 4)
    pool = b.node("QLinearGlobalAveragePool", "pool", conv, *pair, *pair, domain="com.microsoft")
    flat = b.node("Flatten", "flat", pool)
    options = {"transB": 1, "domain": "com.microsoft"}
    gemm = b.node("QGemm", "gemm", flat, *pair, rows, *pair, "", *pair, **options)
    product = b.node("QLinearMatMul", "product", gemm, *pair, rows, *pair, *pair)
    expected = {"conv": 16 * 16 * 4 * 9 * 8, "gemm": 4 * 10, "product": 10 * 4}
    model = prepare(graphs.model_of(b.model(b.node("DequantizeLinear", "y", product, *pair))))
    assert macs_of(model, bound_to_one(model, None)) == Macs(expected)


def test_macs_of_dynamic_integer_operators() -> None:
    b = graphs.Builder()
    kernels = b.constant("kernels", np.ones((4, 8, 3, 3), np.uint8))
    b.nodes.append(helper.make_node("DynamicQuantizeLinear", [b.x], ["codes", "scale", "zero"]))
    conv = b.node("ConvInteger", "conv", "codes", kernels, "zero")
    floats = b.node("Cast", "floats", conv, to=TensorProto.FLOAT)
    mean = b.node("ReduceMean", "mean", floats, axes=[1, 2])
    b.nodes.append(helper.make_node("DynamicQuantizeLinear", [mean], ["means", "s", "z"]))
    wide = b.constant("wide", np.ones((14, 10), np.uint8))
    proto = b.model(b.node("Cast", "y", b.node("MatMulInteger", "product", "means", wide), to=1))
    model = prepare(graphs.model_of(proto))
    expected = {"conv": 14 * 14 * 4 * 9 * 8, "product": 10 * 14}
    assert macs_of(model, bound_to_one(model, None)) == Macs(expected)


@pytest.mark.parametrize(("op_type", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("directions", [1, 2])
def test_macs_of_recurrent_layers(op_type: str, gates: int, directions: int) -> None:
    steps, batch, inputs, hidden = 7, 2, 5, 6
    b = graphs.Builder((steps, batch, inputs))
    weights = [b.weight(n, directions, gates * hidden, size) for n, size in (("w", 5), ("r", 6))]
    way = "bidirectional" if directions == 2 else "forward"
    layer = b.node(op_type, "layer", b.x, *weights, hidden_size=hidden, direction=way)
    per_step = gates * hidden * (inputs + hidden)
    assert macs(b.model(layer)) == {"layer": steps * batch * directions * per_step}


def halved_repeatedly(times: int) -> onnx.ModelProto:
    """Each reshape takes its shape from the one before it, by a division as windows are cut."""
    b = graphs.Builder(("N", 2**times))
    one, two, rest = (b.constant(f"c{value}", np.array([value])) for value in (1, 2, -1))
    for i in range(times):
        shape = b.node("Shape", f"shape{i}", b.x)
        width = b.node("Gather", f"width{i}", shape, one)
        count = b.node("Div", f"count{i}", width, two)
        wanted = b.node("Concat", f"wanted{i}", rest, count, axis=0)
        b.x = b.node("Reshape", f"reshape{i}", b.x, wanted)
    return b.model(b.node("Relu", "y", b.x))


def test_shapes_that_follow_from_each_other_take_no_pass_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted = Mock(side_effect=shapes.infer_shapes)
    monkeypatch.setattr(shapes, "infer_shapes", counted)
    prepared = prepare(graphs.model_of(halved_repeatedly(10)))
    bound = bind_shapes(prepared.ir, {"x": (3, 1024)})
    found = {value.name: value.shape for node in bound.graph for value in node.outputs}
    assert [found[f"reshape{i}"] for i in range(10)] == [
        (3 * 2**i, 1024 >> i) for i in range(1, 11)
    ]
    assert {node.op_type for node in bound.graph} == {"Reshape", "Relu"}
    assert counted.call_count < 4


def test_what_multiplies_without_being_counted_is_named() -> None:
    b = graphs.Builder()
    conv = b.conv("stem", b.x)
    product = b.node("Einsum", "product", conv, conv, equation="nchw,nchw->nc")
    model = prepare(graphs.model_of(b.model(product)))
    found = macs_of(model, bound_to_one(model, None))
    assert found == Macs({"stem": 16 * 16 * 8 * 9 * 8}, ("product (Einsum)",))


def test_products_in_branches_are_named_and_an_open_size_counts_nothing() -> None:
    b = graphs.Builder()
    body = [helper.make_node("MatMul", [b.x, b.x], ["y"], "inner")]
    info = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    branch = helper.make_graph(body, "branch", [], [info])
    yes = b.constant("yes", np.array(True))
    taken = b.node("If", "taken", yes, then_branch=branch, else_branch=branch)
    model = graphs.model_of(b.model(taken))
    found = macs_of(model, bound_to_one(model, None))
    assert found is not None
    assert found.uncounted == ("inner (MatMul)", "inner (MatMul)")
    open_size = dynamic("N", 8, "H", "W")
    assert macs_of(open_size, bound_to_one(open_size, None)) is None


def test_macs_of_a_product_whose_input_is_transposed() -> None:
    b = graphs.Builder((8, 2))
    weight = b.constant("fc.w", np.ones((8, 10), np.float32))
    proto = b.model(b.node("Gemm", "fc", b.x, weight, transA=1))
    assert macs(proto) == {"fc": 2 * 10 * 8}


def test_open_dimensions_become_the_image_and_a_batch_of_one() -> None:
    assert example_shapes(dynamic("N", 8, "H", "W"), (32, 48)) == {"x": (1, 8, 32, 48)}
    assert example_shapes(dynamic("N", 8, 16, "W"), (32, 48)) == {"x": (1, 8, 16, 48)}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (("N", "H", "W", 3), (1, 32, 48, 3)),
        ((1, "H", "W", 3), (1, 32, 48, 3)),
        (("N", 16, "W", 3), (1, 16, 48, 3)),
        (("N", "H", 16, 3), (1, 32, 16, 3)),
        (("N", 3, "H", 16), (1, 3, 32, 16)),
        (("N", 4, "H", 3), (1, 4, 32, 3)),
        (("N", "T", 80), (1, 1, 80)),
    ],
)
def test_height_and_width_lie_beside_the_channels(
    shape: tuple[int | str, ...], expected: tuple[int, ...]
) -> None:
    b = graphs.Builder(shape)
    model = graphs.model_of(b.model(b.node("Relu", "relu", b.x)))
    assert example_shapes(model, (32, 48)) == {"x": expected}


@pytest.mark.parametrize(
    ("shape", "sample", "size"),
    [
        (("N", 3, "H", "W"), (1, 3, 32, 48), (32, 48)),
        (("N", 3, 32, "W"), (1, 3, 32, 48), (32, 48)),
        (("N", "H", "W", 3), (1, 32, 48, 3), (32, 48)),
        ((1, 3, 32, 48), (1, 3, 32, 48), None),  # nothing is open
        (("N", "T", 80), (1, 7, 80), None),  # no image
    ],
)
def test_the_size_of_a_sample_is_what_the_model_leaves_open(
    shape: tuple[int | str, ...], sample: tuple[int, ...], size: tuple[int, int] | None
) -> None:
    assert open_image_size(shape, sample) == size


def test_channels_take_no_size() -> None:
    with pytest.raises(ModelError, match=r"\['N', 'C', 'H', 'W'\] and dynamic channels; fix its"):
        example_shapes(dynamic("N", "C", "H", "W"), (32, 48))


def test_open_dimensions_without_an_image_size() -> None:
    with pytest.raises(
        ModelError, match=r"input 'x' has a dynamic size \['N', 8, 'H', 'W'\]; give"
    ):
        example_shapes(dynamic("N", 8, "H", "W"))


def test_bound_shapes_reach_every_tensor_and_leave_the_model_alone() -> None:
    model = dynamic("N", 8, "H", "W")
    bound = bind_shapes(model.ir, {"x": (2, 8, 32, 48)})
    assert static_shape(bound.graph.outputs[0]) == (2, 8, 32, 48)
    assert static_shape(model.ir.graph.outputs[0]) is None
    assert macs_by_node(model.ir) == {}


def test_shapes_that_are_computed_from_the_input_are_bound() -> None:
    b = graphs.Builder(("N", 8, 16, 16))
    shape = b.node("Shape", "shape", b.x)
    flat = b.node("Reshape", "flat", b.conv("head", b.x), shape)
    prepared = prepare(graphs.model_of(b.model(flat)))
    assert static_shape(bind_shapes(prepared.ir, {"x": (3, 8, 16, 16)}).graph.outputs[0]) == (
        3,
        8,
        16,
        16,
    )
