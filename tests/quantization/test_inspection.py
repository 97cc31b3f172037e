from pathlib import Path

import graphs
import msgspec
import numpy as np
import onnx
import pytest
import qdq
from onnx import TensorProto, helper, numpy_helper

from qbench.model.load import load
from qbench.quantization.encodings import Encoding
from qbench.quantization.inspect import SpecDocument, TargetInspection, inspect
from qbench.quantization.options import Int8Options
from qbench.quantization.quantize import quantize


def test_a_classifier(tmp_path: Path) -> None:
    onnx.save(graphs.classifier(), tmp_path / "m.onnx")
    found = inspect(load(tmp_path / "m.onnx"))
    assert found.inputs == (SpecDocument("x", "float32", graphs.IMAGE),)
    assert found.opset == 17
    assert found.ops == dict.fromkeys(
        ("Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm", "Softmax"), 1
    )
    assert found.parameters == 8 * 8 * 9 + 8 + 10 * 8 + 10
    assert found.parameter_bytes == 4 * found.parameters
    assert found.macs == 16 * 16 * 8 * 9 * 8 + 10 * 8
    assert found.notes == ()
    assert msgspec.json.decode(msgspec.json.encode(found))["schema_version"] == 1


def test_targets_tell_what_stays_float_and_why() -> None:
    cpu, tensorrt = inspect(graphs.model_of(graphs.conv_transpose())).targets
    assert (cpu.target, cpu.quantized) == ("cpu", 1)
    assert [(n.name, n.op_type) for n in cpu.float_nodes] == [
        ("up", "ConvTranspose"),
        ("head", "Conv"),
    ]
    stem, up, head = 8 * 8 * 9 * 64, 8 * 8 * 4 * 64, 16 * 16 * 9 * 64
    assert cpu.int8_mac_fraction == pytest.approx(stem / (stem + up + head))
    assert tensorrt.int8_mac_fraction == pytest.approx((stem + head) / (stem + up + head))


def mobile_stem() -> onnx.ModelProto:
    """How a MobileNet begins: with convolutions that integers make no faster on a CPU."""
    b = graphs.Builder((1, 3, 64, 64))
    stem = b.node("Relu", "stem_relu", b.conv("stem", b.x, cin=3, cout=16))
    spread = b.node("Relu", "spread", b.conv("depthwise", stem, cin=16, cout=16, group=16))
    x = b.conv("project", spread, size=1, cin=16, cout=32)
    for name in ("first", "second"):
        x = b.node("Relu", f"{name}_relu", b.conv(name, x, cin=32, cout=32, strides=[2, 2]))
    return b.model(b.conv("head", x, cin=32))


def test_it_tells_what_quantize_writes() -> None:
    model = graphs.model_of(mobile_stem())
    table, options = graphs.table_of(model), Int8Options(effort="fast")
    for found in inspect(model).targets:
        written = quantize(model, target=found.target, table=table, options=options)
        assert written.plan is not None
        assert found.quantized == len(written.plan.quantized)
        assert found.int8_mac_fraction == written.int8_mac_fraction
        assert found.float_nodes == written.float_nodes
    reasons = {node.name: node.reason for node in inspect(model).targets[0].float_nodes}
    assert reasons["depthwise"] == "takes no longer in float on a CPU"


def test_weights_count_that_lie_in_constants_and_in_branches() -> None:
    b = graphs.Builder()
    weight = numpy_helper.from_array(np.ones((8, 8, 1, 1), np.float32))
    inner = [
        helper.make_node("Constant", [], ["w"], value=weight),
        helper.make_node("Conv", ["x", "w"], ["inner_y"]),
    ]
    info = helper.make_tensor_value_info("inner_y", TensorProto.FLOAT, None)
    branch = helper.make_graph(inner, "branch", [], [info])
    outer = b.node("Conv", "outer", b.x, b.node("Constant", "v", value=weight))
    positive = b.node(
        "Greater",
        "positive",
        b.node("ReduceMean", "m", outer, keepdims=0),
        b.constant("zero", np.float32(0)),
    )
    proto = b.model(b.node("If", "y", positive, then_branch=branch, else_branch=branch))
    assert inspect(graphs.model_of(proto)).parameters == 3 * 64 + 1


def test_branches_are_noted() -> None:
    notes = inspect(graphs.model_of(graphs.with_if())).notes
    assert notes == ("kept in float: 2 nodes inside If, Loop or Scan",)


def test_branches_may_hand_on_one_tensor_from_outside() -> None:
    notes = inspect(graphs.model_of(graphs.with_if("Identity", "Identity"))).notes
    assert notes == ("kept in float: 2 nodes inside If, Loop or Scan",)


def test_recurrent_layers_are_counted_and_named() -> None:
    found = inspect(graphs.model_of(graphs.recurrent()))
    stem, lstm, score = 10 * 8 * 3 * 8, 10 * 4 * 8 * (8 + 8), 8 * 3
    assert (found.macs, found.uncounted) == (stem + lstm + score, ())
    assert found.notes == ("recurrent layers stay float: lstm (LSTM)",)
    assert found.targets[1].int8_mac_fraction == pytest.approx((stem + score) / found.macs)


def test_an_open_image_size() -> None:
    b = graphs.Builder(("N", graphs.CHANNELS, "H", "W"))
    model = graphs.model_of(b.model(b.conv("head", b.conv("stem", b.x))))
    assert inspect(model).macs is None
    assert inspect(model).targets[1].int8_mac_fraction is None
    assert inspect(model, (32, 32)).macs == 2 * 32 * 32 * 8 * 9 * 8


def test_a_quantized_model_is_described_all_the_same() -> None:
    b = graphs.Builder()
    scale = b.constant("scale", np.float32(0.1))
    pair = b.node("DequantizeLinear", "dq", b.node("QuantizeLinear", "q", b.x, scale), scale)
    found = inspect(graphs.model_of(b.model(b.conv("head", pair)), Path("int8.onnx")))
    problem = "int8.onnx is quantized already; give the float model"
    assert found.targets == tuple(
        TargetInspection(target=target, problem=problem) for target in ("cpu", "tensorrt")
    )


def test_the_encodings_of_a_quantized_model() -> None:
    b = qdq.QdqBuilder()
    inputs = b.qdq(b.x, "x", 0.5, np.uint8(3)), b.qweight("w", (8, 8, 3, 3)), b.qbias("b", 0.005)
    found = inspect(graphs.model_of(b.model(b.node("Conv", "conv", *inputs, pads=[1] * 4))))
    assert {e.tensor: (e.role, e.dtype, e.axis) for e in found.encodings} == {
        "x": ("activation", "UINT8", None),
        "w": ("weight", "INT8", 0),
        "b": ("bias", "INT32", 0),
    }
    x, w, _ = found.encodings
    assert x == Encoding("x", "activation", "UINT8", None, (0.5,), (3,))
    assert w.scale == pytest.approx([0.01] * 8)
    assert w.zero_point == (0,) * 8


def test_macs_behind_pairs_of_onnx_runtimes_domain() -> None:
    proto = qdq.conv()
    proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    expected = inspect(graphs.model_of(proto)).macs
    for node in proto.graph.node:
        node.domain = "com.microsoft" if "Linear" in node.op_type else ""
    inspection = inspect(graphs.model_of(proto))
    assert (inspection.macs, inspection.uncounted) == (expected, ())


def test_float_weights_behind_a_pair_are_weights() -> None:
    b = qdq.QdqBuilder()
    weight = b.qdq(b.weight("w", 8, 8, 3, 3), "wq", 0.02, qdq.S8)
    found = inspect(graphs.model_of(b.model(b.node("Conv", "conv", b.qdq(b.x, "x"), weight))))
    assert {e.tensor: e.role for e in found.encodings} == {"x": "activation", "w": "weight"}


def test_scales_that_json_cannot_say() -> None:
    b = qdq.QdqBuilder()
    computed = b.node("ReduceMax", "largest", b.x, keepdims=0)
    model = b.model(b.qdq(b.qdq(b.x, "x", computed), "y", np.nan))
    x, y = inspect(graphs.model_of(model)).encodings
    assert (x.scale, y.scale) == ((), (None,))
    assert msgspec.json.encode((x, y))


def test_without_a_zero_point_codes_are_uint8_but_for_output_dtype() -> None:
    b = qdq.QdqBuilder(opset=21)
    scale = b.constant("scale", np.float32(1))
    plain = b.node("QuantizeLinear", "plain", b.x, scale)
    told = b.node("QuantizeLinear", "told", "y", scale, output_dtype=TensorProto.INT8)
    b.input("y", graphs.IMAGE)
    outputs = [b.node("DequantizeLinear", f"dq{i}", q, scale) for i, q in enumerate((plain, told))]
    found = inspect(graphs.model_of(b.model(*outputs))).encodings
    assert [(e.tensor, e.dtype, e.zero_point) for e in found] == [
        ("x", "UINT8", (0,)),
        ("y", "INT8", (0,)),
    ]


def test_scales_inside_integer_operators_are_passed_over_aloud() -> None:
    b = qdq.QdqBuilder()
    pair = "x.scale", "x.zero"
    codes = b.q(b.x, "x")
    pooled = b.node("QLinearGlobalAveragePool", "pool", codes, *pair, *pair, domain="com.microsoft")
    model = b.model(b.node("DequantizeLinear", "y", pooled, *pair))
    found = inspect(graphs.model_of(model))
    assert found.notes == ("not listed: the scales of 1 node with integer operators",)
    assert [e.tensor for e in found.encodings] == ["x"]


def test_constants_may_be_listed_as_inputs() -> None:
    """As files of the first versions of ONNX do."""
    model = qdq.conv()
    for tensor in model.graph.initializer:
        info = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.append(info)
    found = inspect(graphs.model_of(model)).encodings
    assert [(e.tensor, e.role, len(e.scale)) for e in found] == [
        ("x", "activation", 1),
        ("conv.w", "weight", 8),
        ("conv", "activation", 1),
    ]
