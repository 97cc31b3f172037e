from pathlib import Path

import graphs
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from qbench.model.load import Model
from qbench.model.parts import with_outputs
from qbench.model.prepare import prepare
from qbench.model.shapes import bound_to_one, elements_by_name
from qbench.runtimes.ort import blocks as ort_blocks
from qbench.runtimes.ort.blocks import InBlocks, in_blocks, sizes_in_blocks, split_blocks
from qbench.runtimes.ort.graphs import open_graph, save_optimized

STRIP = (2, 32, 7, 5)


def branches() -> onnx.ModelProto:
    """Of convolutions with 32, 20 and 48 channels; the last is also read in its usual order."""
    b = graphs.Builder(STRIP)
    stem = b.node("Relu", "stem_relu", b.conv("stem", b.x, cin=32, cout=32))
    thin = b.conv("thin", stem, cin=32, cout=20)
    wide = b.conv("wide", b.node("Relu", "act", thin), cin=20, cout=48, size=1)
    rows = b.node("Softmax", "rows", wide, axis=3)
    return b.model(
        b.node("Transpose", "last", b.conv("low", wide, cin=48), perm=[0, 2, 3, 1]), rows
    )


def blocked(model: Model, *names: str) -> tuple[InBlocks, graphs.Feeds, graphs.Feeds]:
    """Return a model in blocks, what it gives, and what ONNX Runtime gives otherwise."""
    whole = with_outputs(model.ir, names)
    found, feeds = in_blocks(whole, set(names)), graphs.feeds_of(model)
    runner = open_graph(found.model, threads=1, is_optimized=found.is_optimized)
    return found, runner.run(feeds), open_graph(whole, threads=1).run(feeds)


@pytest.fixture(scope="module")
def model() -> Model:
    return prepare(graphs.model_of(branches()))


def in_order(array: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """Return [N, C, H * W] of a tensor in blocks."""
    samples, _, height, width = array.shape
    lanes_last = split_blocks(array).transpose(0, 1, 3, 2)
    return lanes_last.reshape(samples, -1, height * width)[:, :channels]


def test_blocks_hold_the_same_values(model: Model) -> None:
    found, given, wanted = blocked(model, "stem_relu", "thin", "act")
    assert found.channels == {"stem_relu": 32, "thin": 20, "act": 20}
    for name, channels in found.channels.items():
        ordered = wanted[name].reshape(STRIP[0], channels, -1)
        assert np.array_equal(in_order(given[name], channels), ordered)


def test_a_tensor_that_is_needed_in_order_is_given_so(model: Model) -> None:
    found, given, wanted = blocked(model, "x", "act", "wide", "rows", "last")
    assert set(found.channels) == {"act"}
    for name in ("x", "wide", "rows", "last"):
        assert np.array_equal(given[name], wanted[name])


def test_other_tensors_than_those_named_are_in_order(model: Model) -> None:
    found = in_blocks(with_outputs(model.ir, ["thin", "act"]), {"act"})
    assert set(found.channels) == {"act"}


def test_an_output_that_never_changes_is_still_one() -> None:
    b = graphs.Builder()
    size = b.node("Cast", "size", b.node("Shape", "shape", b.x), to=onnx.TensorProto.FLOAT)
    proto = b.model(b.node("Sqrt", "root", size), b.conv("head", b.x))
    found, given, wanted = blocked(graphs.model_of(proto), "root", "head")
    assert [node.op_type for node in found.model.graph if node.op_type != "Conv"] == ["Identity"]
    assert np.array_equal(given["root"], wanted["root"])


@pytest.mark.parametrize("name", ["encoder_fused", "classifier"])
def test_few_convolutions_are_left_alone(name: str) -> None:
    model = prepare(graphs.model_of(getattr(graphs, name)()))
    assert not in_blocks(model.ir, set()).is_optimized


def test_subgraphs_are_left_alone() -> None:
    """In each of them ONNX Runtime would begin again with the names of tensors in blocks."""
    model = prepare(graphs.model_of(graphs.with_if()))
    assert not in_blocks(model.ir, set()).is_optimized


def test_large_weights_are_not_written_to_disk(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort_blocks, "_MOST_BYTES", 100)
    assert in_blocks(model.ir, set()) == InBlocks(model.ir)


def test_no_place_for_a_temporary_file(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/no/such/folder")
    assert in_blocks(model.ir, set()) == InBlocks(model.ir)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(model: ir.Model, _: Path) -> None:
        save_optimized(model, Path("/dev/full"))

    monkeypatch.setattr(ort_blocks, "save_optimized", full)
    assert in_blocks(model.ir, set()) == InBlocks(model.ir)


def test_sizes_are_known_of_tensors_in_blocks(model: Model) -> None:
    graph = in_blocks(model.ir, set()).model.graph
    before = elements_by_name(bound_to_one(model, None))
    sizes = sizes_in_blocks(graph, before)
    assert before.items() <= sizes.items()
    ordering = [node for node in graph if node.op_type == "ReorderOutput"]
    assert ordering
    for node in ordering:
        assert sizes[str(node.inputs[0].name)] == sizes[str(node.outputs[0].name)] > 0
