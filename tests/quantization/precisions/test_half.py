from collections.abc import Iterable

import graphs
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from qbench.evaluation.similarity import sqnr_db
from qbench.model.passes.infer_shapes import infer_shapes
from qbench.model.prepare import prepare
from qbench.quantization.precisions.half import TYPES, to_half


def halved(proto: onnx.ModelProto) -> tuple[ir.Model, ir.Model]:
    """The prepared model and the same in FP16."""
    prepared = prepare(graphs.model_of(proto)).ir
    return prepared, to_half(prepared).ir


def assert_close(prepared: ir.Model, half: ir.Model, least_db: float = 50) -> None:
    feeds = graphs.feeds_of(graphs.Model(prepared, None, ""))
    wanted, found = graphs.run(prepared, feeds), graphs.run(half, feeds, simulate=False)
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype
        assert sqnr_db(array, found[name]) > least_db


@pytest.mark.parametrize("pattern", graphs.PATTERNS)
def test_every_pattern_runs_close_to_fp32(pattern: str) -> None:
    prepared, half = halved(graphs.PATTERNS[pattern]())
    assert_close(prepared, half)
    ends = [*half.graph.inputs, *half.graph.outputs]
    assert {value.dtype for value in ends} == {ir.DataType.FLOAT}


@pytest.mark.parametrize("pattern", graphs.PATTERNS)
def test_the_source_is_left_alone(pattern: str) -> None:
    prepared = prepare(graphs.model_of(graphs.PATTERNS[pattern]())).ir
    before = ir.to_proto(prepared).SerializeToString(deterministic=True)
    to_half(prepared)
    assert ir.to_proto(prepared).SerializeToString(deterministic=True) == before


def test_weights_and_activations_are_half_and_casts_stand_at_the_ends_only() -> None:
    _, half = halved(graphs.residual())
    graph = half.graph
    assert {value.dtype for value in graph.initializers.values()} == {ir.DataType.FLOAT16}
    casts = [node for node in graph if node.op_type == "Cast"]
    assert [node.inputs[0].name for node in casts] == ["x", "head_uncast"]


def test_the_scales_of_resize_stay_float() -> None:
    _, half = halved(graphs.upsample())
    (resize,) = (node for node in half.graph if node.op_type == "Resize")
    assert resize.inputs[2].dtype == ir.DataType.FLOAT
    assert resize.outputs[0].dtype == ir.DataType.FLOAT16


def test_branches_stay_float() -> None:
    _, half = halved(graphs.with_if())
    inner = [n for n in half.graph.all_nodes() if n.op_type in {"Neg", "Abs"}]
    assert {n.inputs[0].dtype for n in inner} == {ir.DataType.FLOAT}
    convs = [node for node in half.graph if node.op_type == "Conv"]
    assert {conv.outputs[0].dtype for conv in convs} == {ir.DataType.FLOAT16}


def test_weights_beyond_the_range_of_half_saturate() -> None:
    b = graphs.Builder()
    huge = b.constant("huge", np.float32([1e6]))
    _, half = halved(b.model(b.node("Min", "y", b.x, huge)))
    assert half.graph.initializers["huge_float16"].const_value.numpy() == [65504]


def test_casts_and_fills_that_name_their_type() -> None:
    b = graphs.Builder()
    whole = b.node("Cast", "whole", b.x, to=onnx.TensorProto.INT32)
    back = b.node("Cast", "back", whole, to=onnx.TensorProto.FLOAT)
    fill = onnx.numpy_helper.from_array(np.float32([2]))
    twos = b.node("ConstantOfShape", "twos", b.node("Shape", "shape", back), value=fill)
    prepared, half = halved(b.model(b.node("Mul", "y", back, twos)))
    assert_close(prepared, half)
    assert {n.outputs[0].dtype for n in half.graph if n.name == "y"} == {ir.DataType.FLOAT16}


def test_integers_pass_through() -> None:
    b = graphs.Builder()
    index = b.node("ArgMax", "index", b.conv("stem", b.x), axis=1)
    proto = b.model(index)
    proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    _, half = halved(proto)
    assert half.graph.outputs[0].dtype == ir.DataType.INT64


def test_what_the_schemas_know_in_float_only_gets_float() -> None:
    b = graphs.Builder((1, 6, 4))
    boxes = b.node("Relu", "boxes", b.x)
    summed = b.node("ReduceSum", "summed", boxes, b.constant("axes", np.array([2])), keepdims=1)
    scores = b.node("Transpose", "scores", summed, perm=[0, 2, 1])
    most = b.constant("most", np.array([3]))
    proto = b.model(b.node("NonMaxSuppression", "chosen", boxes, scores, most))
    proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    _, half = halved(proto)
    (nms,) = (node for node in half.graph if node.op_type == "NonMaxSuppression")
    assert [value.dtype.name for value in nms.inputs if value] == ["FLOAT", "FLOAT", "INT64"]
    assert half.graph.node("summed").outputs[0].dtype == ir.DataType.FLOAT16
    graphs.run(half, graphs.feeds_of(graphs.Model(half, None, "")))


@pytest.mark.parametrize("pattern", graphs.PATTERNS)
def test_bf16_is_close_to_fp32_by_the_definition_of_onnx(pattern: str) -> None:
    """ONNX Runtime computes BF16 almost nowhere, so the reference implementation must."""
    prepared = prepare(graphs.model_of(graphs.PATTERNS[pattern]())).ir
    half = to_half(prepared, TYPES["bf16"]).ir
    proto = ir.to_proto(half)
    onnx.checker.check_model(proto, full_check=True)
    assert half.graph.opset_imports[""] == 22
    assert {value.dtype for value in (*half.graph.inputs, *half.graph.outputs)} == {
        ir.DataType.FLOAT
    }
    feeds = graphs.feeds_of(graphs.Model(prepared, None, ""))
    wanted = graphs.run(prepared, feeds)
    found = ReferenceEvaluator(proto).run(None, feeds)
    for array, name in zip(found, wanted, strict=True):
        assert sqnr_db(wanted[name], array) > 25


def test_inputs_and_outputs_may_change_their_type_too() -> None:
    prepared = prepare(graphs.model_of(graphs.output_in_the_middle())).ir
    half = to_half(prepared, keep_io=False).ir
    assert {v.dtype for v in (*half.graph.inputs, *half.graph.outputs)} == {ir.DataType.FLOAT16}
    assert not any(node.op_type == "Cast" for node in half.graph)
    feeds = graphs.feeds_of(graphs.Model(prepared, None, ""))
    wanted = graphs.run(prepared, feeds)
    short = {name: array.astype(np.float16) for name, array in feeds.items()}
    for name, array in graphs.run(half, short, simulate=False).items():
        assert array.dtype == np.float16
        assert sqnr_db(wanted[name], array.astype(np.float32)) > 50


@pytest.mark.parametrize("keep_io", [True, False])
def test_nodes_that_are_named_stay_fp32_between_casts(keep_io: bool) -> None:
    prepared = prepare(graphs.model_of(graphs.residual())).ir
    reasons = {"stem": "first", "head": "last", "branch1": "middle"}
    half = to_half(prepared, keep_io=keep_io, wide=reasons)
    assert {node.name: node.reason for node in half.floats} == reasons
    nodes = {node.name: node for node in half.ir.graph}
    for name in reasons:
        assert {value.dtype for value in nodes[name].inputs} == {ir.DataType.FLOAT}
        assert nodes[name].outputs[0].dtype == ir.DataType.FLOAT
    assert nodes["after"].outputs[0].dtype == ir.DataType.FLOAT16
    wanted = ir.DataType.FLOAT if keep_io else ir.DataType.FLOAT16
    assert half.ir.graph.inputs[0].dtype == half.ir.graph.outputs[0].dtype == wanted
    assert half.ir.graph.outputs[0].name == "head"
    ir.to_proto(half.ir)
    if keep_io:
        assert_close(prepared, half.ir)


def test_nodes_that_cannot_change_are_listed_with_the_reason() -> None:
    prepared = prepare(graphs.model_of(graphs.with_if())).ir
    (node,) = to_half(prepared).floats
    assert (node.op_type, node.reason) == ("If", "nodes inside it stay FP32")


@pytest.mark.parametrize("dtype", TYPES.values())
def test_a_gru_stays_float(dtype: ir.DataType) -> None:
    """In FP16 it crashes ONNX Runtime 1.31, and TensorRT refuses it in BF16."""
    b = graphs.Builder((5, 1, graphs.CHANNELS))
    weights = [b.weight(name, 1, 3 * graphs.CHANNELS, graphs.CHANNELS) for name in ("w", "r")]
    states = b.node("GRU", "states", b.x, *weights, hidden_size=graphs.CHANNELS)
    flat = b.node("Flatten", "flat", states)
    score = b.node("Gemm", "score", flat, b.weight("s", 3, graphs.CHANNELS), transB=1)
    half = to_half(prepare(graphs.model_of(b.model(score))).ir, dtype)
    reason = "runtimes fail on it in half precision"
    assert [(n.name, n.op_type, n.reason) for n in half.floats] == [("states", "GRU", reason)]
    nodes = {node.name: node for node in half.ir.graph}
    assert nodes["states"].outputs[0].dtype == ir.DataType.FLOAT
    assert nodes["score"].outputs[0].dtype == dtype


def test_constants_of_integers_are_no_floats() -> None:
    b = graphs.Builder()
    code = helper.make_tensor("", onnx.TensorProto.INT64, [1], [3])
    b.nodes.append(helper.make_node("Constant", [], ["axes"], value=code))  # without a name
    model = ir.from_proto(b.model(b.node("Unsqueeze", "y", b.x, "axes")))
    infer_shapes(model)
    assert to_half(model).floats == ()


def dtypes_of(ends: Iterable[ir.Value]) -> list[str]:
    return [value.dtype.name for value in ends if value.dtype is not None]


@pytest.mark.parametrize(("keep_io", "dtype"), [(True, "FLOAT"), (False, "FLOAT16")])
def test_a_constant_that_is_an_output(keep_io: bool, dtype: str) -> None:
    b = graphs.Builder()
    scale = b.constant("scale", np.float32([2, 3]))
    prepared = prepare(
        graphs.model_of(b.model(b.node("Mul", "y", b.x, b.constant("w", np.ones(1, "f"))), scale))
    ).ir
    half = to_half(prepared, keep_io=keep_io).ir
    assert [value.name for value in half.graph.outputs] == ["y", "scale"]
    assert dtypes_of(half.graph.outputs) == [dtype, dtype]
    onnx.checker.check_model(ir.to_proto(half), full_check=True)
    if keep_io:
        assert_close(prepared, half)


def test_a_constant_that_is_read_and_an_output() -> None:
    b = graphs.Builder()
    scale = b.constant("scale", np.float32([2]))
    assert_close(*halved(b.model(b.node("Mul", "y", b.x, scale), scale)))


@pytest.mark.parametrize("dtype", TYPES.values())
def test_sequences_stay_float(dtype: ir.DataType) -> None:
    b = graphs.Builder()
    b.node("SplitToSequence", "parts", b.conv("stem", b.x), axis=1)
    part = b.node("SequenceAt", "part", "parts", b.constant("index", np.int64(1)))
    prepared = prepare(graphs.model_of(b.model(b.node("Relu", "y", part)))).ir
    half = to_half(prepared, dtype)
    assert {node.name: node.reason for node in half.floats} == dict.fromkeys(
        ("parts", "part"), "it reads or writes a sequence or an optional"
    )
    onnx.checker.check_model(ir.to_proto(half.ir), full_check=True)
    if dtype == TYPES["fp16"]:
        assert_close(prepared, half.ir)


def test_names_that_the_model_has_already() -> None:
    b = graphs.Builder()
    weight = b.constant("w", np.ones(1, np.float32))
    first = b.node("Mul", "x_as_float16", b.x, weight)
    second = b.node("Relu", "w_float16", first)
    third = b.node("Relu", "y_uncast", second)
    b.nodes[-1].name = "x_as_float16_1_Cast"
    prepared, half = halved(b.model(b.node("Sigmoid", "y", third)))
    assert_close(prepared, half)
    before = [node.name for node in prepared.graph]
    after = [node.name for node in half.graph]
    assert [name for name in after if name in before] == before
    assert len(set(after)) == len(after)


@pytest.mark.parametrize("dtype", TYPES.values())
@pytest.mark.parametrize("keep_io", [True, False])
def test_outputs_with_a_type_of_their_own(dtype: ir.DataType, keep_io: bool) -> None:
    b = graphs.Builder((*graphs.IMAGE[:3], "W"))  # a known width would fold the window
    last = b.node("Gather", "last", b.node("Shape", "shape", b.x), b.constant("at", np.int64(3)))
    hann = b.node("HannWindow", "window", last)
    window = b.node("Reshape", "row", hann, b.constant("flat", np.array([-1])))
    noise = b.node("RandomNormal", "noise", shape=[1])
    scale = b.constant("scale", np.ones(16, np.float32))
    b.nodes.append(
        onnx.helper.make_node("LayerNormalization", [b.x, scale], ["norm", "mean"], name="norm")
    )
    parts = [b.node("Add", "a", "norm", "mean"), b.node("Add", "b", window, noise)]
    prepared = prepare(graphs.model_of(b.model(b.node("Mul", "y", *parts)))).ir
    half = to_half(prepared, dtype, keep_io=keep_io)
    assert [node.name for node in half.floats] == ["window", "noise"]
    assert all("type of its own" in node.reason for node in half.floats)
    onnx.checker.check_model(ir.to_proto(half.ir), full_check=True)
