"""ONNX Runtime is asked what it made of the plans: a planned node that runs in float is a bug."""

from collections import Counter
from pathlib import Path

import graphs
import onnx_ir as ir
import pytest

from qbench.model.prepare import prepare
from qbench.placement.targets import place
from qbench.quantization.audit import KernelAudit, audit_cpu
from qbench.quantization.int8 import Int8Options
from qbench.quantization.quantize import quantize
from qbench.quantization.quantized import QuantizedModel
from qbench.runtimes.ort.graphs import optimized_graph

KERNELS: dict[str, dict[str, int]] = {
    "conv_bn_relu": {"QLinearConv": 2},
    "conv_relu6": {"QLinearConv": 1},
    "conv_silu": {"QLinearConv": 2, "QLinearSigmoid": 1, "QLinearMul": 1},
    "silu_before_head": {"QLinearConv": 1},
    "conv_hardswish": {"QLinearConv": 1},
    "conv_leaky_relu": {"QLinearConv": 2, "QLinearLeakyRelu": 1},
    "residual": {"QLinearConv": 4, "QLinearAdd": 1},
    "linear_bottlenecks": {"QLinearConv": 4, "MatMulIntegerToFloat": 3},
    "depthwise": {"QLinearConv": 2},
    "squeeze_excite": {
        "QLinearConv": 4,
        "QLinearGlobalAveragePool": 1,
        "QLinearSigmoid": 1,
        "QLinearMul": 1,
    },
    "concat_branches": {"QLinearConv": 3, "QLinearConcat": 1},
    "focus": {"QLinearConv": 2},
    "pyramid": {"QLinearConv": 2, "QLinearConcat": 1},
    "upsample": {"QLinearConv": 2, "QLinearConcat": 1},
    "bicubic": {"QLinearConv": 2},
    "classifier": {"QLinearConv": 1, "QLinearGlobalAveragePool": 1, "QGemm": 1},
    "attention": {"QLinearMatMul": 2, "MatMulIntegerToFloat": 2},
    "detector": {"QLinearConv": 1},
    "conv_transpose": {"QLinearConv": 1},
    "shared_weight": {"QLinearConv": 2},
    "output_in_the_middle": {"QLinearConv": 1},
    "encoder": {"QGemm": 7, "MatMulIntegerToFloat": 1, "QLinearMatMul": 1},
    "encoder_decomposed": {"QGemm": 7, "MatMulIntegerToFloat": 1, "QLinearMatMul": 1},
    "encoder_fused": {"QGemm": 5, "MatMulIntegerToFloat": 1, "QLinearMatMul": 1},
    "encoder_fused_cut_first": {"QGemm": 5, "MatMulIntegerToFloat": 1, "QLinearMatMul": 1},
    "shared_input": {"QLinearConv": 4, "QLinearAdd": 2},
    "two_heads": {"QLinearConv": 2},
    "split_halves": {
        "QLinearConv": 3,
        "QLinearSigmoid": 1,
        "QLinearMul": 1,
        "QLinearConcat": 1,
    },
    "two_inputs": {"QLinearConv": 3, "QLinearAdd": 1},
    "with_if": {"QLinearConv": 1},
    "opset11": {"QLinearConv": 1},
}
"""Integer kernels by pattern. What feeds the output stays float, as the plans say."""

every_pattern = pytest.mark.parametrize("pattern", graphs.PATTERNS)


def written(pattern: str, path: Path, **options: str) -> QuantizedModel:
    model = graphs.model_of(graphs.PATTERNS[pattern]())
    table = graphs.table_of(model)
    return quantize(model, target="cpu", table=table, output=path, options=Int8Options(**options))


def is_integer(node: ir.Node) -> bool:
    return node.op_type.startswith(("QLinear", "QGemm", "MatMulInteger"))


@every_pattern
def test_every_planned_node_is_an_integer_kernel(pattern: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    plan = written(pattern, path).plan
    assert plan is not None
    kernels = [node for node in optimized_graph(path) if is_integer(node)]
    assert Counter(node.op_type for node in kernels) == KERNELS[pattern]
    names = [(node.name or "").removesuffix("/MatMulAddFusion") for node in kernels]
    assert sorted(names) == sorted(plan.quantized)


@pytest.mark.parametrize("op_type", ["Gemm", "MatMul"])
def test_a_gemm_whose_relu_only_float_nodes_read_runs_on_integers(
    op_type: str, tmp_path: Path
) -> None:
    b = graphs.Builder((1, 64))
    weight, bias = b.weight("w", 64, 256), b.weight("bias", 256)
    if op_type == "Gemm":
        total = b.node("Gemm", "fc", b.x, weight, bias)
    else:
        total = b.node("Add", "total", b.node("MatMul", "fc", b.x, weight), bias)
    curve = b.node("Erf", "curve", b.node("Relu", "relu", total))
    model = graphs.model_of(b.model(b.node("Gemm", "last", curve, b.weight("w2", 256, 8))))
    path = tmp_path / "m.onnx"
    quantize(model, target="cpu", table=graphs.table_of(model), output=path)
    kernels = [node.op_type for node in optimized_graph(path) if is_integer(node)]
    assert kernels == ["QGemm", "QGemm"]


@every_pattern
def test_data_moves_as_integers(pattern: str, tmp_path: Path) -> None:
    """No value is dequantized only to be quantized again."""
    path = tmp_path / "m.onnx"
    written(pattern, path)
    graph = optimized_graph(path)
    again = [
        node.name
        for node in graph
        if node.op_type == "QuantizeLinear"
        and (producer := node.inputs[0].producer()) is not None
        and producer.op_type == "DequantizeLinear"
    ]
    assert again == []


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy", "mse"])
def test_activations_vanish_whatever_the_range(method: str, tmp_path: Path) -> None:
    for pattern in ("conv_relu6", "conv_bn_relu"):
        path = tmp_path / f"{pattern}.onnx"
        written(pattern, path, method=method)
        assert not {"Relu", "Clip"} & {node.op_type for node in optimized_graph(path)}


def test_the_audit_counts_compute_nodes(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    result = written("residual", path)
    assert result.plan is not None
    audit = audit_cpu(path, result.plan)
    assert audit == KernelAudit(planned=4, integer=4, unfused=())


def test_a_gemm_that_gets_its_bias_by_correction_runs_on_integers(tmp_path: Path) -> None:
    b = graphs.Builder((4, graphs.CHANNELS))
    model = graphs.model_of(b.model(b.node("Gemm", "fc", b.x, b.weight("w", graphs.CHANNELS, 10))))
    table = graphs.table_of(model)
    result = quantize(model, target="cpu", table=table, output=tmp_path / "m.onnx")
    assert any(value.name.startswith("fc_bias_") for value in result.ir.graph.initializers.values())
    assert audit_cpu(tmp_path / "m.onnx", result.plan).integer == 1


def test_the_audit_names_what_was_not_fused(tmp_path: Path) -> None:
    """A file made for TensorRT has no Q at outputs, which ONNX Runtime's Conv wants."""
    path = tmp_path / "m.onnx"
    model = graphs.model_of(graphs.conv_silu())
    quantize(model, target="tensorrt", table=graphs.table_of(model), output=path)
    audit = audit_cpu(path, place(prepare(model), "cpu"))
    assert (audit.planned, audit.integer) == (2, 1)
    unfused = {node.name: node.reason for node in audit.unfused}
    assert unfused["stem"] == "its output is read in float by 'sigmoid' (Sigmoid)"
