import logging

import graphs
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qbench.model.passes.infer_shapes import infer_outputs, infer_shapes


def with_sequence() -> onnx.ModelProto:
    b = graphs.Builder()
    b.node("SplitToSequence", "parts", b.conv("stem", b.x), axis=1)
    part = b.node("SequenceAt", "part", "parts", b.constant("index", np.int64(1)))
    return b.model(b.node("Relu", "y", part))


def test_a_sequence_is_no_tensor() -> None:
    model = graphs.model_of(with_sequence()).ir
    feeds = graphs.feeds_of(graphs.Model(model, None, ""))
    wanted = graphs.run(model, feeds)["y"]
    infer_shapes(model)
    values = {value.name: value for node in model.graph for value in node.outputs}
    assert isinstance(values["parts"].type, ir.SequenceType)
    assert values["part"].shape == (1, 1, 16, 16)
    assert np.array_equal(graphs.run(model, feeds)["y"], wanted)


def test_what_does_not_follow_stays() -> None:
    b = graphs.Builder()
    b.node("Odd", "odd", b.x)
    b.nodes[-1].domain = "local"
    proto = b.model(b.node("Relu", "y", "odd"))
    proto.opset_import.append(onnx.helper.make_opsetid("local", 1))
    model = graphs.model_of(proto).ir
    model.graph[0].outputs[0].shape = ir.Shape([3])
    model.graph[0].outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    infer_shapes(model)
    assert model.graph[0].outputs[0].shape == (3,)
    assert model.graph[1].outputs[0].shape == (3,)


def test_a_constant_that_is_an_output_of_no_shape() -> None:
    b = graphs.Builder()
    model = graphs.model_of(b.model(b.constant("two", np.float32([2, 2])))).ir
    infer_shapes(model)
    assert model.graph.outputs[0].shape == (2,)


def test_a_failure_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    b = graphs.Builder()
    b.node("Odd", "odd", b.x)
    b.nodes[-1].domain = "nowhere"
    with caplog.at_level(logging.WARNING):
        infer_shapes(graphs.model_of(b.model("odd")).ir)
    (message,) = caplog.messages
    assert message.startswith("shapes cannot be inferred: ")
    assert "nowhere" in message
    assert "\n" not in message


def test_what_one_node_writes() -> None:
    b = graphs.Builder((2, 6))
    b.node("Reshape", "cut", b.x, b.constant("shape", np.array([4, -1])))
    b.node("ReduceMax", "most", "cut", keepdims=0)
    b.node("Split", "part", "cut", axis=0, num_outputs=0)
    model = graphs.model_of(b.model("most")).ir
    cut, most, split = model.graph
    infer_outputs(most, model.opset_imports)  # of which nothing is known before `cut` is
    assert most.outputs[0].shape is None
    for node in model.graph:
        infer_outputs(node, model.opset_imports)
    assert cut.outputs[0].shape == (4, 3)
    assert most.outputs[0].shape == ()
    assert split.outputs[0].shape is None  # it is malformed
