import graphs
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qbench.errors import ModelError
from qbench.model.passes.opset import MINIMUM_OPSET, raise_opset


def test_an_old_model_computes_the_same() -> None:
    model = graphs.model_of(graphs.opset11())
    feeds = graphs.feeds_of(model)
    raised = raise_opset(model.ir, MINIMUM_OPSET)
    assert raised.graph.opset_imports[""] == MINIMUM_OPSET
    assert np.array_equal(graphs.run(raised, feeds)["head"], graphs.run(model.ir, feeds)["head"])


def test_a_newer_model_is_left_alone() -> None:
    model = graphs.model_of(graphs.classifier()).ir
    assert raise_opset(model, MINIMUM_OPSET) is model


def test_what_cannot_be_raised_is_one_line() -> None:
    b = graphs.Builder(opset=8)
    scales = b.constant("scales", np.array([1, 1, 2, 2], np.float32))
    b.node("Upsample", "wide", b.x, scales, mode="nearest")
    b.nodes[-1].attribute.append(b.nodes[-1].attribute[0])
    model = graphs.model_of(b.model(b.node("Scan", "y", "wide")))
    with pytest.raises(ModelError, match=r"^opset 8 cannot be raised to 13 \([^\n]+\); export the"):
        raise_opset(model.ir, MINIMUM_OPSET)


def refused(model: onnx.ModelProto) -> str:
    with pytest.raises(
        ModelError, match=r"^opset \d+ cannot be raised to 13 \([^\n]+\); export"
    ) as found:
        raise_opset(ir.from_proto(model), MINIMUM_OPSET)
    return str(found.value)


def test_the_node_that_is_refused_is_named() -> None:
    b = graphs.Builder(opset=11)
    odd = b.node("NoSuch", "odd", b.conv("stem", b.x))
    text = refused(b.model(b.node("Relu", "y", odd)))
    assert "(node 'odd', NoSuch: Op " in text
    assert ".cc:" not in text
    b = graphs.Builder(opset=10)
    wide = b.node("Pad", "wide", b.conv("stem", b.x))
    assert "node 'wide', Pad: required undefined attribute 'pads'" in refused(b.model(wide))


def test_what_no_single_node_is_refused_for() -> None:
    b = graphs.Builder(opset=11)
    b.constants.append(onnx.TensorProto(name="odd", data_type=0, dims=[1]))
    text = refused(b.model(b.node("Add", "y", b.x, "odd")))
    assert text.startswith("opset 11 cannot be raised to 13 (Unknown tensor data type); export")
    model = b.model("y")
    del model.opset_import[:], model.graph.initializer[:]
    model.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", 1))
    assert refused(model).startswith("opset 0 cannot be raised to 13 (")
