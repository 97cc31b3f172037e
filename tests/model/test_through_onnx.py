from pathlib import Path

import graphs
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qbench.model.load import load
from qbench.model.through_onnx import through_onnx


def test_the_result_holds_the_very_weights() -> None:
    model = graphs.model_of(graphs.conv_bn_relu()).ir
    before = {name: v.const_value for name, v in model.graph.initializers.items()}
    found = through_onnx(model, lambda proto: proto)
    for name, value in found.graph.initializers.items():
        if before[name].size > 256:
            assert value.const_value is before[name]
        assert np.array_equal(value.const_value.numpy(), before[name].numpy())
    assert {name: v.const_value for name, v in model.graph.initializers.items()} == before


def test_large_weights_are_not_shown_and_small_ones_are() -> None:
    b = graphs.Builder()
    large = b.constant("large", np.ones(300, np.float32))
    small = b.constant("small", np.ones(200, np.float32))
    model = graphs.model_of(b.model(b.node("Concat", "y", large, small, axis=0))).ir
    shown: list[onnx.ModelProto] = []

    def keep(proto: onnx.ModelProto) -> onnx.ModelProto:
        shown.append(proto)
        return proto

    through_onnx(model, keep)
    first, second = shown[0].graph.initializer
    assert not first.raw_data
    assert onnx.numpy_helper.to_array(second).shape == (200,)


def test_external_weights_stay_in_their_files_and_small_ones_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    onnx.save(
        graphs.classifier(),
        folder / "m.onnx",
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
    )
    (tmp_path / "w.bin").write_bytes(bytes(1 << 16))  # another file of that name, where we are
    monkeypatch.chdir(tmp_path)
    model = load(folder / "m.onnx").ir
    found = through_onnx(model, lambda proto: proto).graph.initializers
    kept = [value.const_value for value in model.graph.initializers.values()]
    assert all(isinstance(t, ir.ExternalTensor) and t.raw is None for t in kept)  # nothing mapped
    wanted = graphs.model_of(graphs.classifier()).ir.graph.initializers
    for name, value in found.items():
        assert isinstance(value.const_value, ir.ExternalTensor) == (value.const_value.size > 256)
        assert np.array_equal(value.const_value.numpy(), wanted[name].const_value.numpy())


def test_weights_of_branches_and_texts() -> None:
    b = graphs.Builder((300,))
    words = b.constant("words", np.array(["a"] * 300, dtype=object))
    b.node("StringNormalizer", "lower", words, case_change_action="LOWER")
    value = onnx.numpy_helper.from_array(np.arange(300, dtype=np.float32), "w")
    info = onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [300])
    add = onnx.helper.make_node("Add", [b.x, "w"], ["z"])
    branch = onnx.helper.make_graph([add], "b", [], [info], [value])
    yes = b.constant("yes", np.array(True))
    output = b.node("If", "y", yes, then_branch=branch, else_branch=branch)
    model = graphs.model_of(b.model(output, "lower")).ir
    found = through_onnx(model, lambda proto: proto)
    for graph, copy in zip(model.graphs(), found.graphs(), strict=True):
        for name, weight in graph.initializers.items():
            array = copy.initializers[name].const_value.numpy()
            assert np.array_equal(array, weight.const_value.numpy())
