import graphs
import numpy as np
import onnx_ir as ir
import pytest

from qbench.errors import QuantizationError
from qbench.evaluation.similarity import sqnr_db
from qbench.model.graph import constant
from qbench.model.prepare import prepare
from qbench.placement.plan import Activation, Plan, Reader
from qbench.placement.targets import TARGETS
from qbench.quantization.int8 import Int8Options
from qbench.quantization.numerics import symmetric
from qbench.quantization.qdq import write_qdq
from qbench.quantization.quantize import quantize
from qbench.quantization.quantized import QuantizedModel

every_target = pytest.mark.parametrize("target", TARGETS)
LEAST_SQNR_DB = {
    "attention": 22.0,
    "encoder": 22.0,
    "encoder_decomposed": 22.0,
    "encoder_fused": 22.0,
    "encoder_fused_cut_first": 22.0,
    "shared_input": 27.0,
    "linear_bottlenecks": 29.0,
}
"""Of matrix products with computed weights, both sides of which are rounded, and of many roundings
in a row; else 30 dB."""


def quantized(pattern: str, target: str) -> QuantizedModel:
    model = graphs.model_of(graphs.PATTERNS[pattern]())
    table = graphs.table_of(model)
    return quantize(model, target=target, table=table, options=Int8Options(saturates=False))


def dequantized_constants(model: ir.Model) -> dict[str | None, ir.Value]:
    """The integer initializers of a quantized graph, by name."""
    found = {}
    for node in model.graph:
        codes = node.inputs[0]
        if node.op_type == "DequantizeLinear" and codes is not None and codes.is_initializer():
            found[codes.name] = codes
    return found


@every_target
@pytest.mark.parametrize("pattern", graphs.PATTERNS)
def test_simulated_outputs_are_close_to_the_float_model(pattern: str, target: str) -> None:
    result = quantized(pattern, target)
    feeds = graphs.feeds_of(result.source, seed=100)  # not among the calibration samples
    wanted, found = graphs.run(result.source.ir, feeds), graphs.run(result.ir, feeds)
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert sqnr_db(array, found[name]) > LEAST_SQNR_DB.get(pattern, 30.0)


@every_target
@pytest.mark.parametrize("pattern", graphs.PATTERNS)
def test_outputs_keep_names_and_types_and_the_source_is_left_alone(
    pattern: str, target: str
) -> None:
    model = graphs.model_of(graphs.PATTERNS[pattern]())
    before = ir.to_proto(model.ir).SerializeToString(deterministic=True)
    result = quantize(model, target=target, table=graphs.table_of(model))
    assert [v.name for v in result.ir.graph.outputs] == [s.name for s in model.outputs]
    assert [v.name for v in result.ir.graph.inputs] == [s.name for s in model.inputs]
    assert all(v.dtype == ir.DataType.FLOAT for v in result.ir.graph.outputs)
    assert ir.to_proto(model.ir).SerializeToString(deterministic=True) == before


@every_target
def test_weights_are_stored_as_int8_per_channel(target: str) -> None:
    result = quantized("residual", target)
    planned = {f"{w.tensor}_axis0_quantized" for w in result.plan.weights}
    weights = {k: v for k, v in dequantized_constants(result.ir).items() if k in planned}
    assert weights.keys() == planned
    assert {value.dtype for value in weights.values()} == {ir.DataType.INT8}
    floats = {name for name in result.ir.graph.initializers if name.endswith(".w")}
    stays = {f"{node.name}.w" for node in result.float_nodes}
    assert floats == stays
    scales = [
        constant(node.inputs[1])
        for node in result.ir.graph
        if node.inputs[0] in list(weights.values())
    ]
    assert {scale.shape for scale in scales if scale is not None} == {(graphs.CHANNELS,)}


@every_target
def test_a_shared_weight_is_stored_once(target: str) -> None:
    result = quantized("shared_weight", target)
    stored = [name for name in dequantized_constants(result.ir) if name and "first.w" in name]
    assert stored == ["first.w_axis0_quantized"]
    pairs = {n.name: n.inputs[1] for n in result.ir.graph if n.name in {"first", "second"}}
    assert pairs["first"] is pairs["second"]


@every_target
def test_a_weight_that_a_float_node_reads_too_is_kept(target: str) -> None:
    model = graphs.model_of(graphs.shared_weight())
    options = Int8Options(exclude=["second"])
    result = quantize(model, target=target, table=graphs.table_of(model), options=options)
    nodes = {node.name: node for node in result.ir.graph}
    second = nodes["second"].inputs[1]
    assert second is not None
    assert second.name == "first.w"
    assert nodes["first"].inputs[1] is not second


def test_every_tensor_is_quantized_once_for_all_its_readers() -> None:
    result = quantized("residual", "tensorrt")
    sources = [n.inputs[0].name for n in result.ir.graph if n.op_type == "QuantizeLinear"]
    assert len(set(sources)) == len(sources)
    nodes = {node.name: node for node in result.ir.graph}
    assert nodes["join"].inputs[1] is nodes["branch1"].inputs[0]


def test_tensorrt_gets_zero_points_of_zero_and_float_biases() -> None:
    graph = quantized("classifier", "tensorrt").ir.graph
    for node in graph:
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            zero_point = constant(node.inputs[2])
            assert zero_point is not None
            assert zero_point.dtype == np.int8
            assert not zero_point.any()
    biases = [node.inputs[2] for node in graph if node.op_type in {"Conv", "Gemm"}]
    assert all(bias is not None and bias.is_initializer() for bias in biases)
    assert {bias.dtype for bias in biases if bias is not None} == {ir.DataType.FLOAT}


def test_cpu_gets_bytes_and_an_integer_bias_for_gemm() -> None:
    graph = quantized("classifier", "cpu").ir.graph
    dtypes = {node.inputs[2].dtype for node in graph if node.op_type == "QuantizeLinear"}
    assert dtypes == {ir.DataType.UINT8}
    (fc,) = (node for node in graph if node.op_type == "Gemm")
    bias = fc.inputs[2].producer()
    assert bias.inputs[0].dtype == ir.DataType.INT32


@every_target
def test_names_that_the_graph_has_already_are_left_alone(target: str) -> None:
    """Tensors are called here like those that the pairs of `stem` and `x` would bring."""
    b = graphs.Builder()
    b.input("x_scale", graphs.IMAGE)
    stem = b.conv("stem", b.x)
    grown = b.node("Mul", "grown", stem, b.constant("stem_scale", np.float32(2)))
    relu = b.node("Relu", "stem_quantized", b.node("Add", "stem_zero_point", grown, "x_scale"))
    output = b.node("Add", "x_dequantized", b.conv("head", relu), b.conv("other", stem))
    model = graphs.model_of(b.model(output))
    result = quantize(model, target=target, table=graphs.table_of(model))
    feeds = graphs.feeds_of(model)
    wanted, found = graphs.run(model.ir, feeds), graphs.run(result.ir, feeds)
    assert sqnr_db(wanted[output], found[output]) > 30


def test_nodes_inside_branches_read_what_is_computed_outside() -> None:
    result = quantized("with_if", "cpu")
    inner = [n for n in result.ir.graph.all_nodes() if n.op_type in {"Neg", "Abs"}]
    assert [n.inputs[0].name for n in inner] == ["stem_relu_dequantized"] * 2


def test_a_plan_for_another_graph() -> None:
    model = prepare(graphs.model_of(graphs.residual()))
    plan = Plan("cpu", False, (Activation("other", "other", (Reader("stem", 0),)),), (), (), ())
    with pytest.raises(QuantizationError, match="tensor 'other' is not in the graph; plan and gra"):
        write_qdq(model.ir, plan, {"other": symmetric(-1, 1)})
