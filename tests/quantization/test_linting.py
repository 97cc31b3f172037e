"""The rules of both targets, and for `cpu` that ONNX Runtime obeys them."""

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper
from qdq import CHANNELS, S8, U8, QdqBuilder, conv, gemm

from qbench.errors import UsageError
from qbench.quantization.audit import audit_cpu
from qbench.quantization.int8 import Int8Options
from qbench.quantization.linting.cpu_fusion import merge_equal_pairs
from qbench.quantization.linting.finding import ERROR, WARNING, Finding
from qbench.quantization.linting.lint import RULES, blocking_reasons, lint
from qbench.quantization.quantize import quantize

Case = Callable[[], onnx.ModelProto]


def check(model: onnx.ModelProto, target: str, **options: bool) -> list[Finding]:
    return list(lint(ir.from_proto(model), target, **options))


def rules(model: onnx.ModelProto, target: str) -> set[tuple[str, str]]:
    return {(found.rule, found.node) for found in check(model, target, saturates=False)}


def before_activation(op_type: str, code: Any, *inputs: float) -> onnx.ModelProto:
    b = QdqBuilder()
    limits = [b.constant(f"limit{i}", np.float32(value)) for i, value in enumerate(inputs)]
    y = b.node(op_type, "act", b.qconv("conv", b.qdq(b.x, "x")), *limits)
    return b.model(b.qdq(y, "y", 6 / 255, code))


def relu_and_pool() -> onnx.ModelProto:
    b = QdqBuilder()
    relu = b.node("Relu", "relu", b.qconv("conv", b.qdq(b.x, "x")))
    return b.model(b.qdq(b.node("MaxPool", "pool", relu, kernel_shape=[2, 2]), "y"))


def float_between_kernels(*, reader: bool = True) -> onnx.ModelProto:
    """A norm between convolutions, which need the pairs around it; without a reader nobody does."""
    b = QdqBuilder()
    relu = b.node("Relu", "relu", b.qconv("conv0", b.qdq(b.x, "x")))
    moved = b.node("Transpose", "moved", b.qdq(relu, "y", code=np.uint8(0)), perm=[0, 1, 3, 2])
    ones = b.constant("ones", np.ones(CHANNELS, np.float32))
    norm = b.node("InstanceNormalization", "norm", b.qdq(moved, "m", code=np.uint8(0)), ones, ones)
    inner = b.qdq(norm, "n")
    return b.model(b.qdq(b.qconv("conv1", inner), "z") if reader else inner)


def read_twice() -> onnx.ModelProto:
    b = QdqBuilder()
    y = b.qconv("conv", b.qdq(b.x, "x"))
    return b.model(b.qdq(y, "y"), b.node("Neg", "neg", y))


def quantized_twice() -> onnx.ModelProto:
    b = QdqBuilder()
    y = b.qconv("conv", b.qdq(b.x, "x"))
    return b.model(b.qdq(y, "y"), b.qdq(y, "z", 0.1))


def output_in_the_middle() -> onnx.ModelProto:
    b = QdqBuilder()
    y = b.qconv("conv", b.qdq(b.x, "x"))
    return b.model(y, b.qdq(y, "y"))


def without_end() -> onnx.ModelProto:
    b = QdqBuilder()
    return b.model(b.qconv("conv", b.qdq(b.x, "x")))


def weights_only() -> onnx.ModelProto:
    b = QdqBuilder()
    return b.model(b.qdq(b.qconv("conv", b.x), "y", code=S8))


def inputs_only() -> onnx.ModelProto:
    b = QdqBuilder()
    return b.model(b.qdq(b.conv("conv", b.qdq(b.x, "x", code=S8)), "y", code=S8))


def weights_turned() -> onnx.ModelProto:
    """Weights that a Transpose turns behind their DQ, as the exporter of TensorFlow writes them."""
    b = QdqBuilder()
    weight = b.node("Transpose", "turn", b.qweight("w", (3, 3, 8, 8), None), perm=[3, 2, 0, 1])
    y = b.node("Conv", "conv", b.qdq(b.x, "x", code=S8), weight, pads=[1] * 4)
    return b.model(b.qdq(y, "y", code=S8))


def padded() -> onnx.ModelProto:
    """A Pad between the DQ and the convolution, which TensorRT for RTX runs in INT8."""
    b = QdqBuilder()
    pads = b.constant("pads", np.array([0, 0, 1, 1] * 2))
    x = b.node("Pad", "pad", b.qdq(b.x, "x", code=S8), pads)
    return b.model(b.qdq(b.qconv("conv", x), "y", code=S8))


def shared_scale() -> onnx.ModelProto:
    """A scale behind an Identity, as the exporter of PyTorch writes one that several share."""
    b = QdqBuilder()
    scale = b.node("Identity", "copy", b.constant("scale", np.float32(0.05)))
    return b.model(b.qdq(b.qconv("conv", b.qdq(b.x, "x", scale, S8)), "y", code=S8))


def clipped_by_channel(high: float) -> onnx.ModelProto:
    """A Clip at `high` in front of one scale per channel, all of which end at 6."""
    b = QdqBuilder()
    limits = (b.constant("low", np.float32(0)), b.constant("high", np.float32(high)))
    y = b.node("Clip", "act", b.qconv("conv", b.qdq(b.x, "x")), *limits)
    return b.model(b.qdq(y, "y", np.full(CHANNELS, 6 / 255), np.uint8(0)))


def signed_read_twice() -> onnx.ModelProto:
    b = QdqBuilder()
    x = b.qdq(b.x, "x", code=S8)
    return b.model(*(b.qdq(b.qconv(f"conv{i}", x), f"y{i}", code=S8) for i in range(2)))


def pairs_of_one_scale(b: QdqBuilder, x: str, code: Any) -> list[str]:
    shared = b.constant("shared.scale", np.float32(0.05)), b.constant("shared.zero", code)
    codes = [b.node("QuantizeLinear", f"q{i}", x, *shared) for i in range(2)]
    return [b.node("DequantizeLinear", f"dq{i}", q, *shared) for i, q in enumerate(codes)]


def signed_pairs_alike() -> onnx.ModelProto:
    """A pair for each reader, as ONNX Runtime's quantizer writes with DedicatedQDQPair."""
    b = QdqBuilder()
    ends = [b.qconv(f"conv{i}", pair) for i, pair in enumerate(pairs_of_one_scale(b, b.x, S8))]
    return b.model(*(b.qdq(y, f"y{i}", code=S8) for i, y in enumerate(ends)))


def pairs_alike() -> onnx.ModelProto:
    b = QdqBuilder()
    stem = b.qconv("stem", b.qdq(b.x, "x"))
    ends = [b.qconv(f"conv{i}", pair) for i, pair in enumerate(pairs_of_one_scale(b, stem, U8))]
    return b.model(*(b.qdq(y, f"y{i}") for i, y in enumerate(ends)))


def pairs_of_equal_scales() -> onnx.ModelProto:
    """Scales of one value and two names, whose pairs ONNX Runtime leaves as they are."""
    b = QdqBuilder()
    stem = b.qconv("stem", b.qdq(b.x, "x"))
    return b.model(*(b.qdq(stem, f"stem{i}") for i in range(2)))


def signed_scales() -> onnx.ModelProto:
    b = QdqBuilder()
    codes = b.constant("w", np.ones((CHANNELS, CHANNELS, 3, 3), np.int8))
    scale = b.constant("w.scale", np.float32([0.01, -0.01] * (CHANNELS // 2)))
    weight = b.node("DequantizeLinear", "w.dq", codes, scale, axis=0)
    return b.model(b.qdq(b.node("Conv", "conv", b.qdq(b.x, "x", code=S8), weight), "y", code=S8))


def signed_pool() -> onnx.ModelProto:
    """Integers that a MaxPool moves, between Q and DQ."""
    b = QdqBuilder()
    pooled = b.node("MaxPool", "pool", b.q(b.x, "x", code=S8), kernel_shape=[1, 1])
    x = b.node("DequantizeLinear", "x.dq", pooled, "x.scale", "x.zero")
    return b.model(b.qdq(b.qconv("conv", x), "y", code=S8))


def unary(op_type: str, scale: float = 0.05, **attributes: Any) -> onnx.ModelProto:
    b = QdqBuilder()
    return b.model(b.qdq(b.node(op_type, "node", b.qdq(b.x, "x"), **attributes), "y", scale))


def times_constant() -> onnx.ModelProto:
    b = QdqBuilder()
    two = b.constant("two", np.float32(2))
    return b.model(b.qdq(b.node("Mul", "mul", b.qdq(b.x, "x"), two), "y"))


def with_bias(scale: float) -> onnx.ModelProto:
    b = QdqBuilder()
    inputs = b.qdq(b.x, "x"), b.qweight("w", (CHANNELS, CHANNELS, 3, 3)), b.qbias("b", scale)
    return b.model(b.qdq(b.node("Conv", "conv", *inputs, pads=[1] * 4), "y"))


def conv_transpose() -> onnx.ModelProto:
    b = QdqBuilder()
    weight = b.qweight("w", (CHANNELS, CHANNELS, 2, 2), axis=1)
    y = b.node("ConvTranspose", "up", b.qdq(b.x, "x"), weight, strides=[2, 2])
    return b.model(b.qdq(y, "y"))


def moved(op_type: str, **attributes: Any) -> onnx.ModelProto:
    """Data movement between a convolution and both of its pairs."""
    b = QdqBuilder()
    x = b.node(op_type, "before", b.qdq(b.x, "x"), **attributes)
    return b.model(b.qdq(b.node(op_type, "after", b.qconv("conv", x), **attributes), "y"))


def flattened() -> onnx.ModelProto:
    b = QdqBuilder()
    return b.model(b.qdq(b.node("Flatten", "after", b.qconv("conv", b.qdq(b.x, "x"))), "y"))


def wide() -> onnx.ModelProto:
    return conv(np.uint16(32768), opset=21)


FLOAT: dict[str, tuple[Case, str, set[str]]] = {
    "an output that another node reads": (read_twice, "float-output", {"conv"}),
    "an output that is quantized twice": (quantized_twice, "float-output", {"conv"}),
    "an output in pairs of equal scales": (pairs_of_equal_scales, "float-output", {"stem"}),
    "an output of the model": (output_in_the_middle, "float-output", {"conv"}),
    "no output pair": (without_end, "float-output", {"conv"}),
    "flatten is no way": (flattened, "float-output", {"conv"}),
    "a zero-point amid a relu": (lambda: before_activation("Relu", U8), "mid-range", {"conv"}),
    "a zero-point behind relu and pool": (relu_and_pool, "mid-range", {"conv"}),
    "a range beyond a clip": (
        lambda: before_activation("Clip", np.uint8(0), 0.0, 5.0),
        "mid-range",
        {"conv"},
    ),
    "a leaky relu": (lambda: before_activation("LeakyRelu", U8), "float-output", {"conv"}),
    "float inputs": (weights_only, "float-input", {"conv"}),
    "a float factor": (times_constant, "float-input", {"mul"}),
    "int8 that two read": (signed_read_twice, "signed", {"conv0", "conv1"}),
    "int8 that two read in equal pairs": (signed_pairs_alike, "signed", {"conv0", "conv1"}),
    "int8 out of a pool": (signed_pool, "signed", {"conv"}),
    "16 bits": (wide, "wide-type", {"conv"}),
    "a transposed convolution": (conv_transpose, "no-kernel", {"up"}),
    "an operator without kernel": (lambda: unary("Elu"), "no-kernel", {"node"}),
    "a norm that no kernel reads": (
        lambda: float_between_kernels(reader=False),
        "no-kernel",
        {"norm"},
    ),
    "a bias of another scale": (lambda: with_bias(0.3), "bias-scale", {"conv"}),
    "beta": (lambda: gemm(bias="good", beta=0.5), "gemm-form", {"gemm"}),
    "float bias and output": (lambda: gemm(bias="float", ends=False), "gemm-form", {"gemm"}),
    "int8 activations by channel": (
        lambda: conv(S8, scale=np.full(CHANNELS, 0.05)),
        "channel-activation",
        {"conv"},
    ),
}
"""What ONNX Runtime leaves in float, the rule that says why, and the nodes."""

FUSED: dict[str, Case] = {
    "uint8": conv,
    "int8 in pairs": lambda: conv(S8),
    "one scale": lambda: conv(axis=None),
    "relu with its lowest code": lambda: before_activation("Relu", np.uint8(0)),
    "clip over its range": lambda: before_activation("Clip", np.uint8(0), 0.0, 6.0),
    "a bias in scale": lambda: with_bias(0.05 * 0.01),
    "a gemm": lambda: gemm(bias="good"),
    "a gemm that ends float": lambda: gemm(bias="good", ends=False),
    "a gemm whose bias is left out": lambda: gemm(bias="empty", ends=False),
    "a gemm of float bias": lambda: gemm(bias="float"),
    "a pool on both sides": lambda: moved("MaxPool", kernel_shape=[1, 1]),
    "a transposition on both sides": lambda: moved("Transpose", perm=[0, 1, 3, 2]),
    "an output in equal pairs": pairs_alike,
    "weights of negative scale": signed_scales,
    "a sigmoid": lambda: unary("Sigmoid"),
    "a float node between kernels": float_between_kernels,
}


@pytest.mark.parametrize("name", FLOAT)
def test_a_rule_tells_what_onnx_runtime_leaves_in_float(name: str, tmp_path: Path) -> None:
    make, rule, nodes = FLOAT[name]
    if "int8" in name and platform.machine() not in {"x86_64", "AMD64"}:
        pytest.skip("only x86 lacks kernels for int8 activations")
    model = make()
    assert {(rule, node) for node in nodes} <= rules(model, "cpu")
    onnx.save(model, tmp_path / "m.onnx")
    unfused = {node.name: node.reason for node in audit_cpu(tmp_path / "m.onnx").unfused}
    assert unfused.keys() == nodes
    assert unfused.items() <= blocking_reasons(ir.from_proto(model), "cpu").items()


def with_float_bias(bias: float) -> onnx.ModelProto:
    """A bias behind which products of 0.05 x 0.01 a step are added up."""
    b = QdqBuilder()
    values = b.constant("b", np.full(CHANNELS, bias, np.float32))
    inputs = b.qdq(b.x, "x"), b.qweight("w", (CHANNELS, CHANNELS, 3, 3)), values
    y = b.node("Conv", "conv", *inputs, pads=[1] * 4)
    return b.model(b.qdq(y, "y", scale=bias / 100))


def test_pairs_in_other_codes_are_not_equal() -> None:
    """Without a zero-point, `output_dtype` alone tells int8 from uint8."""
    b = QdqBuilder()
    b.opset = 21
    scale = b.constant("scale", np.float32(0.05))
    for dtype in (TensorProto.INT8, TensorProto.UINT8):
        codes = b.node("QuantizeLinear", f"q{dtype:d}", b.x, scale, output_dtype=dtype)
        b.node("DequantizeLinear", f"dq{dtype:d}", codes, scale)
    model = ir.from_proto(b.model(b.node("Add", "sum", "dq3", "dq2")))
    merge_equal_pairs(model.graph)
    assert [node.op_type for node in model.graph].count("QuantizeLinear") == 2


@pytest.mark.parametrize(("steps", "is_lost"), [(2.0**30, False), (2.0**32 + 2.0**31, True)])
def test_a_bias_that_does_not_fit(steps: float, is_lost: bool) -> None:
    model = with_float_bias(steps * 0.05 * 0.01)
    assert [f.rule for f in check(model, "cpu", saturates=False)] == ["lost-bias"] * is_lost
    graph = ir.from_proto(model)
    feeds = {"x": np.zeros((1, CHANNELS, 16, 16), np.float32)}
    exact, native = (graphs.run(graph, feeds, simulate=simulate) for simulate in (True, False))
    assert np.allclose(exact["y.dq"], native["y.dq"], rtol=0.02) is not is_lost


@pytest.mark.parametrize("name", FUSED)
def test_no_rule_blocks_what_onnx_runtime_fuses(name: str, tmp_path: Path) -> None:
    model = FUSED[name]()
    assert check(model, "cpu", saturates=False) == []
    onnx.save(model, tmp_path / "m.onnx")
    assert audit_cpu(tmp_path / "m.onnx").unfused == ()


@pytest.mark.parametrize("pattern", graphs.PATTERNS)
def test_what_qbench_writes_keeps_all_rules(pattern: str) -> None:
    model = graphs.model_of(graphs.PATTERNS[pattern]())
    table = graphs.table_of(model, 2)
    options = Int8Options(method="minmax", effort="fast", saturates=True)
    for target in RULES:
        written = quantize(model, target=target, table=table, options=options)
        assert lint(written.ir, target, saturates=True) == ()


def test_scales_by_input_channel_are_wrong_on_cpu_and_float_on_tensorrt() -> None:
    model = conv(S8, axis=1)
    (found,) = check(model, "cpu", saturates=False)
    assert (found.rule, found.severity, found.tensor) == ("weight-axis", ERROR, "conv.w.dq")
    assert found.reason == "its weights have scales along axis 1, which its kernel takes for 0"
    (found,) = check(model, "tensorrt")
    assert (found.rule, found.severity) == ("weight-axis", WARNING)


def test_a_gemm_by_input_channel_is_wrong_on_cpu() -> None:
    (found,) = check(gemm(axis=1), "cpu", saturates=False)
    assert (found.rule, found.severity) == ("weight-axis", ERROR)


def test_a_gemm_takes_its_bias_in_the_wrong_scale() -> None:
    (found,) = check(gemm(bias="bad"), "cpu", saturates=False)
    assert (found.rule, found.severity) == ("bias-scale", ERROR)


def test_uint8_activations_by_channel_are_an_error_on_cpu() -> None:
    found = check(conv(scale=np.full(CHANNELS, 0.05)), "cpu", saturates=False)
    assert [(f.rule, f.severity) for f in found] == [("channel-activation", ERROR)]


def test_scales_by_channel_are_no_matter_of_the_bias() -> None:
    """Their number need not be that of the outputs: three of an image, sixteen of the weights."""
    b = QdqBuilder()
    x = b.qdq(b.x, "x", np.full(CHANNELS, 0.05))
    weight = b.qweight("w", (2 * CHANNELS, CHANNELS, 3, 3))
    y = b.node("Conv", "conv", x, weight, b.qbias("b", 0.3, 2 * CHANNELS), pads=[1] * 4)
    found = check(b.model(b.qdq(y, "y")), "cpu", saturates=False)
    assert {f.rule for f in found} == {"channel-activation"}


@pytest.mark.parametrize(("high", "is_wider"), [(6.0, False), (5.0, True)])
def test_a_range_beyond_a_clip_by_channel(high: float, is_wider: bool) -> None:
    found = {rule for rule, _ in rules(clipped_by_channel(high), "cpu")}
    assert ("mid-range" in found) == is_wider


def test_only_a_type_that_a_later_opset_has_is_worth_raising_it() -> None:
    fixes = {f.fix for f in check(conv(np.int16(0), opset=21), "tensorrt")}
    assert fixes == {"use int8"}
    assert {f.fix for f in check(float8(), "tensorrt")} == {"use int8, or raise the opset"}


def test_a_pool_that_changes_the_scale_runs_in_float() -> None:
    model = unary("MaxPool", scale=0.07, kernel_shape=[1, 1])
    assert rules(model, "cpu") == {("moved-scale", "node")}


def concat(second: float, *, ends: bool = False) -> onnx.ModelProto:
    b = QdqBuilder()
    parts = b.qdq(b.x, "a", code=S8), b.qdq(b.node("Relu", "r", b.x), "b", second, S8)
    joined = b.node("Concat", "joined", *parts, axis=1)
    joined = b.qdq(joined, "j", code=S8) if ends else joined
    y = b.qconv("conv", joined, shape=(CHANNELS, 2 * CHANNELS, 3, 3))
    return b.model(b.qdq(y, "y", code=S8))


def split_activation() -> onnx.ModelProto:
    b = QdqBuilder()
    y = b.qdq(b.qconv("conv", b.qdq(b.x, "x", code=S8)), "y", code=S8)
    return b.model(b.qdq(b.node("Relu", "relu", y), "z", code=S8))


def computed_scale() -> onnx.ModelProto:
    b = QdqBuilder()
    scale = b.node("ReduceMax", "largest", b.x, keepdims=0)
    return b.model(b.qconv("conv", b.qdq(b.x, "x", scale, S8)))


def qlinear() -> onnx.ModelProto:
    b = QdqBuilder()
    x = b.q(b.x, "x")
    weight = b.constant("w", np.ones((CHANNELS, CHANNELS, 1, 1), np.int8))
    scale, zero = b.constant("w.scale", np.float32(0.1)), b.constant("w.zero", S8)
    y = b.node(
        "QLinearConv", "conv", x, "x.scale", "x.zero", weight, scale, zero, "x.scale", "x.zero"
    )
    return b.model(b.node("DequantizeLinear", "y", y, "x.scale", "x.zero"))


def codes_as_output() -> onnx.ModelProto:
    b = QdqBuilder()
    model = b.model(b.q(b.qconv("conv", b.qdq(b.x, "x", code=S8)), "y", code=S8))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT8
    return model


def float8() -> onnx.ModelProto:
    b = QdqBuilder()
    b.constants.append(helper.make_tensor("z", TensorProto.FLOAT8E4M3FN, [], [0.0]))
    scale = b.constant("s", np.float32(0.1))
    codes = b.node("QuantizeLinear", "q", b.x, scale, "z")
    return b.model(b.node("DequantizeLinear", "dq", codes, scale, "z"))


TENSORRT: dict[str, tuple[Case, set[tuple[str, str]]]] = {
    "int8": (lambda: conv(S8), set()),
    "equal concat": (lambda: concat(0.05), set()),
    "requantized concat": (lambda: concat(0.07, ends=True), set()),
    "unequal concat": (lambda: concat(0.07), {("concat-scales", "conv")}),
    "weights only": (weights_only, {("weights-only", "conv")}),
    "turned weights": (weights_turned, set()),
    "a padded input": (padded, set()),
    "a scale behind an identity": (shared_scale, set()),
    "inputs only": (inputs_only, {("inputs-only", "conv")}),
    "by channel": (
        lambda: conv(S8, scale=np.full(CHANNELS, 0.05)),
        {("channel-activation", "conv")},
    ),
    "zero-point": (lambda: conv(np.int8(3)), {("zero-point", "x.q"), ("zero-point", "y.q")}),
    "uint8": (lambda: conv(np.uint8(0)), {("unsigned", "x.q"), ("unsigned", "y.q")}),
    "no zero-point": (lambda: conv(None), {("unsigned", "x.q"), ("unsigned", "y.q")}),
    "16 bits": (lambda: conv(np.int16(0), opset=21), {("type", "x.q"), ("type", "y.q")}),
    "early axis": (
        lambda: conv(S8, opset=12),
        {("early-axis", "conv.w.dq"), ("weight-axis", "conv")},
    ),
    "early fp8": (float8, {("type", "q")}),
    "computed scale": (computed_scale, {("computed-scale", "x.q")}),
    "split activation": (split_activation, {("split-activation", "conv")}),
    "integers": (codes_as_output, {("unpaired", "y.q")}),
}


@pytest.mark.parametrize("name", TENSORRT)
def test_rules_of_tensorrt(name: str) -> None:
    make, expected = TENSORRT[name]
    assert rules(make(), "tensorrt") == expected


def test_an_integer_bias_is_an_error_for_tensorrt() -> None:
    found = [f for f in check(with_bias(1.0), "tensorrt") if f.rule == "integer-bias"]
    assert [(f.severity, f.node, f.tensor) for f in found] == [(ERROR, "conv", "b.dq")]


def test_integer_operators_are_an_error_for_tensorrt_only() -> None:
    assert ("integer-operator", "conv") in rules(qlinear(), "tensorrt")
    assert rules(qlinear(), "cpu") == set()


@pytest.mark.parametrize("target", RULES)
@pytest.mark.parametrize("scale", [0.0, -0.1, np.inf, np.nan])
def test_impossible_scales(scale: float, target: str) -> None:
    found = [f for f in check(conv(S8, scale=scale), target) if f.rule == "impossible-scale"]
    assert [(f.severity, f.node, f.tensor) for f in found] == [(ERROR, "x.q", "x")]
    assert found[0].reason == f"its scale is {scale:g}"


@pytest.mark.parametrize(
    ("code", "target"), [("INT8", "cpu"), ("INT4", "cpu"), ("INT4", "tensorrt")]
)
@pytest.mark.parametrize("scale", [-0.1, 0.0, np.inf])
def test_weights_may_have_any_finite_scale(code: str, target: str, scale: float) -> None:
    """A block of 4-bit weights whose scale is negative has its largest at code -8."""
    model = weights_of(code, scale)
    expected = set() if np.isfinite(scale) else {("impossible-scale", "w.dq")}
    assert rules(model, target) == expected


def test_tensorrt_refuses_int8_weights_of_negative_scale() -> None:
    assert ("impossible-scale", "w.dq") in rules(weights_of("INT8", -0.1), "tensorrt")


def weights_of(code: str, scale: float) -> onnx.ModelProto:
    """A product of floats with weights of 4 or 8 bits."""
    b = QdqBuilder((1, 32), opset=21)
    b.constants.append(
        helper.make_tensor("w", TensorProto.DataType.Value(code), [32, 4], [1] * 128)
    )
    steps = b.constant("w.scale", np.full((1, 4), scale, np.float32))
    weight = b.node("DequantizeLinear", "w.dq", "w", steps, axis=0, block_size=32)
    return b.model(b.node("MatMul", "product", b.x, weight))


def test_a_scale_of_one_is_suspect_but_not_on_pixels() -> None:
    b = QdqBuilder()
    x = b.qdq(b.node("Slice", "s", b.x, *(b.constant(n, np.array([1])) for n in "abc")), "x", 1.0)
    model = b.model(b.qdq(b.qconv("conv", x), "y", 1.0))
    assert rules(model, "cpu") == {("default-scale", "y.q")}


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
@pytest.mark.parametrize(("scale", "is_unlike"), [(0.05, False), (0.02, True)])
def test_codes_that_are_taken_for_others(target: str, scale: float, is_unlike: bool) -> None:
    """All values behind the pair are 2.5 times too small, which no runtime minds."""
    b = QdqBuilder()
    codes = b.q(b.x, "x", code=S8)
    other = b.constant("other", np.float32(scale)), b.constant("zero", S8)
    x = b.node("DequantizeLinear", "x.dq", codes, *other)
    model = b.model(b.qdq(b.qconv("conv", x), "y", code=S8))
    assert (("unlike-pair", "x.dq") in rules(model, target)) is is_unlike


@pytest.mark.parametrize("is_constant", [True, False])
def test_pixels_may_be_padded_and_shifted_by_a_constant(is_constant: bool) -> None:
    b = QdqBuilder()
    padded = b.node("Pad", "padded", b.x, b.constant("by", np.array([0, 0, 1, 1, 0, 0, 1, 1])))
    other = b.constant("offset", np.float32(-128)) if is_constant else b.node("Relu", "r", padded)
    x = b.qdq(b.node("Add", "shifted", padded, other), "x", 1.0)
    found = rules(b.model(b.qconv("conv", x)), "tensorrt")
    assert (("default-scale", "x.q") in found) is not is_constant


def test_full_range_weights_saturate_in_pairs() -> None:
    (found,) = check(conv(largest=127), "cpu", saturates=True)
    assert (found.rule, found.severity, found.node) == ("saturation", WARNING, "conv")
    assert found.reason.endswith(" % of its weight pairs may exceed 16 bits")
    assert check(conv(largest=64), "cpu", saturates=True) == []
    assert check(conv(largest=127), "cpu", saturates=False) == []


def test_pairs_of_unlike_sign_do_not_saturate() -> None:
    model = conv(axis=None)
    codes = np.full((CHANNELS, CHANNELS, 3, 3), 127, np.int8)
    codes[:, 1::2] = -127
    index = next(i for i, t in enumerate(model.graph.initializer) if t.name == "conv.w")
    model.graph.initializer[index].CopyFrom(onnx.numpy_helper.from_array(codes, "conv.w"))
    assert check(model, "cpu", saturates=True) == []


def test_codes_of_a_broken_convolution_are_no_pairs() -> None:
    model = conv(axis=None)
    index = next(i for i, t in enumerate(model.graph.initializer) if t.name == "conv.w")
    codes = onnx.numpy_helper.from_array(np.full(9, 127, np.int8), "conv.w")
    model.graph.initializer[index].CopyFrom(codes)
    assert "saturation" not in {f.rule for f in check(model, "cpu", saturates=True)}


def test_nodes_without_names_are_named() -> None:
    model = without_end()
    for node in model.graph.node:
        node.name = ""
    (found,) = check(model, "cpu", saturates=False)
    assert found.node


def test_an_unknown_target() -> None:
    with pytest.raises(UsageError, match="unknown target 'gpu'; choose one of cpu, tensorrt"):
        check(conv(), "gpu")
