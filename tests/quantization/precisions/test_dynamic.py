from pathlib import Path

import graphs
import numpy as np
import onnx_ir as ir
import pytest

from qbench.errors import QuantizationError, UsageError
from qbench.evaluation.similarity import sqnr_db
from qbench.model.prepare import prepare
from qbench.quantization.audit import audit_cpu
from qbench.quantization.precisions.dynamic import to_dynamic_int8
from qbench.quantization.quantize import quantize


def test_matrix_products_with_constant_weights_run_on_integers() -> None:
    model = graphs.model_of(graphs.attention())
    result = to_dynamic_int8(prepare(model).ir, saturates=True)
    ops = [node.op_type for node in result.graph]
    assert ops.count("MatMulInteger") == 2  # query and key; the others multiply activations
    feeds = graphs.feeds_of(model)
    wanted, found = graphs.run(model.ir, feeds), graphs.run(result, feeds)
    assert sqnr_db(wanted["mixed"], found["mixed"]) > 30


def test_weights_leave_room_for_the_sums_of_pairs() -> None:
    prepared = prepare(graphs.model_of(graphs.attention())).ir

    def largest_sum(*, saturates: bool) -> int:
        graph = to_dynamic_int8(prepared, saturates=saturates).graph
        weights = [v.const_value.numpy().astype(int) for v in graph.initializers.values()]
        return max(np.abs(w[::2] + w[1::2]).max() for w in weights if w.ndim == 2)

    assert largest_sum(saturates=True) <= 128 < largest_sum(saturates=False)


def test_convolutions_stay_float_and_a_gemm_does_not() -> None:
    model = graphs.model_of(graphs.classifier())
    result = quantize(model, target="cpu", precision="dynamic")
    ops = [node.op_type for node in result.ir.graph]
    assert ("Conv" in ops, "Gemm" in ops, "MatMulInteger" in ops) == (True, False, True)
    assert result.notes == (
        "of 2 nodes that multiply these stay FP32: 1 Conv; with scales found at run time only "
        "MatMul and Gemm with constant weights are INT8",
    )
    gemm, conv = 10 * 8, 16 * 16 * 8 * 9 * 8
    assert result.int8_mac_fraction == pytest.approx(gemm / (gemm + conv))
    feeds = graphs.feeds_of(model)
    wanted, found = graphs.run(model.ir, feeds), graphs.run(result.ir, feeds)
    assert sqnr_db(wanted["probabilities"], found["probabilities"]) > 30


def test_a_gemm_may_share_its_weights_and_read_what_is_looked_up_in_them() -> None:
    b = graphs.Builder((1, 8))
    rows = b.node("Gather", "rows", b.weight("w", 8, 8), b.constant("which", np.array([2])))
    first = b.node("Gemm", "first", b.x, "w", transB=1)
    total = b.node("Add", "sum", rows, b.node("Gemm", "second", first, "w", transB=1))
    model = graphs.model_of(b.model(total))
    result = quantize(model, target="cpu", precision="dynamic")
    feeds = graphs.feeds_of(model)
    wanted, found = graphs.run(model.ir, feeds), graphs.run(result.ir, feeds)
    assert sqnr_db(wanted[total], found[total]) > 30


def test_stacked_matrices_share_a_scale_for_each_output() -> None:
    b = graphs.Builder((2, 3, 8))
    model = graphs.model_of(b.model(b.node("MatMul", "y", b.x, b.weight("w", 2, 8, 4))))
    result = to_dynamic_int8(prepare(model).ir, saturates=True)
    assert [node.op_type for node in result.graph].count("MatMulInteger") == 1
    feeds = graphs.feeds_of(model)
    assert sqnr_db(graphs.run(model.ir, feeds)["y"], graphs.run(result, feeds)["y"]) > 30


def test_readers_of_one_tensor_share_its_codes() -> None:
    b = graphs.Builder((1, 8))
    query, key = (b.node("MatMul", name, b.x, b.weight(f"{name}.w", 8, 8)) for name in "qk")
    result = to_dynamic_int8(prepare(graphs.model_of(b.model(query, key))).ir, saturates=True)
    ops = [node.op_type for node in result.graph]
    assert (ops.count("DynamicQuantizeLinear"), ops.count("MatMulInteger")) == (1, 2)


def test_tensors_may_be_called_as_the_quantizer_calls_its_own() -> None:
    b = graphs.Builder((1, 8))
    b.input("x_zero_point", (1, 8))
    first = b.node("MatMul", "w_quantized", b.x, b.weight("w", 8, 8))
    second = b.node("Gemm", "y", first, b.weight("v", 8, 8), b.weight("w_scale", 8), transB=1)
    added = b.node("Add", "y_scale", second, "x_zero_point")
    model = graphs.model_of(b.model(first, added))
    result = quantize(model, target="cpu", precision="dynamic")
    assert [node.op_type for node in result.ir.graph].count("MatMulInteger") == 2
    assert [value.name for value in result.ir.graph.inputs] == ["x", "x_zero_point"]
    assert "w_scale" in result.ir.graph.initializers
    feeds = graphs.feeds_of(model)
    wanted, found = graphs.run(model.ir, feeds), graphs.run(result.ir, feeds)
    assert list(found) == ["w_quantized", "y_scale"]
    assert all(sqnr_db(wanted[name], found[name]) > 30 for name in wanted)


def test_halves_that_change_places_keep_their_shapes() -> None:
    """As in rotary position embeddings; ONNX infers other shapes where it has to start anew."""
    b = graphs.Builder((1, 6, 8))
    folded = b.constant("folded", np.array([1, 6, 2, 4]))
    heads = b.node("Reshape", "heads", b.node("MatMul", "fc", b.x, b.weight("w", 8, 8)), folded)
    turned = b.node("Transpose", "turned", heads, perm=[0, 2, 1, 3])
    ends = [b.constant(f"end{i}", np.array([i])) for i in (0, 2, 9)]
    axis = b.constant("axis", np.array([3]))
    first, second = (b.node("Slice", f"half{i}", turned, *ends[i : i + 2], axis) for i in (0, 1))
    proto = b.model(b.node("Concat", "swapped", b.node("Neg", "minus", second), first, axis=-1))
    model = graphs.model_of(proto)
    result = quantize(model, target="cpu", precision="dynamic")
    feeds = graphs.feeds_of(model)
    wanted, found = graphs.run(model.ir, feeds), graphs.run(result.ir, feeds)
    assert sqnr_db(wanted["swapped"], found["swapped"]) > 30


def test_products_of_activations_stay_float_too() -> None:
    result = quantize(graphs.model_of(graphs.attention()), target="cpu", precision="dynamic")
    assert "of 4 nodes that multiply these stay FP32: 2 MatMul;" in result.notes[0]


def test_nothing_is_said_where_nothing_stays_float() -> None:
    b = graphs.Builder(("N", 8))
    model = graphs.model_of(b.model(b.node("MatMul", "fc", b.x, b.weight("fc.w", 8, 4))))
    result = quantize(model, target="cpu", precision="dynamic")
    assert (result.notes, result.int8_mac_fraction) == ((), 1)


def test_the_source_is_left_alone() -> None:
    prepared = prepare(graphs.model_of(graphs.attention())).ir
    before = ir.to_proto(prepared).SerializeToString(deterministic=True)
    to_dynamic_int8(prepared, saturates=True)
    assert ir.to_proto(prepared).SerializeToString(deterministic=True) == before


def test_a_model_of_convolutions_only() -> None:
    with pytest.raises(QuantizationError, match="no MatMul or Gemm with constant weights; use --i"):
        to_dynamic_int8(prepare(graphs.model_of(graphs.residual())).ir, saturates=True)


@pytest.mark.parametrize(
    ("convolves", "advice"), [(False, "; export it without$"), (True, "; use --int8 for conv")]
)
def test_a_model_that_computes_in_branches(convolves: bool, advice: str) -> None:
    proto = graphs.with_if("Conv", "Conv")
    for node in list(proto.graph.node):
        for branch in node.attribute if node.op_type == "If" else ():
            branch.g.node[0].input.append("stem.w")
        if node.op_type == "Conv" and not convolves:
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]
    prepared = prepare(graphs.model_of(proto)).ir
    outside = "constant weights outside If, Loop and Scan, inside which all stays float"
    with pytest.raises(QuantizationError, match=outside + advice):
        to_dynamic_int8(prepared, saturates=True)


def test_another_target() -> None:
    with pytest.raises(UsageError, match="dynamic quantization runs on target cpu only, not tenso"):
        quantize(graphs.model_of(graphs.attention()), target="tensorrt", precision="dynamic")


def test_the_audit_knows_the_kernels_that_quantize_inside(tmp_path: Path) -> None:
    quantize(
        graphs.model_of(graphs.encoder()),
        target="cpu",
        precision="dynamic",
        output=tmp_path / "m.onnx",
    )
    nodes = ir.load(tmp_path / "m.onnx").graph
    unfused = [node.name for node in audit_cpu(tmp_path / "m.onnx").unfused]
    assert not {node.name for node in nodes if node.op_type == "MatMulInteger"} & {*unfused}
