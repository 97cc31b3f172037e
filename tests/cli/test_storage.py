"""A full disk, a place that cannot be written and Ctrl-C: nothing half-written stays."""

import errno
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import Qbench, files, refused

FULL = "the disk is full; free space or choose another place with -o"
DATA = ("--data", "imgs", "--recipe", "raw")
pytestmark = pytest.mark.usefixtures("with_tensorrt")


class FullDisk:
    """Writes a few files, and then no more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, good_writes: int) -> None:
        self.left = good_writes
        write = Path.write_bytes

        def limited(path: Path, data: bytes) -> int:
            self.left -= 1
            if self.left < 0:
                write(path, data[: len(data) // 2])
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(path, data)

        monkeypatch.setattr(Path, "write_bytes", limited)


@pytest.mark.parametrize("good_writes", [0, 1])
def test_full_disk_while_calibrating(
    good_writes: int, project: Path, qbench: Qbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(project)
    FullDisk(monkeypatch, good_writes)
    message = refused(qbench("calibrate", "m.onnx", *DATA))
    assert f"cannot write calibration/m.json: {FULL}" in message
    assert files(project) == before


@pytest.mark.parametrize("command", ["quantize", "build-trt"])
def test_full_disk_while_writing_a_model(
    command: str, calibrated: Path, qbench: Qbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx_ir as ir

    def fail(model: ir.Model, path: Path, **_: Any) -> None:
        del model
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    before = files(calibrated)
    monkeypatch.setattr("qbench.model.save.ir.save", fail)
    extra = (
        ("--target", "cpu", "--effort", "fast") if command == "quantize" else ("--effort", "fast")
    )
    message = refused(qbench(command, "m.onnx", *extra))
    assert "m." in message
    assert FULL in message
    assert files(calibrated) == before


def test_full_disk_while_drawing_the_demo(
    tmp_path: Path, qbench: Qbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    FullDisk(monkeypatch, 1)
    outcome = qbench("demo", "--json")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.splitlines()[-1].endswith(FULL)
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize(
    ("command", "place"),
    [
        ("calibrate", "file/t.json"),
        ("calibrate", "folder.json"),
        ("quantize", "file/t.onnx"),
        ("quantize", "folder.json"),
        ("build-trt", "file"),
    ],
)
def test_a_place_that_cannot_be_written(
    command: str, place: str, calibrated: Path, qbench: Qbench
) -> None:
    Path("file").write_text("in the way")
    Path("folder.json").mkdir()
    before = files(calibrated)
    extra = {"calibrate": DATA, "quantize": ("--target", "cpu")}.get(command, ())
    message = refused(qbench(command, "m.onnx", *extra, "-o", place))
    assert f"cannot write {place}" in message
    assert "-o" in message
    assert files(calibrated) == before


WORK = (
    "qbench.calibration.calibrate.collect",
    "qbench.quantization.by_precision.to_int8",
    "qbench.tuning.tune.to_int8",
    "qbench.engines.build.build",
    "qbench.engines.reduce.failure_of",
    "qbench.report.sources.find_run",
)
"""What takes time."""

TUNE = ("tune", "m.onnx", "--target", "cpu", "--budget", "1%", "--metric", "cosine", *DATA)


@pytest.mark.parametrize(
    ("command", "place"),
    [
        (("calibrate", "m.onnx", *DATA, "-o", "file/t.json"), "file/t.json"),
        (("calibrate", "m.onnx", *DATA, "--tensorrt-cache", "file/t.cache"), "file/t.cache"),
        (("quantize", "m.onnx", "--target", "cpu", "-o", "file/t.onnx"), "file/t.onnx"),
        (("quantize", "m.onnx", "--target", "cpu", *DATA, "-o", "file/t.onnx"), "file/t.onnx"),
        (("quantize", "m.onnx", "--target", "cpu", *DATA), "calibration/m.json"),
        ((*TUNE, "-o", "file/t.onnx"), "file/t.onnx"),
        (TUNE, ".qbench/tune/journal.json"),
        (("build-trt", "m.onnx", "-o", "file"), "file/m.int8.json"),
        (("debug", "--reduce", "m.onnx", "-o", "file/t.onnx"), "file/t.onnx"),
        (("report", "run.json", "-o", "file/t.html"), "file/t.html"),
        (("report", "run.json", "--svg", "file/svg"), "file/svg/charts.svg"),
        (("report", "run.json", "--png", "file"), "file/charts.png"),
    ],
)
def test_a_place_is_tried_before_any_work(
    command: tuple[str, ...],
    place: str,
    calibrated: Path,
    qbench: Qbench,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("the work has begun")

    for function in WORK:
        monkeypatch.setattr(function, work)
    monkeypatch.setattr("qbench.engines.reduce.find_flavour", lambda _: None)
    for name in ("file", ".qbench"):
        Path(name).write_text("in the way")
    if place.startswith("calibration"):
        Path("calibration").rename("elsewhere")
        Path("calibration").write_text("in the way")
    before = files(calibrated)
    message = refused(qbench(*command))
    assert f"cannot write {place}: " in message
    assert files(calibrated) == before


ANNOUNCING = """
from qbench.calibration import collect
from qbench.cli.main import main

count = collect._Pass._count

def announced(self, *arguments):
    print("counting", flush=True)
    count(self, *arguments)

collect._Pass._count = announced
main()
"""
"""The command line, but it says when it has begun to count."""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to a child alone")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_ends_a_long_calibration_at_once(kind: signal.Signals, project: Path) -> None:
    images = project / "long"
    images.mkdir()
    source = project / "imgs/cat/00.png"
    for i in range(5000):
        (images / f"{i}.png").symlink_to(source)
    before = files(project)
    command = [sys.executable, "-c", ANNOUNCING, "calibrate", "m.onnx", "--data", "long"]
    with subprocess.Popen(
        [*command, "--recipe", "raw"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("counting")
        process.send_signal(kind)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == "qbench: interrupted; no file was left half-written"
    assert files(project) == before
