"""The plans of both targets for every pattern, as text in goldens/; `--regen` rewrites them."""

from collections import Counter
from pathlib import Path

import graphs
import numpy as np
import pytest
from onnx import helper

from qbench.errors import ModelError, UsageError
from qbench.model.load import Model
from qbench.model.prepare import prepare
from qbench.placement.plan import Activation, Plan
from qbench.placement.targets import TARGETS, observed_tensors, place, suited

GOLDENS = Path(__file__).parent / "goldens"

every_target = pytest.mark.parametrize("target", TARGETS)


def prepared(pattern: str) -> Model:
    return prepare(graphs.model_of(graphs.PATTERNS[pattern]()))


def rendered(plan: Plan) -> str:
    lines = [f"{plan.target}: {'int8 symmetric' if plan.symmetric else 'uint8'}"]
    lines += ["", "Q/DQ", *map(activation_line, plan.activations)]
    lines += ["", "weights"]
    lines += [f"  {w.tensor} axis {w.axis} -> {w.reader.node}" for w in plan.weights]
    if plan.biases:
        lines += ["", "biases"]
        lines += [f"  {b.tensor} as {b.data} x {b.weight.tensor}" for b in plan.biases]
    lines += ["", f"integer: {' '.join(plan.quantized)}"]
    lines += [f"products: {' '.join(plan.products)}"] if plan.products else []
    lines += [f"float:   {f.name} ({f.op_type}): {f.reason}" for f in plan.floats]
    return "\n".join(lines) + "\n"


def activation_line(activation: Activation) -> str:
    readers = " ".join(f"{r.node}[{r.position}]" for r in activation.readers)
    output = " output" if activation.feeds_output else ""
    scale = "" if activation.scale_from == activation.tensor else f" @{activation.scale_from}"
    offset = " may be offset" if activation.takes_offset else ""
    return f"  {activation.tensor}{scale} -> {readers}{output}{offset}"


@every_target
@pytest.mark.parametrize("pattern", graphs.PATTERNS)
def test_plan(pattern: str, target: str, regen: bool) -> None:
    model, _ = suited(prepared(pattern), target)
    text = rendered(place(model, target))
    golden = GOLDENS / f"{pattern}-{target}.txt"
    if regen:
        golden.write_text(text)
    assert text == golden.read_text()


def test_every_golden_belongs_to_a_pattern() -> None:
    wanted = {f"{pattern}-{target}.txt" for pattern in graphs.PATTERNS for target in TARGETS}
    assert {path.name for path in GOLDENS.iterdir()} == wanted


@every_target
@pytest.mark.parametrize("pattern", graphs.PATTERNS)
def test_every_compute_node_is_integer_or_float_with_a_reason(pattern: str, target: str) -> None:
    model = prepared(pattern)
    plan = place(model, target)
    compute = {n.name for n in model.ir.graph if n.op_type in {"Conv", "Gemm", "MatMul"}}
    stated = Counter([*plan.quantized, *(f.name for f in plan.floats)])
    assert compute <= stated.keys()
    assert set(stated.values()) == {1}
    assert all(f.reason for f in plan.floats)


@every_target
def test_excluded_nodes_stay_float(target: str) -> None:
    plan = place(prepared("residual"), target, ["branch*", "stem"])
    assert not {"branch1", "branch2", "stem"} & {
        *plan.quantized,
        *(w.reader.node for w in plan.weights),
    }
    reasons = {f.name: f.reason for f in plan.floats}
    assert [reasons[name] for name in ("stem", "branch1", "branch2")] == ["excluded by name"] * 3


def test_an_excluded_add_stays_float() -> None:
    assert "join" in place(prepared("residual"), "cpu").quantized
    assert "join" not in place(prepared("residual"), "cpu", ["join"]).quantized
    readers = place(prepared("residual"), "tensorrt", ["join"]).activations
    assert not any(r.node == "join" for a in readers for r in a.readers)


@every_target
def test_a_pattern_that_matches_nothing(target: str) -> None:
    message = r"--exclude 'Branch\*' matches no node; names look like 'stem' or 'head'"
    with pytest.raises(UsageError, match=message):
        place(prepared("residual"), target, ["stem", "Branch*"])


def test_an_unknown_target() -> None:
    with pytest.raises(UsageError, match="unknown target 'gpu'; choose one of cpu, tensorrt"):
        place(prepared("residual"), "gpu")


def without_compute() -> Model:
    b = graphs.Builder()
    return prepare(graphs.model_of(b.model(b.node("Relu", "y", b.x))))


@every_target
def test_a_model_without_compute(target: str) -> None:
    with pytest.raises(ModelError, match=f"has no Conv, Gemm or MatMul that {target} could quan"):
        place(without_compute(), target)


def computes_in_branches_only() -> Model:
    proto = graphs.with_if("MatMul", "MatMul")
    for node in list(proto.graph.node):
        if node.op_type == "Conv":
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]
        for branch in node.attribute if node.op_type == "If" else ():
            branch.g.node[0].input.append(branch.g.node[0].input[0])
    return prepare(graphs.model_of(proto))


def test_a_model_that_computes_in_branches_only() -> None:
    with pytest.raises(ModelError, match="outside If, Loop and Scan, inside which all stays float"):
        place(computes_in_branches_only(), "cpu")


@every_target
def test_a_quantized_model(target: str) -> None:
    b = graphs.Builder()
    quantized = b.node("QuantizeLinear", "q", b.x, b.constant("s", np.float32(0.1)))
    dequantized = b.node("DequantizeLinear", "dq", quantized, "s")
    model = prepare(graphs.model_of(b.model(b.conv("head", dequantized)), Path("int8.onnx")))
    with pytest.raises(ModelError, match=r"int8\.onnx is quantized already; give the float model"):
        place(model, target)


def test_elementwise_nodes_stay_float_where_float_nodes_alone_read_them() -> None:
    assert {"sigmoid", "silu"} <= set(place(prepared("conv_silu"), "cpu").quantized)
    assert not {"gate", "silu"} & set(place(prepared("silu_before_head"), "cpu").quantized)
    assert not {"sigmoid", "silu"} & set(place(prepared("conv_silu"), "cpu", ["after"]).quantized)


def test_an_integer_reader_counts_through_data_movement() -> None:
    b = graphs.Builder()
    added = b.node("Add", "added", b.conv("left", b.x), b.conv("right", b.x))
    turned = b.node("Transpose", "turned", added, perm=[0, 1, 3, 2])
    model = prepare(graphs.model_of(b.model(b.conv("head", b.conv("after", turned)))))
    assert "added" in place(model, "cpu").quantized


def test_a_gelu_in_parts_stays_float_in_whatever_order() -> None:
    b = graphs.Builder((4, graphs.CHANNELS))
    x = b.node("MatMul", "widen", b.x, b.weight("widen.w", graphs.CHANNELS, graphs.CHANNELS))
    gate = b.node("Add", "gate", b.node("Erf", "erf", x), b.constant("one", np.float32(1)))
    gelu = b.node("Mul", "gelu", b.node("Mul", "halved", x, b.constant("h", np.float32(0.5))), gate)
    last = b.node("MatMul", "narrow", gelu, b.weight("narrow.w", graphs.CHANNELS, graphs.CHANNELS))
    plan = place(prepare(graphs.model_of(b.model(last))), "cpu")
    assert plan.quantized == ("widen", "narrow")
    assert [activation.tensor for activation in plan.activations] == ["x", "gelu"]


@pytest.mark.parametrize(
    ("shape", "is_bias"),
    [((graphs.CHANNELS,), True), ((1,), False), ((4, graphs.CHANNELS), False)],
)
def test_only_a_vector_over_the_output_channels_is_a_bias(
    shape: tuple[int, ...], is_bias: bool
) -> None:
    b = graphs.Builder((4, graphs.CHANNELS))
    product = b.node("MatMul", "product", b.x, b.weight("w", graphs.CHANNELS, graphs.CHANNELS))
    added = b.node("Add", "added", b.constant("b", np.ones(shape, np.float32)), product)
    plan = place(prepare(graphs.model_of(b.model(added))), "cpu")
    assert [bias.reader.node for bias in plan.biases] == ["added"] * is_bias


def test_observed_tensors_are_the_union_of_what_the_targets_need() -> None:
    model = prepared("residual")
    wanted = {name for target in TARGETS for name in place(model, target).observed}
    assert observed_tensors(model, list(TARGETS)).keys() == wanted


def test_observed_tensors_where_only_one_target_finds_work() -> None:
    b = graphs.Builder()
    model = prepare(graphs.model_of(b.model(b.conv("only", b.x))))
    with pytest.raises(
        ModelError, match=r"that cpu could quantize: only \(Conv\) feeds the model's"
    ):
        place(model, "cpu")
    assert list(observed_tensors(model, list(TARGETS))) == ["x"]


def test_a_file_that_onnx_runtime_optimized() -> None:
    b = graphs.Builder()
    weight = b.weight("w", graphs.CHANNELS, graphs.CHANNELS, 3, 3)
    fused = b.node("FusedConv", "fused", b.x, weight, activation="Relu", domain="com.microsoft")
    proto = b.model(b.node("Relu", "y", fused))
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(ModelError, match="FusedConv is an operator that ONNX Runtime's optimizer"):
        place(graphs.model_of(proto), "cpu")


def test_observed_tensors_of_a_model_without_compute() -> None:
    with pytest.raises(ModelError, match="has no Conv, Gemm or MatMul that could be quantized"):
        observed_tensors(without_compute(), list(TARGETS))


@every_target
def test_a_model_in_float16_needs_another_export(target: str) -> None:
    b = graphs.Builder()
    half = b.node("Cast", "half", b.x, to=10)
    weight = b.constant("w", np.ones((8, 8, 1, 1), np.float16))
    output = b.node("Cast", "y", b.node("Conv", "conv", half, weight), to=1)
    model = prepare(graphs.model_of(b.model(output)))
    with pytest.raises(ModelError, match="computes in float16; export it in float32 to quantize"):
        place(model, target)
    with pytest.raises(ModelError, match="computes in float16; export it in float32 to quantize"):
        observed_tensors(model, list(TARGETS))
