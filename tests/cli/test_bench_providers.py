"""`qbench bench` where providers, engines or their packages are not as asked for."""

import sys
from pathlib import Path
from types import SimpleNamespace

import onnx
import onnxruntime
import pytest
import trt_runtime

from qbench.benchmarking import given_engines
from qbench.cli.bench import CUDA_BACKENDS
from qbench.runtimes.cuda.choose import BACKENDS, DEFAULT_BACKEND
from qbench.runtimes.cuda.cuda_bindings import CudaBindings
from qbench.runtimes.cuda.pycuda_backend import PyCuda

from .conftest import Qbench, refused

pytestmark = pytest.mark.usefixtures("project", "quick")


@pytest.fixture
def only_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An engine of `m.onnx`, whose TensorRT is installed."""
    source = SimpleNamespace(path="m.onnx", sha256="")
    manifest = SimpleNamespace(flavour="tensorrt_rtx", precision="int8", model=source, seconds=1)
    monkeypatch.setattr(given_engines, "read_manifest", lambda _: manifest)
    gpu = trt_runtime.install(monkeypatch, tmp_path, "rtx-1.7")
    return gpu.write_engine(Path("m.engine"), onnx.load("m.onnx"))


def test_help_names_the_cuda_backends() -> None:
    assert tuple(BACKENDS) == CUDA_BACKENDS
    assert CUDA_BACKENDS[0] == DEFAULT_BACKEND


@pytest.mark.usefixtures("only_cpu")
def test_a_silent_fallback_is_an_error(qbench: Qbench) -> None:
    message = refused(qbench("bench", "m.onnx", "--quick", "--providers", "cuda"), code=5)
    assert "provider 'cuda' is not part of the installed ONNX Runtime" in message


@pytest.mark.usefixtures("only_cpu")
def test_a_fallback_that_is_allowed_is_reported(qbench: Qbench) -> None:
    asked = ("bench", "m.onnx", "--quick", "--providers", "cpu,rtx", "--allow-fallback")
    first, second = qbench(*asked, "--json").json["rows"]
    assert first["notes"] == [note for note in first["notes"] if "did not load" not in note]
    assert second["provider"] == "cpu"
    assert "provider 'rtx' did not load, 'cpu' ran the model" in second["notes"]
    assert "provider 'rtx' did not load, 'cpu' ran the model" in qbench(*asked).out


def test_an_engine_beside_its_model(engine: Path, qbench: Qbench) -> None:
    data = ("--data", "imgs", "--recipe", "raw", "--task", "classify", "--quick")
    document = qbench("bench", "m.onnx", engine, *data, "--json").json
    rows = [(row["precision"], row["provider"], row["error"]) for row in document["rows"]]
    assert rows == [("fp32", "cpu", None), ("int8", "rtx engine", None)]
    first, second = (row["accuracy"]["value"] for row in document["rows"])
    assert first == second


@pytest.mark.parametrize(
    ("backend", "module"), [("cuda-bindings", "cuda.bindings"), ("pycuda", "pycuda")]
)
def test_a_missing_cuda_package(
    backend: str, module: str, engine: Path, qbench: Qbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    opener = {"cuda-bindings": CudaBindings, "pycuda": PyCuda}[backend]
    monkeypatch.setitem(BACKENDS, backend, opener)
    monkeypatch.setitem(sys.modules, module, None)
    message = refused(qbench("bench", engine, "--quick", "--cuda-backend", backend), code=5)
    assert f"or `pip install {backend}`" in message


def test_an_engine_without_a_manifest(qbench: Qbench) -> None:
    Path("other.engine").write_bytes(b"")
    message = refused(qbench("bench", "other.engine", "--quick"))
    assert "no manifest other.json" in message


def test_an_unknown_cuda_backend(qbench: Qbench) -> None:
    message = refused(qbench("bench", "m.onnx", "--cuda-backend", "cupy"), code=2)
    assert "'cupy' is not one of 'cuda-bindings', 'pycuda'" in message


@pytest.mark.parametrize("version", ["10.12", "11.4", "rtx-1.7"])
def test_an_engine_from_its_build_to_its_row(
    version: str, qbench: Qbench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gpu = trt_runtime.install(monkeypatch, tmp_path, version)
    backend = "rtx" if version.startswith("rtx") else "tensorrt"
    built = qbench("build-trt", "m.onnx", "--fp32", "--backend", backend)
    assert built.code == 0, built.err
    data = ("--data", "imgs", "--recipe", "raw", "--task", "classify", "--quick")
    asked = ("bench", "m.onnx", "engines/m.fp32.engine", *data)
    first, second = qbench(*asked, "--json").json["rows"]
    assert second["error"] is None
    assert second["accuracy"]["value"] == first["accuracy"]["value"]
    assert second["accuracy"]["difference"]["value"] == 0
    assert f"{backend} engine" in qbench(*asked).out
    assert gpu.cuda.live == {}
