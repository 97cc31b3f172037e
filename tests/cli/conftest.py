"""A project folder with a small classifier, its images and its calibration table."""

import gc
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import graphs
import numpy as np
import onnx
import pytest

from qbench.benchmarking import speedup, target_check
from qbench.benchmarking.timing.settings import MODES, Settings
from qbench.calibration.calibrate import calibrate
from qbench.cli.main import run
from qbench.data.choice import DataChoice
from qbench.errors import UnfitError

CLASSES = ("cat", "dog", "owl")
SaveModel = Callable[..., Path]


class Outcome(NamedTuple):
    """What a command gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Qbench = Callable[..., Outcome]


def classifier(shape: Sequence[int | str] = (1, 3, 16, 16)) -> onnx.ModelProto:
    b = graphs.Builder(shape)
    stem = b.node("Relu", "stem_relu", b.conv("stem", b.x, cin=3))
    deep = b.node("Relu", "deep_relu", b.conv("deep", stem, group=graphs.CHANNELS))
    flat = b.node("Flatten", "flat", b.node("GlobalAveragePool", "mean", deep))
    bias = b.constant("fc.b", np.zeros(len(CLASSES), np.float32))
    weight = b.weight("fc.w", len(CLASSES), graphs.CHANNELS)
    return b.model(b.node("Gemm", "fc", flat, weight, bias, transB=1))


def write_images(folder: Path, count: int) -> None:
    random = np.random.default_rng(0)
    for i in range(count):
        path = folder / CLASSES[i % len(CLASSES)] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), random.integers(0, 256, (20, 24, 3), np.uint8))


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    onnx.save(classifier(), folder / "m.onnx")
    write_images(folder / "imgs", 12)
    table = calibrate(folder / "m.onnx", DataChoice(folder / "imgs", "raw"))
    table.save(folder / "calibration" / "m.json")
    return folder


@pytest.fixture
def calibrated(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: m.onnx, imgs/<class>/*.png, calibration/m.json."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def project(calibrated: Path) -> Path:
    """The same without the table."""
    shutil.rmtree("calibration")
    return calibrated


@pytest.fixture
def save() -> SaveModel:
    def write(model: onnx.ModelProto, name: str = "other.onnx") -> Path:
        onnx.save(model, name)
        return Path(name)

    return write


@pytest.fixture
def qbench(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Qbench:
    """Run one command in 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        words = [str(argument) for argument in arguments]
        if words[:1] == ["bench"]:
            words.append("--in-process")  # where what tests replace is replaced
        code = run(words)
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    """Let what a command has loaded be collected; of a real one, the process ends."""
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def glance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `quantize` take no time to look at speed, and build nothing to look at kernels."""
    tiny = Settings(min_rounds=6, max_rounds=6, block_seconds=1e-5, warmup_seconds=0.0)
    monkeypatch.setattr(speedup, "GLANCE", tiny)

    def is_missing(*_: object, **__: object) -> None:
        raise UnfitError("TensorRT for RTX is not installed")

    monkeypatch.setattr(target_check, "audit_tensorrt", is_missing)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `--quick` be quick enough for tests; its figures mean nothing."""
    tiny = Settings(
        min_rounds=6, max_rounds=6, max_seconds=0.05, block_seconds=1e-5, warmup_seconds=0.0
    )
    monkeypatch.setitem(MODES, "quick", tiny)


def files(folder: Path) -> set[str]:
    """All files below a folder, hidden ones included, but for what a search found and keeps."""
    found = (path for path in folder.rglob("*") if path.is_file())
    names = (path.relative_to(folder).as_posix() for path in found)
    return {name for name in names if ".choice." not in name}


def refused(outcome: Outcome, code: int = 1) -> str:
    """Check the form of an error; return its text."""
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.err.startswith("qbench: error: ")
    assert outcome.err.count("\n") == 1
    assert "Traceback" not in outcome.err
    return outcome.err


@pytest.fixture
def with_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let build-trt get past its first question wherever the tests run."""
    from qbench.engines import build
    from qbench.runtimes.tensorrt.flavour import Flavour

    monkeypatch.setattr(build, "find_flavour", lambda *_: Flavour("tensorrt_rtx", "1.7"))
