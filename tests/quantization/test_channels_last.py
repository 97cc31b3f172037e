"""Pointwise convolutions of residual streams, written as MatMul."""

import graphs

from qbench.evaluation.similarity import sqnr_db
from qbench.model.load import Model
from qbench.quantization.int8 import Int8Options
from qbench.quantization.quantize import quantize
from qbench.quantization.quantized import QuantizedModel

OPTIONS = Int8Options(saturates=False)


def quantized(model: Model) -> QuantizedModel:
    return quantize(model, target="cpu", table=graphs.table_of(model), options=OPTIONS)


def loss(result: QuantizedModel) -> float:
    feeds = graphs.feeds_of(result.source, seed=100)
    wanted, found = graphs.run(result.source.ir, feeds), graphs.run(result.ir, feeds)
    return sqnr_db(wanted["head"], found["head"])


def test_names_of_nodes_and_tensors_stay() -> None:
    model = graphs.model_of(graphs.linear_bottlenecks())
    nodes = {node.name: node.op_type for node in quantized(model).ir.graph}
    tensors = {value.name for node in quantized(model).ir.graph for value in node.outputs}
    assert {nodes[name] for name in ("project1", "project2", "project3")} == {"MatMul"}
    assert {node.outputs[0].name for node in model.ir.graph} <= tensors


def test_a_convolution_without_a_bias_gets_none() -> None:
    proto = graphs.linear_bottlenecks()
    bare = next(node for node in proto.graph.node if node.name == "project2")
    del bare.input[2]
    result = quantized(graphs.model_of(proto))
    assert loss(result) > 29
