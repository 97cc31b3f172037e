from pathlib import Path
from unittest.mock import Mock

import graphs
import numpy as np
import onnx_ir as ir
import pytest

from qbench.model.graph import constant
from qbench.runtimes.ort import graphs as ort_graphs
from qbench.runtimes.ort.graphs import open_graph, optimized_graph
from qbench.runtimes.ort.runner import OrtRunner

MODEL = graphs.conv_bn_relu().SerializeToString()
FEEDS = {"x": np.linspace(-1, 1, np.prod(graphs.IMAGE), dtype=np.float32).reshape(graphs.IMAGE)}


def test_a_graph_in_memory() -> None:
    model = graphs.model_of(graphs.conv_bn_relu())
    found = open_graph(model.ir, threads=1).run(FEEDS)["head"]
    assert np.array_equal(found, OrtRunner(MODEL, threads=1).run(FEEDS)["head"])


@pytest.mark.parametrize("large", [1, 1 << 40])
@pytest.mark.parametrize("folders", [0, 1, 2])
def test_weights_are_used_where_they_lie(
    folders: int, large: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort_graphs, "_HANDED_OVER", large)
    model = graphs.model_of(graphs.conv_bn_relu()).ir
    weights = list(model.graph.initializers.values())
    for folder in range(folders):
        outside = weights[folder::folders]
        (tmp_path / str(folder)).mkdir()
        tensors = [value.const_value for value in outside if value.const_value is not None]
        moved = ir.external_data.convert_tensors_to_external(
            tensors, tmp_path / str(folder), "weights"
        )
        for value, tensor in zip(outside, moved, strict=True):
            value.const_value = tensor
    before = [value.const_value for value in weights]
    found = open_graph(model, threads=1).run(FEEDS)["head"]
    assert np.array_equal(found, OrtRunner(MODEL, threads=1).run(FEEDS)["head"])
    assert [value.const_value for value in weights] == before


def test_large_weights_are_no_part_of_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort_graphs, "_HANDED_OVER", 1 << 10)
    given = Mock(wraps=OrtRunner)
    monkeypatch.setattr(ort_graphs, "OrtRunner", given)
    model = graphs.model_of(graphs.conv_bn_relu()).ir
    open_graph(model, threads=1)
    (graph,) = given.call_args.args
    for name, array in graph.weights.items():
        assert np.array_equal(array, constant(model.graph.initializers[name]))
    assert len(graph.data) < sum(array.nbytes for array in graph.weights.values())


def test_the_optimized_graph_shows_what_was_fused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(MODEL)
    ops = [node.op_type for node in optimized_graph(tmp_path / "m.onnx")]
    assert ops == ["FusedConv", "FusedConv", "Conv"]
