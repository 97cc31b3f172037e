"""Audits of quantized models that other tools made."""

import re
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import graphs
import msgspec
import numpy as np
import onnx
import onnx_ir as ir
import pytest
import qdq
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

from qbench.engines.auditing import model as module
from qbench.engines.auditing.engine import EngineAudit, NodeFinding
from qbench.engines.auditing.model import (
    ModelAudit,
    audit_file,
    audit_model,
    audit_tensorrt,
    least_gpu_of,
    likely_target,
)
from qbench.errors import BudgetError, EngineError, ModelError, UnfitError, UsageError
from qbench.model.load import Model, load
from qbench.model.prepare import prepare
from qbench.placement.targets import place
from qbench.quantization.int8 import Int8Options
from qbench.quantization.quantize import quantize
from qbench.runtimes.tensorrt.flavour import Flavour


@pytest.mark.parametrize(
    ("dtype", "least"),
    [
        ("FLOAT", 0),
        ("FLOAT16", 0),
        ("BFLOAT16", 80),
        ("INT4", 80),
        ("INT8", 80),
        ("FLOAT8E4M3FN", 89),
    ],
)
def test_types_need_a_gpu_that_has_them(dtype: str, least: int) -> None:
    value = ir.val("x", ir.DataType[dtype])
    graph = ir.Graph(
        [value], [], nodes=[ir.node("Identity", [value], outputs=[ir.val("y", ir.DataType[dtype])])]
    )
    assert least_gpu_of(graph) == least


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        draw = np.random.default_rng(0).normal
        self.feeds = iter([{"x": draw(size=graphs.IMAGE).astype(np.float32)} for _ in range(2)])

    def get_next(self) -> Any:
        return next(self.feeds, None)


UNSIGNED = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
FOR_TENSORRT = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
}


@pytest.fixture
def quantized(tmp_path: Path) -> Any:
    """A residual network as ONNX Runtime's own quantizer writes it."""

    def write(**options: Any) -> Model:
        onnx.save(graphs.residual(), tmp_path / "float.onnx")
        path = tmp_path / "int8.onnx"
        quantize_static(tmp_path / "float.onnx", path, Reader(), **options)
        return load(path)

    return write


@pytest.fixture
def saved(tmp_path: Path) -> Any:
    def write(model: onnx.ModelProto) -> Model:
        onnx.save(model, tmp_path / "m.onnx")
        return load(tmp_path / "m.onnx")

    return write


def test_unsigned_models_of_onnx_runtime_run_on_cpu(quantized: Any) -> None:
    model = quantized(**UNSIGNED, per_channel=True, reduce_range=True)
    assert likely_target(model.ir.graph) == "cpu"
    found = audit_model(model, "cpu")
    assert (found.nodes_by_dtype, found.int8_fraction) == ({"Conv": {"Int8": 5}}, 1.0)
    assert (found.not_int8, found.findings, found.refusal) == ((), (), None)
    assert (found.runtime or "").startswith("ONNX Runtime ")
    found.check_runs()
    found.check_int8(1.0)
    assert msgspec.json.decode(msgspec.json.encode(found))["schema_version"] == 1


def test_the_default_of_onnx_runtime_suits_neither(quantized: Any) -> None:
    """Signed with zero-points: too much for TensorRT, and slow on x86 where a skip reads along."""
    model = quantized()
    found = audit_model(model, "cpu")
    assert {f.rule for f in found.findings if f.rule != "saturation"} == {"signed"}
    assert found.int8_fraction == pytest.approx(3 / 5)
    assert {node.node for node in found.not_int8} >= {"branch1"}
    with pytest.raises(BudgetError, match=r"60\.0 % of the compute nodes .* the 95\.0 % required"):
        found.check_int8(0.95)


def test_where_nothing_computes_no_share_can_be_required(saved: Any) -> None:
    b = qdq.QdqBuilder()
    found = audit_model(saved(b.model(b.node("Relu", "relu", b.qdq(b.x, "x")))), "cpu")
    with pytest.raises(
        UnfitError, match=r"m\.onnx on cpu has no Conv, .* leave --require-int8 out"
    ):
        found.check_int8(0.5)


def test_integer_operators_count_as_int8(quantized: Any) -> None:
    found = audit_model(quantized(**UNSIGNED, quant_format=QuantFormat.QOperator), "cpu")
    assert found.nodes_by_dtype == {"QLinearConv": {"Int8": 5}}


def test_equal_pairs_of_onnx_runtimes_quantizer_hinder_nothing(quantized: Any) -> None:
    """With a pair for each reader, which ONNX Runtime merges again."""
    options = {"extra_options": {"DedicatedQDQPair": True}, "reduce_range": True}
    found = audit_model(quantized(**UNSIGNED, per_channel=True, **options), "cpu")
    assert (found.int8_fraction, found.not_int8, found.findings) == (1.0, (), ())


def test_weights_that_are_packed_are_told_from_those_that_are_dequantized(saved: Any) -> None:
    b = qdq.QdqBuilder((2, 32), opset=21)
    codes, scales = b.constant("codes", np.ones((8, 1, 16), np.uint8)), np.ones(8, np.float32)
    packed = {"K": 32, "N": 8, "bits": 4, "block_size": 32, "domain": "com.microsoft"}
    packing = b.constant("scales", scales)
    product = b.node("MatMulNBits", "packed", b.x, codes, packing, **packed)
    rounded = b.node("MatMulNBits", "rounded", b.x, codes, packing, accuracy_level=4, **packed)
    image = b.input("image", graphs.IMAGE)
    model = b.model(product, rounded, b.qconv("conv", image))
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    found = audit_model(saved(model), "cpu")
    assert found.nodes_by_dtype == {"MatMulNBits": {"Float": 2}, "Conv": {"Float": 1}}
    takes = "MatMulNBits takes and gives floats, with weights of 4 bits"
    assert {node.node: node.reason for node in found.not_int8} == {
        "packed": takes,
        "rounded": f"{takes}; it may round its input to INT8 by itself",
        "conv": "its weights are Int8, which are dequantized when it runs; its input is not "
        "quantized",
    }


@pytest.mark.parametrize(
    ("takes_codes", "reason"),
    [(True, "its input 'w' is float"), (False, "its inputs are not quantized")],
)
def test_floats_beside_what_is_quantized(takes_codes: bool, reason: str, saved: Any) -> None:
    b = qdq.QdqBuilder()
    rounded = b.qdq(b.x, "x")
    w = b.weight("w", 8, 8, 1, 1)
    node = b.node("Conv", "conv", rounded if takes_codes else b.node("Relu", "relu", rounded), w)
    found = audit_model(saved(b.model(node)), "cpu")
    assert [(node.node, node.reason) for node in found.not_int8] == [("conv", reason)]


def test_a_float_model_is_no_model_to_audit(saved: Any) -> None:
    with pytest.raises(ModelError, match=r"m\.onnx is not quantized, .*`qbench quantize .*cpu`"):
        audit_model(saved(graphs.residual()), "cpu")


def test_an_unknown_target(saved: Any) -> None:
    with pytest.raises(UsageError, match="unknown target 'gpu'"):
        audit_model(saved(qdq.conv()), "gpu")


def test_what_onnx_runtime_refuses(saved: Any) -> None:
    model = qdq.conv()
    next(node for node in model.graph.node if node.op_type == "Conv").op_type = "Konv"
    found = audit_model(saved(model), "cpu")
    assert (found.int8_fraction, found.nodes_by_dtype) == (None, {})
    with pytest.raises(ModelError, match="ONNX Runtime refuses the model"):
        found.check_runs()


def test_what_onnx_runtime_refuses_only_as_it_runs(saved: Any) -> None:
    model = qdq.conv()
    for tensor in model.graph.initializer:
        if tensor.name in {"conv.w.scale", "conv.w.zero"}:
            few = onnx.numpy_helper.to_array(tensor)[:5]
            tensor.CopyFrom(onnx.numpy_helper.from_array(few, tensor.name))
    found = audit_model(saved(model), "cpu")
    assert found.refusal is not None
    with pytest.raises(ModelError, match=r"the model fails on data that fits it.* running"):
        found.check_runs()


def test_a_model_of_open_sizes_is_run_on_the_size_that_is_given(saved: Any) -> None:
    b = qdq.QdqBuilder(("n", graphs.CHANNELS, "height", "width"))
    model = saved(b.model(b.qdq(b.qconv("conv", b.qdq(b.x, "x")), "y")))
    assert audit_model(model, "cpu", image_size=(16, 16)).notes == ()
    found = audit_model(model, "cpu")
    assert (found.int8_fraction, found.refusal) == (1.0, None)
    assert found.notes == (
        "it was loaded, not run: input 'x' [n,8,height,width] is dynamic beyond its batch; "
        "give images a --size",
    )


def test_a_rule_that_the_target_does_not_mind_is_an_error_all_the_same(saved: Any) -> None:
    found = audit_model(saved(qdq.conv(axis=1)), "cpu")
    assert found.int8_fraction == 1.0
    with pytest.raises(ModelError, match=r"does not suit target cpu: 'conv': its weights have sc"):
        found.check_runs()


def test_the_likely_target() -> None:
    graph = ir.from_proto(qdq.conv(np.int8(0))).graph
    assert likely_target(graph) == "tensorrt"
    assert likely_target(ir.from_proto(qdq.conv(np.int8(3))).graph) == "cpu"
    assert likely_target(ir.from_proto(graphs.residual()).graph) == "cpu"


def test_fp8_is_for_tensorrt() -> None:
    zero = np.zeros((), ir.DataType.FLOAT8E4M3FN.numpy())
    b = graphs.Builder()
    scale = b.constant("scale", np.float32(0.5))
    b.constants.append(ir.to_proto(ir.tensor(zero, name="zero")))
    codes = b.node("QuantizeLinear", "codes", b.x, scale, "zero")
    proto = b.model(b.node("DequantizeLinear", "y", codes, scale, "zero"))
    assert likely_target(ir.from_proto(proto).graph) == "tensorrt"


def test_integer_operators_are_for_onnx_runtime_alone() -> None:
    b = graphs.Builder()
    scale, zero = b.constant("scale", np.float32(0.5)), b.constant("zero", np.int8(0))
    codes = b.node("QuantizeLinear", "codes", b.x, scale, zero)
    added = b.node("QLinearAdd", "added", codes, scale, zero, codes, scale, zero, scale, zero)
    proto = b.model(b.node("DequantizeLinear", "y", added, scale, zero))
    assert likely_target(ir.from_proto(proto).graph) == "cpu"


@pytest.mark.parametrize(
    ("op_type", "rule"), [("NonZero", "missing-plugin"), ("Unique", "unknown-operator")]
)
def test_operators_that_tensorrt_does_not_build_are_findings(
    op_type: str, rule: str, saved: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_flavour", lambda _: Flavour("tensorrt_rtx", "1.7"))
    refused = EngineError("creator && getPluginCreatorVersion(creator) == CreatorVersion::kV3ONE")
    monkeypatch.setattr(module, "audit_tensorrt", Mock(side_effect=refused))
    b = qdq.QdqBuilder()
    proto = b.model(b.node(op_type, "odd", b.qconv("conv", b.qdq(b.x, "x", code=qdq.S8))))
    if op_type == "NonZero":
        proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    found = audit_model(saved(proto), "tensorrt")
    assert [(f.rule, f.severity, f.node) for f in found.findings] == [(rule, "error", "odd")]
    assert found.refusal == str(refused)
    with pytest.raises(ModelError, match=rf"does not suit target tensorrt: 'odd': .*{op_type}"):
        found.check_runs()


@pytest.fixture
def without_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(_: str) -> None:
        raise UnfitError("TensorRT for RTX is not installed; run this")

    monkeypatch.setattr(module, "find_flavour", find)


@pytest.mark.usefixtures("without_tensorrt")
def test_without_tensorrt_the_rules_are_checked(saved: Any) -> None:
    found = audit_model(saved(qdq.conv()), "tensorrt")
    assert (found.runtime, found.int8_fraction) == (None, None)
    assert found.notes == ("only rules were checked: TensorRT for RTX is not installed; run this",)
    with pytest.raises(ModelError, match=r"does not suit .*: 'x\.q': its zero-point"):
        found.check_runs()
    with pytest.raises(UnfitError, match="runs in INT8 is unknown here; install TensorRT for RTX"):
        found.check_int8(0.5)


def test_the_plan_knows_best_why_a_node_is_float(saved: Any) -> None:
    model = graphs.model_of(graphs.residual())
    plan = place(prepare(model), "tensorrt", ["after"])
    found = audit_file((), saved(graphs.residual()).path, plan)
    reasons = {finding.node: finding.reason for finding in found.not_int8}
    assert reasons["after"] == "excluded by name"
    assert "folded or merged" in reasons["stem"]


def test_a_rule_knows_why_a_node_is_float(saved: Any) -> None:
    found = audit_file((), saved(qdq.conv(np.int8(0), axis=1)).path)
    assert found.not_int8 == (
        NodeFinding("conv", "Conv", "unknown", "its weights have scales along axis 1, not 0"),
    )


def test_a_file_says_itself_why_nodes_are_float(saved: Any, tmp_path: Path) -> None:
    model = saved(graphs.residual())
    table, path = graphs.table_of(model), tmp_path / "q.onnx"
    options = Int8Options(exclude=("after",), effort="fast")
    for target in ("cpu", "tensorrt"):
        quantize(model, target=target, table=table, output=path, options=options)
        found = audit_file((), path)
        assert {f.reason for f in found.not_int8 if f.node == "after"} == {"excluded by name"}
    cpu = audit_model(load(path), "cpu")
    assert {f.reason for f in cpu.not_int8 if f.node == "after"} == {"excluded by name"}


def test_int4_weights_count_as_quantized_too(saved: Any, tmp_path: Path) -> None:
    """`qbench quantize` refuses such a file, so that an audit must not send anybody there."""
    path = tmp_path / "int4.onnx"
    quantize(saved(graphs.encoder()), target="cpu", precision="int4", output=path)
    found = audit_model(load(path), "cpu")
    assert found.findings == ()
    plain = [f.node for f in found.not_int8 if f.reason == "its inputs are not quantized"]
    assert plain == ["scores", "mixed"]
    assert found.nodes_by_dtype["MatMulNBits"] == {"Float": len(found.not_int8) - len(plain)}


def test_placement_knows_why_nodes_of_any_file_are_float(saved: Any) -> None:
    found = audit_file((), saved(graphs.detector()).path)
    reasons = {finding.node: finding.reason for finding in found.not_int8}
    assert reasons["dfl"] == "decodes a Softmax into coordinates"
    assert "folded or merged" in reasons["box"]


class TestTensorRTForRTX:
    """Real builds, which need no GPU."""

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("tensorrt_rtx")

    def test_symmetric_models_of_onnx_runtime(self, quantized: Any) -> None:
        model = quantized(extra_options=FOR_TENSORRT, per_channel=True)
        found = audit_model(model, likely_target(model.ir.graph))
        assert (found.target, found.int8_fraction) == ("tensorrt", 1.0)
        assert {f.rule for f in found.findings} == {"split-activation"}
        found.check_runs()

    def test_what_it_refuses(self, quantized: Any) -> None:
        found = audit_model(quantized(), "tensorrt")
        assert {"integer-bias", "zero-point"} <= {f.rule for f in found.findings}
        assert re.match(r"TensorRT for RTX .* cannot parse .*int8\.onnx", found.refusal or "")
        assert "see" not in (found.refusal or "")
        with pytest.raises(
            ModelError, match=r"does not suit target tensorrt: .* its bias is int32"
        ):
            found.check_runs()

    def test_what_it_refuses_for_a_reason_that_no_rule_knows(self, saved: Any) -> None:
        b = qdq.QdqBuilder()
        squashed = b.node("Reshape", "y", b.qdq(b.x, "x", code=qdq.S8), b.constant("s", [7, -1]))
        found = audit_model(saved(b.model(squashed)), "tensorrt")
        assert found.findings == ()
        with pytest.raises(EngineError, match=r"TensorRT for RTX .* cannot "):
            found.check_runs()

    def test_dynamic_inputs_need_a_shape(self, saved: Any) -> None:
        b = qdq.QdqBuilder((1, 8, "H", "W"))
        model = saved(b.model(b.qconv("conv", b.qdq(b.x, "x", code=qdq.S8))))
        with pytest.raises(UsageError, match=r"input 'x' is dynamic .*--shapes"):
            audit_model(model, "tensorrt")
        assert audit_model(model, "tensorrt", ["x=1x8x16x16"]).int8_fraction == 1.0
        assert audit_model(model, "tensorrt", image_size=(16, 16)).int8_fraction == 1.0

    def test_fp8_is_compiled_for_gpus_that_know_it(self, tmp_path: Path) -> None:
        model = graphs.model_of(graphs.encoder(), tmp_path / "float.onnx")
        path, table = tmp_path / "fp8.onnx", graphs.table_of(model)
        quantize(model, target="tensorrt", precision="fp8", table=table, output=path)
        found = audit_model(load(path), "tensorrt")
        assert found.refusal is None
        assert found.nodes_by_dtype == {"MatMul": {"FP8": 9}}

    def test_pairs_that_stay_by_themselves(self, saved: Any) -> None:
        b = qdq.QdqBuilder()
        stem = b.node("Relu", "act", b.qconv("stem", b.qdq(b.x, "x", code=qdq.S8)))
        source, weights = b.qdq(stem, "mid", code=qdq.S8), b.qweight("up.w", (8, 8, 2, 2), axis=1)
        found = audit_model(
            saved(b.model(b.node("ConvTranspose", "up", source, weights))), "tensorrt"
        )
        assert {f.node: f.reason for f in found.own_qdq} == {
            "x.q": "it works on an input of the model, which no layer makes",
            "up.w.dq": "its weights are for up (ConvTranspose), which runs in Float",
        }

    def test_of_a_plan(self, tmp_path: Path) -> None:
        model = graphs.model_of(graphs.conv_transpose())
        path = tmp_path / "m.onnx"
        table = graphs.table_of(model, 2)
        result = quantize(model, target="tensorrt", table=table, output=path)
        found = audit_tensorrt(load(path), result.plan)
        assert isinstance(found, EngineAudit)
        assert [f.reason for f in found.not_int8] == ["TensorRT for RTX has no INT8 ConvTranspose"]


def test_an_empty_audit_has_no_share() -> None:
    found = ModelAudit(model="m", sha256="", target="cpu", runtime="ONNX Runtime")
    assert found.int8_fraction is None
    found.check_runs()
