from collections import Counter

import graphs
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx_ir.passes.common import ShapeInferencePass

from qbench.model.passes.fold_constants import fold_constants


def folded(b: graphs.Builder, *outputs: str, count: int) -> ir.Graph:
    """Run the pass, check the count and that the model computes the same; return the graph."""
    model = graphs.model_of(b.model(*outputs))
    ShapeInferencePass()(model.ir)
    feeds = graphs.feeds_of(model)
    wanted = graphs.run(model.ir, feeds)
    assert fold_constants(model.ir) == count
    found = graphs.run(model.ir, feeds)
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    return model.ir.graph


def ops(graph: ir.Graph) -> Counter[str]:
    return Counter(node.op_type for node in graph)


def test_a_chain_of_constants() -> None:
    b = graphs.Builder()
    two = b.node("Sqrt", "two", b.constant("four", np.float32(4)))
    half = b.node("Reciprocal", "half", two)
    assert ops(folded(b, b.node("Mul", "y", b.x, half), count=2)) == {"Mul": 1}


def test_the_shape_of_a_static_tensor() -> None:
    b = graphs.Builder()
    shape = b.node("Shape", "shape", b.x, start=1, end=-1)
    size = b.node("ReduceProd", "size", shape, keepdims=1)
    rest = b.constant("rest", np.array([-1]))
    target = b.node("Concat", "target", size, rest, axis=0)
    assert ops(folded(b, b.node("Reshape", "y", b.x, target), count=3)) == {"Reshape": 1}


def test_the_shape_of_a_dynamic_tensor_stays() -> None:
    b = graphs.Builder(("N", 8, 16, 16))
    shape = b.node("Shape", "shape", b.x)
    assert ops(folded(b, b.node("Reshape", "y", b.x, shape), count=0)) == {"Shape": 1, "Reshape": 1}


def test_several_outputs() -> None:
    b = graphs.Builder()
    pair = b.constant("pair", np.array([[1], [2]], np.float32))
    b.nodes.append(onnx.helper.make_node("Split", [pair], ["one", "two"], axis=0))
    b.node("Add", "sum", b.x, "one")
    assert ops(folded(b, b.node("Mul", "y", "sum", "two"), count=1)) == {"Add": 1, "Mul": 1}


def test_an_output_of_the_model_stays() -> None:
    b = graphs.Builder()
    two = b.node("Sqrt", "two", b.constant("four", np.float32(4)))
    assert ops(folded(b, two, b.node("Relu", "y", b.x), count=0)) == {"Sqrt": 1, "Relu": 1}


def test_large_results_stay() -> None:
    b = graphs.Builder((1,))
    shape = b.constant("shape", np.array([512, 1024]))
    wide = b.node("Expand", "wide", b.constant("one", np.float32(1)), shape)
    proto = b.node("Add", "y", b.node("ReduceMean", "mean", wide, keepdims=0), b.x)
    assert ops(folded(b, proto, count=0))["Expand"] == 1


@pytest.mark.parametrize("op_type", ["RandomNormalLike", "RandomUniformLike", "Bernoulli"])
def test_random_generators_stay(op_type: str) -> None:
    b = graphs.Builder()
    noise = b.node(op_type, "noise", b.constant("chance", np.float32([0.5])))
    model = graphs.model_of(b.model(b.node("Add", "y", b.x, noise)))
    assert fold_constants(model.ir) == 0


def test_integer_weights_stay_behind_their_dequantization() -> None:
    b = graphs.Builder()
    codes = b.constant("codes", np.int8([1, 2, 3]))
    weight = b.node("DequantizeLinear", "weight", codes, b.constant("scale", np.float32(0.1)))
    model = graphs.model_of(
        b.model(b.node("Gather", "y", weight, b.constant("index", np.int64(1))))
    )
    assert fold_constants(model.ir) == 0


def test_a_constant_that_only_a_branch_reads() -> None:
    b = graphs.Builder()
    two = b.node("Sqrt", "two", b.constant("four", np.full(graphs.IMAGE, 4, np.float32)))
    positive = b.node("Less", "positive", b.constant("zero", np.float32(0)), "total")
    b.nodes.insert(0, onnx.helper.make_node("ReduceSum", [b.x], ["total"], keepdims=0))
    info = onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, graphs.IMAGE)
    branch = onnx.helper.make_graph([onnx.helper.make_node("Neg", [two], ["z"])], "b", [], [info])
    choice = b.node("If", "y", positive, then_branch=branch, else_branch=branch)
    assert ops(folded(b, choice, count=1))["Sqrt"] == 0


def test_sequences_stay() -> None:
    b = graphs.Builder()
    one = b.constant("one", np.float32([1]))
    items = b.node("SequenceConstruct", "items", one, one)
    first = b.node("SequenceAt", "first", items, b.constant("index", np.int64(0)))
    model = graphs.model_of(b.model(b.node("Add", "y", b.x, first)))
    assert fold_constants(model.ir) == 0
