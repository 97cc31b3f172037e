"""The command itself: help, versions, what it imports, and how it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import graphs
import numpy as np
import onnx
import pytest

from qbench.benchmarking.options import GROUP
from qbench.benchmarking.timing.settings import MODES
from qbench.calibration.calibrate import FEWEST_SAMPLES
from qbench.cli import main as module
from qbench.cli.main import qbench as group
from qbench.errors import (
    BudgetError,
    InconclusiveError,
    ModelError,
    QbenchError,
    UnfitError,
    UsageError,
)

from .conftest import Qbench, write_images

HEAVY = ("onnx", "onnx_ir", "onnxruntime", "cv2", "numba", "numpy", "rich", "tqdm", "tensorrt_rtx")


@pytest.mark.parametrize("command", ["", *group.commands])
def test_help_fits_80_columns_and_imports_nothing_heavy(command: str) -> None:
    code = (
        "import sys; from qbench.cli.main import run; code = run(sys.argv[1:]); "
        f"print(*[name for name in {HEAVY} if name in sys.modules], file=sys.stderr); "
        "sys.exit(code)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *([command] if command else []), "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert (result.returncode, result.stderr.strip()) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("Usage: qbench")
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("command", group.commands.values(), ids=group.commands)
def test_every_option_has_a_help_text(command: object) -> None:
    for parameter in command.params:  # type: ignore[attr-defined]
        assert parameter.param_type_name == "argument" or parameter.help, parameter.name


def test_commands_stand_in_the_order_of_work(qbench: Qbench) -> None:
    text = qbench("--help").out
    places = [text.index(f"\n  {name} ") for name in group.commands]
    assert places == sorted(places)
    assert next(iter(group.commands)) == "demo"


def test_help_names_the_time_that_a_group_may_take(qbench: Qbench) -> None:
    text = " ".join(qbench("bench", "--help").out.split())
    normal, quick, strict = (MODES[mode].max_seconds for mode in ("normal", "quick", "strict"))
    limits = f"at most {normal:g} s (--quick {quick:g} s, --strict {strict:g} s)"
    assert f"in groups of {GROUP}, each group for {limits}" in text


def test_no_command_shows_the_help(qbench: Qbench) -> None:
    outcome = qbench()
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("Usage: qbench")


def test_version(qbench: Qbench) -> None:
    outcome = qbench("--version")
    assert outcome.code == 0
    assert outcome.out.startswith("qbench, version ")


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (QbenchError, 1),
        (ModelError, 1),
        (UsageError, 2),
        (BudgetError, 3),
        (InconclusiveError, 4),
        (UnfitError, 5),
    ],
)
def test_exit_codes(
    kind: type[QbenchError], code: int, qbench: Qbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise kind("x is wrong; do y")

    monkeypatch.setattr(module, "qbench", fail)
    assert qbench("doctor") == (code, "", "qbench: error: x is wrong; do y\n")


def test_an_error_that_is_a_bug_is_not_hidden(
    qbench: Qbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(module, "qbench", fail)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        qbench("doctor")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="of Linux")
def test_output_into_a_file_on_a_full_disk() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "qbench", "doctor", "--json"],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.stderr == "qbench: error: cannot write the output: the disk is full; free space\n"
    assert done.returncode == 1


def test_interrupt(qbench: Qbench, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "qbench", interrupt)
    message = "qbench: interrupted; no file was left half-written\n"
    assert qbench("doctor") == (130, "", message)


def test_main_exits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "run", lambda _: 3)
    with pytest.raises(SystemExit, match="3"):
        module.main([])


def test_main_leaves_the_handlers_of_signals_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    def running(_: object) -> int:
        assert signal.getsignal(signal.SIGTERM) is not before
        return 0

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(module, "run", running)
    with pytest.raises(SystemExit):
        module.main([])
    assert signal.getsignal(signal.SIGTERM) is before


STOPPED = """
import sys
from qbench.__main__ import main

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Finder())
main()
"""
"""The command, which Ctrl-C reaches while it imports click."""


def test_interrupt_while_the_command_line_loads() -> None:
    result = subprocess.run([sys.executable, "-c", STOPPED], capture_output=True, text=True)
    assert result.returncode == 130
    assert result.stderr == "qbench: interrupted; no file was left half-written\n"


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "qbench", "--version"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stdout.startswith("qbench, version ")


def test_opencv_does_not_warn_past_the_log(tmp_path: Path) -> None:
    tiff = bytearray(cv2.imencode(".tif", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    directory = int.from_bytes(tiff[4:8], "little")
    last = directory + 2 + 12 * (int.from_bytes(tiff[directory : directory + 2], "little") - 1)
    tiff[last : last + 2] = (65000).to_bytes(2, "little")  # a tag that nobody knows
    (tmp_path / "images").mkdir()
    for number in range(FEWEST_SAMPLES):
        (tmp_path / "images" / f"{number}.tif").write_bytes(tiff)
    b = graphs.Builder((1, 3, 8, 8))
    onnx.save(b.model(b.conv("head", b.conv("stem", b.x, cin=3))), tmp_path / "m.onnx")
    command = [sys.executable, "-m", "qbench", "calibrate", "m.onnx", "--data", "images"]
    command += ["--recipe", "raw"]
    environment = {name: value for name, value in os.environ.items() if "OPENCV" not in name}
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=True
    )
    assert result.stderr == ""


def test_a_warning_is_shown_once() -> None:
    """A folder is opened for each model that reads it, and tells the same of its images."""
    code = """if True:
        import logging
        from qbench.cli.main import main, qbench

        @qbench.command()
        def twice():
            for text in ("1 of 20 skipped", "1 of 20 skipped", "another"):
                logging.getLogger("qbench").warning("%s", text)

        main(["twice"])
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr.splitlines() == ["1 of 20 skipped", "another"]


def test_an_output_with_nan_is_told_once(tmp_path: Path) -> None:
    b = graphs.Builder((1, 3, 16, 16))
    below = b.node("Sub", "below", b.x, b.constant("much", np.float32(999)))
    b.node("Sqrt", "root", b.node("ReduceMean", "mean", below))
    onnx.save(b.model("root", b.conv("head", b.conv("stem", b.x, cin=3))), tmp_path / "m.onnx")
    write_images(tmp_path / "imgs", FEWEST_SAMPLES)
    command = [sys.executable, "-m", "qbench", "quantize", "m.onnx", "--target", "cpu"]
    given = ["--data", "imgs", "--recipe", "raw"]
    for data, told in ((given, "holds NaN or Inf for"), ([], "itself holds NaN for")):
        result = subprocess.run(
            [*command, *data, "--no-audit"], capture_output=True, text=True, cwd=tmp_path
        )
        assert result.returncode == 0
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"output 'root' of the float model {told}")
        for kept in (tmp_path / "calibration").glob("*.choice.*"):
            kept.unlink()  # so that it is searched again


def test_doctor(qbench: Qbench) -> None:
    document = qbench("doctor", "--json").json
    assert document.keys() == {"schema_version", "environment", "providers", "tensorrt"}
    assert document["providers"]["cpu"] is None
    text = qbench("doctor").out
    assert max(map(len, text.splitlines())) <= 80  # where no terminal says otherwise
    assert ["provider", "cpu", "loads"] in [line.split() for line in text.splitlines()]
    assert text.startswith("cpu  ")
