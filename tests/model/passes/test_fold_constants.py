from collections import Counter
from typing import Any

import graphs
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qbench.model.passes import fold_constants as fold_constants_module
from qbench.model.passes.fold_constants import fold_constants
from qbench.model.passes.infer_shapes import infer_shapes


def folded(b: graphs.Builder, *outputs: str, count: int) -> ir.Graph:
    """Run the pass, check the count and that the model computes the same; return the graph."""
    model = graphs.model_of(b.model(*outputs))
    infer_shapes(model.ir)
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


@pytest.mark.parametrize(
    ("op_type", "dtype", "attributes"),
    [
        ("Transpose", np.float32, {"perm": [1, 0]}),
        ("Cast", np.int8, {"to": onnx.TensorProto.FLOAT}),
    ],
)
def test_large_weights_that_are_computed_from_such(
    op_type: str, dtype: type, attributes: dict[str, Any]
) -> None:
    b = graphs.Builder((1, 520))
    stored = b.constant("stored", np.ones((520, 520), dtype))
    weight = b.node(op_type, "weight", stored, **attributes)
    scaled = b.node("Mul", "scaled", weight, b.constant("scale", np.float32(0.1)))
    assert ops(folded(b, b.node("MatMul", "y", b.x, scaled), count=2)) == {"MatMul": 1}


def test_what_would_be_too_large_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(fold_constants_module, "ReferenceEvaluator", lambda *a, **_: ran.append(a))
    b = graphs.Builder((1,))
    shape = b.constant("shape", np.array([1 << 20, 1 << 20]))
    wide = b.node("Expand", "wide", b.constant("one", np.float32(1)), shape)
    model = graphs.model_of(b.model(b.node("Add", "y", wide, b.x))).ir
    infer_shapes(model)
    assert fold_constants(model) == 0
    assert not ran


@pytest.mark.parametrize("op_type", ["Gelu", "GlobalLpPool"])
def test_what_has_no_reference_implementation_stays(op_type: str) -> None:
    b = graphs.Builder(opset=20)
    image = b.constant("image", np.ones(graphs.IMAGE, np.float32))
    curve = b.node(op_type, "curve", image)
    assert ops(folded(b, b.node("Add", "y", b.x, curve), count=0))[op_type] == 1


def test_optional_inputs_that_the_reference_implementation_needs() -> None:
    b = graphs.Builder((1, 4, 4))
    boxes = b.constant("boxes", np.random.default_rng(0).random((1, 4, 4), np.float32))
    scores = b.constant("scores", np.ones((1, 1, 4), np.float32))
    chosen = b.node("NonMaxSuppression", "chosen", boxes, scores)
    count = b.node("Cast", "count", chosen, to=onnx.TensorProto.FLOAT)
    total = b.node("ReduceSum", "total", count, keepdims=0)
    assert ops(folded(b, b.node("Add", "y", b.x, total), count=0))["NonMaxSuppression"] == 1


@pytest.mark.parametrize(("training", "count"), [(True, 0), (False, 1)])
def test_a_dropout_that_trains_draws_anew_each_time(training: bool, count: int) -> None:
    b = graphs.Builder()
    one, ratio = b.constant("one", np.float32([1])), b.constant("ratio", np.float32(0.5))
    dropped = b.node("Dropout", "dropped", one, ratio, b.constant("training", np.array(training)))
    model = graphs.model_of(b.model(b.node("Add", "y", b.x, dropped)))
    assert fold_constants(model.ir) == count
