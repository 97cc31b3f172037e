from pathlib import Path

import graphs
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qbench.errors import ModelError
from qbench.model.load import load
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


def test_a_model_of_another_domain_gets_the_minimum_beside_it() -> None:
    b = graphs.Builder()
    proto = b.model(b.node("Scaler", "y", b.x, scale=[2.0], offset=[1.0]))
    proto.graph.node[0].domain = "ai.onnx.ml"
    proto.opset_import[0].CopyFrom(onnx.helper.make_opsetid("ai.onnx.ml", 1))
    raised = raise_opset(ir.from_proto(proto), MINIMUM_OPSET)
    assert raised.graph.opset_imports == {"ai.onnx.ml": 1, "": MINIMUM_OPSET}


def test_external_weights_are_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    options = {"save_as_external_data": True, "location": "w.bin", "size_threshold": 0}
    onnx.save(graphs.opset11(), folder / "m.onnx", **options)
    (tmp_path / "w.bin").write_bytes(bytes(1 << 16))  # another file of that name, where we are
    monkeypatch.chdir(tmp_path)
    raised = raise_opset(load(folder / "m.onnx").ir, MINIMUM_OPSET)
    wanted = graphs.model_of(graphs.opset11())
    feeds = graphs.feeds_of(wanted)
    assert np.array_equal(graphs.run(raised, feeds)["head"], graphs.run(wanted.ir, feeds)["head"])
    assert isinstance(raised.graph.initializers["stem.w"].const_value, ir.ExternalTensor)


def test_constants_that_old_files_should_list_as_inputs() -> None:
    b = graphs.Builder(opset=7)
    proto = b.model(b.node("Mul", "y", b.x, b.constant("two", np.float32([2]))))
    proto.ir_version = 3
    raised = raise_opset(ir.from_proto(proto), MINIMUM_OPSET)
    assert [value.name for value in raised.graph.inputs] == ["x"]


def test_what_it_adds_has_a_type_and_sequences_keep_theirs() -> None:
    b = graphs.Builder(opset=11)
    b.node("SplitToSequence", "parts", b.conv("stem", b.x), axis=1)
    part = b.node("SequenceAt", "part", "parts", b.constant("index", np.int64(1)))
    raised = raise_opset(ir.from_proto(b.model(b.node("Softmax", "y", part))), MINIMUM_OPSET)
    values = {value.name: value for node in raised.graph for value in node.outputs}
    assert isinstance(values["parts"].type, ir.SequenceType)
    assert len(values) > len(b.nodes)
    assert all(value.type is not None for value in values.values())
