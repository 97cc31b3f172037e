"""What a target says of a model that was just quantized for it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import graphs
import msgspec
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qbench.benchmarking import speedup
from qbench.benchmarking import target_check as module
from qbench.benchmarking.target_check import check_on_target
from qbench.benchmarking.timing.settings import Settings
from qbench.calibration.given import GivenRanges
from qbench.data.samples import Sample
from qbench.data.synthetic import SyntheticSource
from qbench.engines.auditing.engine import EngineAudit
from qbench.errors import DataError, EngineError, ModelError, QbenchError, UnfitError, UsageError
from qbench.model.load import Model, load
from qbench.quantization.options import Int8Options
from qbench.quantization.quantize import quantize
from qbench.quantization.quantized import QuantizedModel
from qbench.quantization.searching.judge import run_samples


@pytest.fixture
def model(tmp_path: Path) -> Model:
    onnx.save(graphs.residual(), tmp_path / "m.onnx")
    return load(tmp_path / "m.onnx")


def written(model: Model, target: str, precision: str = "int8") -> QuantizedModel:
    assert model.path is not None
    options = Int8Options(effort="fast") if precision == "int8" else None
    return quantize(
        model,
        target=target,
        precision=precision,
        table=graphs.table_of(model),
        output=model.path.with_name("quantized.onnx"),
        options=options,
    )


def test_a_cpu_tells_kernels_and_speed(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = Settings(min_rounds=6, max_rounds=6, block_seconds=1e-5, warmup_seconds=0.0)
    monkeypatch.setattr(speedup, "GLANCE", tiny)
    found = check_on_target(written(model, "cpu"))
    assert found.audit is not None
    assert found.audit.integer == found.audit.planned > 0  # type: ignore[union-attr]
    assert found.speedup is not None
    assert found.speedup.ratio.value > 0
    assert found.notes == ()


@pytest.mark.parametrize(("by_kernels", "is_told"), [(0.1, True), (0.0, False)])
def test_noise_that_only_the_kernels_make_is_told(
    by_kernels: float, is_told: bool, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(graph: ir.Model, samples: list[Sample], *, simulate: bool = True) -> list[Any]:
        results = run_samples(graph, samples, simulate=True)
        if simulate:
            return results
        return [{name: (1 + by_kernels) * y for name, y in one.items()} for one in results]

    monkeypatch.setattr(module, "run_samples", run)
    samples = [SyntheticSource(model.inputs, 8, 0).load(i) for i in range(8)]
    monkeypatch.setattr(module, "samples_of", lambda *_, **__: samples)
    monkeypatch.setattr(module, "speedup_of", lambda *_: None)
    result = replace(written(model, "cpu"), output_sqnr_db=40.0)
    notes = check_on_target(result).notes
    assert [note.startswith("this CPU's kernels leave ") for note in notes] == [True] * is_told


def test_without_an_image_size_a_dynamic_model_is_not_timed(tmp_path: Path) -> None:
    b = graphs.Builder((1, graphs.CHANNELS, "H", "W"))
    path = tmp_path / "m.onnx"
    onnx.save(b.model(b.conv("head", b.conv("stem", b.x))), path)
    ranges = GivenRanges(Path("old.cache"), dict.fromkeys(("x", "stem"), (-1.0, 1.0)))
    result = quantize(path, target="cpu", table=ranges, output=tmp_path / "q.onnx")
    found = check_on_target(result)
    assert found.speedup is None
    assert "the speed was not looked at: input 'x' [1,8,H,W] is dynamic" in found.notes[0]


def open_sequence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> QuantizedModel:
    """Quantize a model of sequences of any length, whose calibration samples have 12 steps."""
    models = []
    for name, steps in (("fixed", 12), ("open", "T")):
        b = graphs.Builder(("N", graphs.CHANNELS, steps))
        weight = b.weight("w", graphs.CHANNELS, graphs.CHANNELS, 3)
        stem = b.node("Relu", "relu", b.node("Conv", "stem", b.x, weight))
        onnx.save(b.model(b.node("Conv", "y", stem, weight)), tmp_path / f"{name}.onnx")
        models.append(load(tmp_path / f"{name}.onnx"))
    fixed, loaded = models
    table = graphs.table_of(fixed)
    header = msgspec.structs.replace(table.header, model_sha256=loaded.sha256)
    sample = SyntheticSource(fixed.inputs, 1, 0).load(0)
    monkeypatch.setattr(module, "samples_of", lambda *_, **__: [sample])
    table = replace(table, header=header)
    return quantize(loaded, target=target, table=table, output=tmp_path / "quantized.onnx")


def test_a_sample_gives_the_shapes_for_a_look_at_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr(module, "speedup_of", lambda *args: seen.append(args[2]["x"].shape))
    found = check_on_target(open_sequence(tmp_path, monkeypatch, "cpu"))
    assert (seen, found.notes) == ([(1, graphs.CHANNELS, 12)], ())


def test_a_sample_gives_the_shapes_for_the_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorrt_rtx")
    found = check_on_target(open_sequence(tmp_path, monkeypatch, "tensorrt"))
    assert isinstance(found.audit, EngineAudit)
    assert found.notes == ()


@pytest.mark.parametrize("kind", [DataError, ModelError])
@pytest.mark.parametrize(
    ("asked", "note"),
    [
        ("audit_cpu", "it was not audited: no"),
        ("_on_kernels", "it was not audited: no"),
        ("speedup_of", "the speed was not looked at: no"),
    ],
)
def test_a_refusal_of_the_runtime_becomes_a_note(
    asked: str, note: str, kind: type[QbenchError], model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise kind("no")

    monkeypatch.setattr(module, asked, refuse)
    assert check_on_target(written(model, "cpu")).notes == (note,)


@pytest.mark.parametrize("kind", [DataError, EngineError, ModelError, UsageError])
def test_a_refusal_of_the_compiler_becomes_a_note(
    kind: type[QbenchError], model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise kind("no")

    monkeypatch.setattr(module, "audit_tensorrt", refuse)
    monkeypatch.setattr(module, "find_flavour", lambda _: SimpleNamespace(name="tensorrt_rtx"))
    found = check_on_target(written(model, "tensorrt"))
    assert (found.audit, found.notes) == (None, ("it was not audited: no",))


def test_a_rule_says_better_what_the_compiler_refuses(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    b = graphs.Builder()
    flat = b.constant("flat", np.array([1, -1, 4]))
    boxes = b.node("Reshape", "boxes", b.conv("head", b.conv("stem", b.x)), flat)
    best = b.node("ReduceMax", "best", boxes, axes=[2], keepdims=1)
    scores = b.node("Transpose", "scores", best, perm=[0, 2, 1])
    b.constant("most", np.array([5]))
    kept = b.node("NonMaxSuppression", "nms", boxes, scores, "most")
    onnx.save(b.model(b.node("Cast", "y", kept, to=1)), tmp_path / "m.onnx")
    (note,) = check_on_target(written(load(tmp_path / "m.onnx"), "tensorrt")).notes
    assert note.startswith("it was not audited: TensorRT for RTX")
    assert "parses NonMaxSuppression, but cannot build it; export the model without NMS" in note


def test_without_the_compiler_nothing_is_said(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_missing(*_: object, **__: object) -> None:
        raise UnfitError("not installed")

    monkeypatch.setattr(module, "audit_tensorrt", is_missing)
    assert check_on_target(written(model, "tensorrt")) == module.TargetCheck()


def test_the_compiler_tells_the_types(model: Model) -> None:
    pytest.importorskip("tensorrt_rtx")
    found = check_on_target(written(model, "tensorrt"))
    assert isinstance(found.audit, EngineAudit)
    assert found.audit.fraction("Conv") == 1.0


def test_other_precisions_are_not_asked_about(model: Model) -> None:
    assert check_on_target(written(model, "cpu", "fp16")) == module.TargetCheck()
