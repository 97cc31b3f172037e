"""Engines beside models in a benchmark, on a TensorRT that computes with ONNX Runtime."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import graphs
import msgspec
import numpy as np
import onnx
import pytest
import trt_runtime
from colours import RECIPE, TINY, brightest, write_images
from fake_trt.plan import Range
from trt_runtime import FakeGpu

from qbench.artifacts import sha256_files
from qbench.benchmarking import given_engines
from qbench.benchmarking.benchmark import Options, benchmark
from qbench.benchmarking.given_engines import engine_source, engine_table, engine_variant, is_engine
from qbench.benchmarking.judging.labelled_data import LabelledData
from qbench.data.choice import DataChoice
from qbench.errors import EngineError, UnfitError, UsageError
from qbench.model.load import load
from qbench.runtimes.cuda.choose import BACKENDS

QUICK = Options(settings=TINY)


def image_range(*batches: int) -> dict[str, Range]:
    low, usual, high = ((batch, 3, 8, 8) for batch in batches)
    return {"x": (low, usual, high)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(brightest(), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Folders 0, 1 and 2 of red, green and blue; one of the six lies in a wrong folder."""
    return write_images(tmp_path / "imgs")


@pytest.fixture
def manifests(monkeypatch: pytest.MonkeyPatch, model: Path) -> dict[str, Any]:
    """What the manifests of engines say, by the engine's name; those without one are an error."""
    found = {"m.engine": manifest(model)}

    def read(path: Path) -> Any:
        if path.name not in found:
            raise EngineError(f"no manifest of {path}")
        return found[path.name]

    monkeypatch.setattr(given_engines, "read_manifest", read)
    return found


def manifest(model: Path) -> Any:
    source = SimpleNamespace(path=str(model), sha256=load(model).sha256)
    return SimpleNamespace(flavour="tensorrt", precision="int8", model=source, seconds=12.0)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeGpu:
    return trt_runtime.install(monkeypatch, tmp_path)


@pytest.fixture
def engine(gpu: FakeGpu, tmp_path: Path, manifests: dict[str, Any]) -> Path:
    assert "m.engine" in manifests
    return gpu.write_engine(tmp_path / "m.engine", brightest(), (image_range(1, 4, 8),))


def test_an_engine_is_timed_and_judged_as_a_model_is(
    engine: Path, model: Path, images: Path, gpu: FakeGpu
) -> None:
    data = LabelledData(DataChoice(images, RECIPE))
    result = benchmark([model, engine], precisions=["fp32"], images=data, options=QUICK)
    onnx_row, row = result.rows
    assert (row.model, row.precision, row.provider) == ("m.engine", "int8", "tensorrt engine")
    assert row.accuracy is not None
    assert row.accuracy.value == onnx_row.accuracy.value == pytest.approx(5 / 6)  # type: ignore[union-attr]
    assert row.ratio is not None
    assert row.size_bytes == engine.stat().st_size
    assert row.build_seconds == 12
    assert row.sha256 == sha256_files([engine])
    assert row.notes[0].startswith(f"{gpu.flavour}; timed without copies to and from the GPU")
    assert row.notes[1] == "by events on the GPU: copies in 1 ms, inference 1 ms, copies out 1 ms"
    assert (gpu.cuda.live, gpu.cuda.open, gpu.cuda.closed) == ({}, [], 1)


def test_every_batch_that_a_profile_takes_is_a_row(engine: Path, gpu: FakeGpu) -> None:
    gpu.write_engine(engine, brightest(), (image_range(2, 4, 8),))
    options = replace(QUICK, batches=(2, 8, 16), threads=(1, 2))
    rows = benchmark(engine, options=options).rows
    assert [(row.batch, row.threads) for row in rows] == [(2, 0), (8, 0), (16, 0)]
    assert [row.error is None for row in rows] == [True, True, False]
    assert "16" in str(rows[2].error)


def test_an_engine_runs_on_several_streams(engine: Path, gpu: FakeGpu) -> None:
    options = replace(QUICK, mode="throughput", streams=(3,))
    (row,) = benchmark(engine, options=options).rows
    assert row.streams == 3
    assert len({stream for _, stream in gpu.runs[-3:]}) == 3
    assert row.latency_ms is not None
    assert row.throughput_per_s is not None


def test_an_engine_is_freed_before_it_is_loaded_anew(
    engine: Path, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qbench.benchmarking.timing.sittings._ROUNDS_PER_RELOAD", 0.0)
    settings = msgspec.structs.replace(TINY, max_rounds=20, max_seconds=60.0, half_width=1e-9)
    (row,) = benchmark(engine, options=replace(QUICK, settings=settings)).rows
    assert (row.error, row.loads) == (None, 4)
    assert (gpu.cuda.live, gpu.cuda.open, gpu.cuda.closed) == ({}, [], 4)


@pytest.mark.parametrize(
    ("graph", "note"),
    [
        (True, "as a CUDA graph"),
        (False, "without a CUDA graph"),
    ],
)
def test_how_an_engine_is_launched_is_told(
    graph: bool, note: str, engine: Path, model: Path
) -> None:
    options = replace(QUICK, graph=graph)
    onnx_row, row = benchmark([model, engine], precisions=["fp32"], options=options).rows
    assert any(note in told for told in row.notes)
    assert not any(note in told for told in onnx_row.notes)


def test_an_engine_alone_is_timed_on_noise(engine: Path) -> None:
    (row,) = benchmark(engine, options=QUICK).rows
    assert row.latency_ms is not None
    assert row.throughput_per_s == pytest.approx(1e3 / row.latency_ms.median)  # batch 1 fits


def test_an_engine_for_larger_batches_is_filled(engine: Path, images: Path, gpu: FakeGpu) -> None:
    gpu.write_engine(engine, brightest(), (image_range(2, 4, 8),))
    data = LabelledData(DataChoice(images, RECIPE))
    (row,) = benchmark(engine, images=data, options=QUICK).rows
    assert row.accuracy is not None
    assert row.accuracy.value == pytest.approx(5 / 6)
    assert "a call runs the model's fixed batch of 4" in row.notes


def test_without_labels_it_is_compared_with_the_model_of_its_manifest(
    engine: Path, images: Path, manifests: dict[str, Any]
) -> None:
    data = LabelledData(DataChoice(images, RECIPE), task="embed")
    (row,) = benchmark(engine, images=data, options=QUICK).rows
    assert row.accuracy is not None
    assert row.accuracy.value == pytest.approx(1)
    manifests["m.engine"].model.sha256 = "of another file"
    with pytest.raises(UsageError, match="an engine is compared with its float model, which is go"):
        benchmark(engine, images=data, options=QUICK)


def test_an_engine_that_cannot_run_is_a_row_with_the_reason(
    engine: Path, model: Path, tmp_path: Path, manifests: dict[str, Any]
) -> None:
    broken = tmp_path / "broken.engine"
    broken.write_bytes(b"hello")
    manifests["broken.engine"] = manifests["gone.engine"] = manifests["m.engine"]
    others = [tmp_path / "gone.engine", tmp_path / "foreign.engine", broken]
    rows = benchmark([model, engine, *others], precisions=["fp32"], options=QUICK).rows
    errors = {row.model: row.error for row in rows}
    assert errors["m.onnx"] is errors["m.engine"] is None
    assert "build it again with `qbench build-trt`" in str(errors["gone.engine"])
    assert "no manifest of" in str(errors["foreign.engine"])
    assert "Magic tag does not match; it may be of another flavour" in str(errors["broken.engine"])
    assert (rows[2].precision, rows[3].precision) == ("int8", "unknown")


def test_images_of_a_size_that_no_profile_has(
    engine: Path, model: Path, tmp_path: Path, gpu: FakeGpu
) -> None:
    b = graphs.Builder((1, 3, "h", "w"))
    large = {"x": ((1, 3, 16, 16), (1, 3, 16, 16), (1, 3, 32, 32))}
    gpu.write_engine(engine, b.model(b.node("Relu", "y", b.x)), (large,))
    np.savez(tmp_path / "small.npz", x=np.zeros((2, 3, 8, 8), np.float32))
    data = LabelledData(DataChoice(tmp_path / "small.npz"), task="embed")
    rows = benchmark([model, engine], precisions=["fp32"], images=data, options=QUICK).rows
    assert rows[0].error is None
    assert "16" in str(rows[1].error)
    assert rows[1].latency_ms is None


def test_no_gpu(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Any:
        raise UnfitError("CUDA finds no usable GPU")

    monkeypatch.setitem(BACKENDS, "cuda-bindings", none)
    with pytest.raises(UnfitError, match="CUDA finds no usable GPU"):
        benchmark(engine, options=QUICK)


def test_the_cuda_backend_is_the_one_asked_for(
    engine: Path, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKENDS, "cuda-bindings", pytest.fail)
    monkeypatch.setitem(BACKENDS, "pycuda", lambda: gpu.cuda)
    options = Options(settings=TINY, cuda_backend="pycuda")
    assert benchmark(engine, options=options).rows[0].error is None


@pytest.mark.parametrize(
    ("name", "yes"), [("a.engine", True), ("a.ENGINE", True), ("a.onnx", False)]
)
def test_engines_are_known_by_their_ending(name: str, yes: bool) -> None:
    assert is_engine(name) is yes


def test_the_recipe_comes_from_the_table_of_its_model(
    model: Path, manifests: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = manifests["m.engine"]
    monkeypatch.chdir(tmp_path)
    assert engine_table(said, None) is None
    table = graphs.table_of(load(model))
    assert engine_table(said, table) is table
    (tmp_path / "calibration").mkdir()
    table.save(tmp_path / "calibration" / "m.json")
    found = engine_table(said, None)
    assert found is not None
    assert found.header == table.header
    other = msgspec.structs.replace(table.header, model_sha256="of another file")
    found = engine_table(said, replace(table, header=other))
    assert found is not None
    assert found.header == table.header
    said.model.sha256 = "of another file"
    assert engine_table(said, table) is None


def test_an_engine_whose_model_is_gone(model: Path, manifests: dict[str, Any]) -> None:
    assert manifests
    found = engine_source(Path("m.engine"))
    assert found is not None
    assert found.path == model
    model.unlink()
    assert engine_source(Path("m.engine")) is None
    assert engine_source(Path("other.engine")) is None


def test_a_flavour_of_the_future(manifests: dict[str, Any], tmp_path: Path) -> None:
    manifests["m.engine"].flavour = "tensorrt_next"
    (tmp_path / "m.engine").write_bytes(b"")
    variant, _ = engine_variant(tmp_path / "m.engine")
    assert variant.provider == "tensorrt_next"
    assert "flavour 'tensorrt_next'; qbench runs tensorrt and tensorrt_rtx" in str(variant.problem)
