from pathlib import Path

import graphs
import onnx
import onnx_ir as ir

from qbench.model.graph import (
    constant,
    names_in,
    only_user,
    static_shape,
    subgraph_nodes,
    values_by_name,
)
from qbench.model.load import load
from qbench.model.save import save


def values(proto: onnx.ModelProto) -> tuple[dict[str | None, ir.Value], ir.Model]:
    model = graphs.model_of(proto).ir
    known = {v.name: v for node in model.graph for v in (*node.inputs, *node.outputs) if v}
    return known, model


def test_only_user() -> None:
    known, _ = values(graphs.residual())
    user = only_user(known["branch1"])
    assert user is not None
    assert user.name == "branch_relu"
    assert only_user(known["stem_relu"]) is None  # the branch and the skip
    assert only_user(known["head"]) is None  # the caller


def test_a_reader_inside_a_subgraph_is_not_the_only_user() -> None:
    proto = graphs.with_if()
    # Only the branch `then` reads the convolution now.
    proto.graph.node[-2].attribute[1].g.node[0].input[0] = "x"
    proto.graph.node[2].input[0] = "x"
    known, _ = values(proto)
    assert only_user(known["stem_relu"]) is None


def test_subgraph_nodes() -> None:
    _, model = values(graphs.with_if())
    assert sorted(node.op_type for node in subgraph_nodes(model)) == ["Abs", "Neg"]


def test_values_by_name_are_inputs_and_what_nodes_write() -> None:
    _, model = values(graphs.with_if())
    known = values_by_name(model.graph)
    written = {value.name for node in model.graph for value in node.outputs}
    assert known.keys() == {"x"} | written
    assert known["x"] is model.graph.inputs[0]


def test_names_of_inputs_constants_nodes_and_subgraphs() -> None:
    _, model = values(graphs.with_if())
    names = {"x", "stem.w", "stem", "stem_relu", "then_y", "then_node", "else_y", "else_node"}
    assert names <= names_in(model.graph)


def test_constants_are_initializers_only() -> None:
    known, _ = values(graphs.classifier())
    array = constant(known["fc.b"])
    assert array is not None
    assert array.shape == (10,)
    assert constant(known["x"]) is None
    assert constant(known["fc"]) is None
    assert constant(None) is None


def test_a_constant_leaves_its_external_file_unmapped(tmp_path: Path) -> None:
    save(graphs.model_of(graphs.classifier()).ir, tmp_path / "m.onnx", external=True)
    value = load(tmp_path / "m.onnx").ir.graph.initializers["features.w"]
    array = constant(value)
    assert isinstance(value.const_value, ir.ExternalTensor)
    assert array is not None
    assert value.const_value.raw is None


def test_static_shape() -> None:
    known, _ = values(graphs.classifier())
    assert static_shape(known["x"]) == graphs.IMAGE
    b = graphs.Builder(("N", 3))
    dynamic, _ = values(b.model(b.node("Relu", "y", b.x)))
    assert static_shape(dynamic["x"]) is None
