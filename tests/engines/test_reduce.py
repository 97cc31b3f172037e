"""The smallest part that fails: Polygraphy cuts, TensorRT for RTX builds."""

import signal
import sys
from pathlib import Path

import graphs
import onnx
import pytest
from graphs import CHANNELS, Builder

from qbench.engines import builder, reduce, reduce_check
from qbench.engines.reduce import Part, reduce_model
from qbench.engines.reduce_check import failure_of, kind_of
from qbench.errors import EngineError, UnfitError
from qbench.runtimes.flavour import Flavour

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


def test_the_node_that_fails_is_all_that_is_left(saved: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    output, steps = saved.with_name("part.onnx"), []
    found = reduce_model(
        saved, output, backend="rtx", image_size=(8, 8), on_step=lambda *step: steps.append(step)
    )
    assert (found.nodes, found.whole) == ((Part("det", "Det"),), 4)
    assert found.failure.startswith("TensorRT for RTX")
    assert "cannot parse the model: 1 error: node 'det' (Det)" in found.failure
    assert [node.op_type for node in onnx.load(output).graph.node] == ["Det"]
    assert {file.name for file in saved.parent.iterdir()} == {"m.onnx", "part.onnx"}
    assert steps
    assert all(0 <= done < total for done, total in steps)


def test_a_model_that_builds_has_nothing_to_reduce(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    onnx.save(graphs.depthwise(), tmp_path / "m.onnx")
    with pytest.raises(EngineError, match=r"builds .*m\.onnx; there is nothing to reduce"):
        reduce_model(tmp_path / "m.onnx", tmp_path / "part.onnx", backend="rtx")


def test_without_polygraphy(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduce, "find_flavour", lambda _: RTX)
    monkeypatch.setattr(reduce, "find_spec", lambda _: None)
    with pytest.raises(UnfitError, match="needs polygraphy and onnx-graphsurgeon; run `uv sync"):
        reduce_model(saved, saved.with_name("part.onnx"))


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
