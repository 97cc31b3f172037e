from pathlib import Path

import graphs
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qbench.model.graph import subgraph_nodes
from qbench.model.load import load
from qbench.model.prepare import prepare

every_pattern = pytest.mark.parametrize("pattern", graphs.PATTERNS)


def op_types(model: ir.Model) -> set[str]:
    return {node.op_type for node in model.graph}


@every_pattern
def test_prepared_models_compute_the_same(pattern: str) -> None:
    model = graphs.model_of(graphs.PATTERNS[pattern]())
    feeds = graphs.feeds_of(model)
    wanted, found = graphs.run(model.ir, feeds), graphs.run(prepare(model).ir, feeds)
    assert wanted.keys() == found.keys()
    for name, array in wanted.items():
        assert np.allclose(found[name], array, atol=1e-4)


@every_pattern
def test_postconditions(pattern: str) -> None:
    model = graphs.model_of(graphs.PATTERNS[pattern]())
    prepared = prepare(model)
    graph = prepared.ir.graph
    assert graph.opset_imports[""] >= 13
    assert not {"Constant", "Identity", "BatchNormalization", "Pad"} & op_types(prepared.ir)
    names = [node.name for node in (*graph, *subgraph_nodes(prepared.ir))]
    assert all(names)
    assert len(set(names)) == len(names)
    assert all(v.shape is not None and v.dtype is not None for n in graph for v in n.outputs)
    assert prepared.sha256 == model.sha256


@every_pattern
def test_preparation_is_deterministic_and_leaves_its_input_alone(pattern: str) -> None:
    model = graphs.model_of(graphs.PATTERNS[pattern]())
    before = ir.to_proto(model.ir).SerializeToString(deterministic=True)
    first, second = (
        ir.to_proto(prepare(model).ir).SerializeToString(deterministic=True) for _ in range(2)
    )
    assert first == second
    assert ir.to_proto(model.ir).SerializeToString(deterministic=True) == before


def test_preparing_twice_changes_nothing() -> None:
    once = prepare(graphs.model_of(graphs.conv_bn_relu()))
    twice = prepare(once)
    assert [n.name for n in twice.ir.graph] == [n.name for n in once.ir.graph]
    assert twice.ir.graph.initializers.keys() == once.ir.graph.initializers.keys()


def test_nodes_without_names_get_some() -> None:
    proto = graphs.residual()
    for node in proto.graph.node:
        node.name = ""
    names = [node.name for node in prepare(graphs.model_of(proto)).ir.graph]
    assert all(names)
    assert len(set(names)) == len(names)


def test_constants_and_identities_vanish() -> None:
    b = graphs.Builder()
    tensor = onnx.numpy_helper.from_array(np.float32(2))
    b.node("Constant", "two", value=tensor)
    same = b.node("Identity", "same", b.node("Mul", "doubled", b.x, "two"))
    prepared = prepare(graphs.model_of(b.model(b.conv("head", same))))
    assert op_types(prepared.ir) == {"Mul", "Conv"}


def test_gemm_is_simplified_behind_constants_and_identities() -> None:
    b = graphs.Builder((4, 8))
    weight = b.node("Transpose", "turned", b.weight("w", 6, 8), perm=[1, 0])
    b.node("Gemm", "gemm", b.node("Identity", "same", b.x), weight, alpha=0.5)
    (node,) = prepare(graphs.model_of(b.model("gemm"))).ir.graph
    assert not node.attributes


def test_local_functions_are_inlined() -> None:
    b = graphs.Builder()
    proto = b.model(b.node("Relu", "head", b.node("Block", "block", b.conv("stem", b.x))))
    proto.graph.node[1].domain = "local"
    body = [
        onnx.helper.make_node("Sigmoid", ["x"], ["gate"]),
        onnx.helper.make_node("Mul", ["x", "gate"], ["y"]),
    ]
    opset = onnx.helper.make_opsetid("", 17)
    function = onnx.helper.make_function("local", "Block", ["x"], ["y"], body, [opset])
    proto.functions.append(function)
    proto.opset_import.append(onnx.helper.make_opsetid("local", 1))
    model = graphs.model_of(proto)
    prepared = prepare(model)
    assert op_types(prepared.ir) == {"Conv", "Sigmoid", "Mul", "Relu"}
    feeds = graphs.feeds_of(model)
    found = graphs.run(prepared.ir, feeds)["head"]
    assert found == pytest.approx(graphs.run(model.ir, feeds)["head"], abs=1e-4)


def test_dynamic_dimensions_stay_dynamic() -> None:
    b = graphs.Builder(("N", graphs.CHANNELS, "H", "W"))
    prepared = prepare(graphs.model_of(b.model(b.conv("head", b.x))))
    assert prepared.inputs[0].shape == ("N", graphs.CHANNELS, "H", "W")


def test_external_weights_are_prepared_like_others(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(graphs.conv_bn_relu(), path, save_as_external_data=True, size_threshold=0)
    model = load(path)
    feeds = graphs.feeds_of(model)
    wanted = graphs.run(graphs.model_of(graphs.conv_bn_relu()).ir, feeds)["head"]
    assert np.allclose(graphs.run(prepare(model).ir, feeds)["head"], wanted, atol=1e-4)


def test_weights_of_an_old_model_are_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = graphs.Builder(opset=11)
    weight = np.ones((graphs.CHANNELS, graphs.CHANNELS, 3, 3), np.float32)
    b.node("Constant", "w", value=onnx.numpy_helper.from_array(weight))
    proto = b.model(b.conv("head", b.node("Conv", "stem", b.x, "w")))
    wanted = graphs.model_of(onnx.ModelProto.FromString(proto.SerializeToString()))
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    onnx.save(
        proto,
        folder / "m.onnx",
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
        convert_attribute=True,
    )
    monkeypatch.chdir(tmp_path)
    prepared = prepare(load(folder / "m.onnx")).ir
    feeds = graphs.feeds_of(wanted)
    found = graphs.run(prepared, feeds)["head"]
    assert np.allclose(found, graphs.run(wanted.ir, feeds)["head"], atol=1e-4)


def test_nodes_in_branches_are_told_apart_from_all_others() -> None:
    proto = graphs.with_if()
    for branch in proto.graph.node[-2].attribute:
        branch.g.node[0].name = "stem"
    prepared = prepare(graphs.model_of(proto)).ir
    assert [node.name for node in subgraph_nodes(prepared)] == ["stem_1", "stem_2"]
    assert "stem" in {node.name for node in prepared.graph}
