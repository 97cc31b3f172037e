"""The smallest part that fails: TensorRT for RTX builds, and Polygraphy cuts where it has to."""

import signal
import sys
from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest
from graphs import CHANNELS, Builder

from qbench.engines import reduce, reduce_check
from qbench.engines.compiling import builder
from qbench.engines.reduce import Part, reduce_model
from qbench.engines.reduce_check import failure_of, kind_of
from qbench.errors import EngineError, UnfitError, UsageError
from qbench.runtimes.tensorrt.flavour import Flavour

RTX = Flavour("tensorrt_rtx", "1.7")


def with_det() -> Builder:
    """A determinant, which no TensorRT knows, between two convolutions and a Relu."""
    b = Builder(("n", CHANNELS, "h", "w"))
    b.node("Relu", "after", b.node("Det", "det", b.conv("second", b.conv("first", b.x))))
    return b


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    onnx.save(with_det().model("after"), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_a_node_that_the_failure_names_is_all_that_is_left(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(reduce, "find_spec", lambda _: None)  # Polygraphy is not needed
    output = saved.with_name("part.onnx")
    found = reduce_model(saved, output, backend="rtx", image_size=(8, 8))
    assert (found.nodes, found.whole) == ((Part("det", "Det"),), 4)
    assert found.failure.startswith("TensorRT for RTX")
    assert "cannot parse the model: 1 error: node 'det' (Det)" in found.failure
    graph = onnx.load(output).graph
    assert [node.op_type for node in graph.node] == ["Det"]
    assert [value.name for value in graph.input] == ["second"]
    assert {file.name for file in saved.parent.iterdir()} == {"m.onnx", "part.onnx"}


def test_without_a_name_polygraphy_cuts(tmp_path: Path) -> None:
    """A suppression is parsed; that it has no kernel comes out while it is built."""
    pytest.importorskip("tensorrt_rtx")
    b = Builder((1, 6, 4))
    b.constant("count", np.array([2]))
    b.constant("limit", np.float32([0.5]))
    b.constant("shape", np.array([1, 4, 6]))
    boxes = b.node("Relu", "boxes", b.x)
    scores = b.node("Reshape", "scores", boxes, "shape")
    model = b.model(b.node("NonMaxSuppression", "nms", boxes, scores, "count", "limit", "limit"))
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    onnx.save(model, tmp_path / "m.onnx")
    steps: list[tuple[int, int]] = []
    found = reduce_model(
        tmp_path / "m.onnx",
        tmp_path / "part.onnx",
        backend="rtx",
        on_step=lambda *step: steps.append(step),
    )
    assert "NonMaxSuppression" in {node.op_type for node in found.nodes}
    assert len(found.nodes) < found.whole == 3
    assert "cannot build the model" in found.failure
    assert {file.name for file in tmp_path.iterdir()} == {"m.onnx", "part.onnx"}
    assert steps
    assert all(0 <= done < total for done, total in steps)


def test_the_part_does_not_replace_the_model(saved: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    before = saved.read_bytes()
    with pytest.raises(UsageError, match=r"m\.onnx is the model itself; choose another output"):
        reduce_model(saved, saved, backend="rtx", image_size=(8, 8))
    assert saved.read_bytes() == before


def test_a_model_that_builds_has_nothing_to_reduce(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    onnx.save(graphs.depthwise(), tmp_path / "m.onnx")
    with pytest.raises(EngineError, match=r"builds .*m\.onnx; there is nothing to reduce"):
        reduce_model(tmp_path / "m.onnx", tmp_path / "part.onnx", backend="rtx")


def test_without_polygraphy(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduce, "find_flavour", lambda _: RTX)
    monkeypatch.setattr(reduce, "failure_of", lambda *_: "it fails")
    monkeypatch.setattr(reduce, "find_spec", lambda _: None)
    with pytest.raises(UnfitError, match="needs polygraphy and onnx-graphsurgeon; run `uv sync"):
        reduce_model(saved, saved.with_name("part.onnx"), image_size=(8, 8))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("print('[I] one'); print('[!] the reason'); print('[I] more')", "the reason$"),
        ("raise ValueError('odd')", "ValueError: odd$"),
        ("print('just this')", "just this$"),
        ("", "it gave no reason$"),
    ],
)
def test_what_polygraphy_says_went_wrong(
    saved: Path, monkeypatch: pytest.MonkeyPatch, said: str, reason: str
) -> None:
    monkeypatch.setattr(reduce, "find_flavour", lambda _: RTX)
    monkeypatch.setattr(reduce, "failure_of", lambda *_: "it fails")
    monkeypatch.setattr(reduce, "_POLYGRAPHY", f"import sys\n{said}\nsys.exit(1)")
    with pytest.raises(EngineError, match=f"Polygraphy cannot reduce the model: {reason}"):
        reduce_model(saved, saved.with_name("part.onnx"), image_size=(8, 8))


@pytest.mark.parametrize("alone", [None, "node 'det' (Det): something else"])
def test_a_named_node_that_does_not_fail_so_alone_is_not_the_part(
    alone: str | None, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failure_of(model: Path, _: Flavour) -> str | None:
        return "node 'det' (Det): odd" if model.name == "whole.onnx" else alone

    monkeypatch.setattr(reduce, "find_flavour", lambda _: RTX)
    monkeypatch.setattr(reduce, "failure_of", failure_of)
    monkeypatch.setattr(reduce, "_POLYGRAPHY", "import sys; sys.exit('asked')")
    with pytest.raises(EngineError, match="Polygraphy cannot reduce the model: asked"):
        reduce_model(saved, saved.with_name("part.onnx"), image_size=(8, 8))


def test_a_compiler_that_crashes_is_a_failure(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    monkeypatch.setattr(builder, "_WORKER", (sys.executable, "-c", code))
    failure = failure_of(saved, RTX)
    assert failure is not None
    assert failure.startswith(f"the compiler of the model was ended by signal {signal.SIGSEGV:d}")
    assert "see" not in failure


WHOLE = "TensorRT 10.3 cannot parse the model: 2 errors, first: node 'a/b' (Det): [8] no 'x'"


@pytest.mark.parametrize(
    ("failure", "is_same"),
    [
        ("TensorRT 10.3 cannot parse the model: 1 error: node 'c' (Det): [8] no 'y'", True),
        ("TensorRT 10.3 cannot parse the model: 1 error: node 'c' (Det): [8] no 'y'; see l", True),
        ("TensorRT 10.3 cannot parse the model: 1 error: node 'a/b' (DFT): [8] no 'x'", False),
        ("TensorRT 10.3 cannot build the model: node 'a/b' (Det): [8] no 'x'", False),
        ("the compiler of the model was ended by signal 11 (Segmentation fault)", False),
        (None, False),
    ],
)
def test_only_the_same_failure_counts(
    monkeypatch: pytest.MonkeyPatch, failure: str | None, is_same: bool
) -> None:
    monkeypatch.setattr(reduce_check, "flavour_named", lambda _: RTX)
    monkeypatch.setattr(reduce_check, "failure_of", lambda *_: failure)
    monkeypatch.setattr(sys, "argv", ["reduce_check", "part.onnx", RTX.name, WHOLE])
    with pytest.raises(SystemExit) as end:
        reduce_check.main()
    assert int(end.value.code or 0) == int(is_same)


def test_what_the_compiler_names_differs_from_part_to_part() -> None:
    one = "TensorRT cannot build m: no runner for node {ForeignNode[a...b]} [x.cpp::f::48]"
    other = "TensorRT cannot build m: no runner for node {ForeignNode[c...d]} [x.cpp::f::48]"
    assert kind_of(one) == kind_of(other)
