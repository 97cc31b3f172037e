"""What is seen of a build on a terminal."""

import os
import re
import signal
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from qbench.cli.output.build_bar import BuildBar
from qbench.engines import build
from qbench.engines.build import EngineOptions
from qbench.engines.compiling.protocol import Progress
from qbench.errors import UnfitError
from qbench.quantization.int8 import Int8Options

from ..conftest import Qbench, files

fcntl = pytest.importorskip("fcntl", reason="needs a terminal")
pty = pytest.importorskip("pty", reason="needs a terminal")
termios = pytest.importorskip("termios", reason="needs a terminal")
pytest.importorskip("tensorrt_rtx")

RTX = ("build-trt", "--backend", "rtx")


class Terminal:
    """`qbench` on a terminal of 80 columns."""

    def __init__(self, *arguments: str) -> None:
        own, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        code = "from qbench.cli.main import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdout=subprocess.DEVNULL, stderr=other
        )
        os.close(other)
        self._own = own
        self.text = ""

    def read_until(self, word: str = "") -> str:
        """Return what was printed up to `word`, to the end without one."""
        while not word or word not in self.text:
            try:
                self.text += os.read(self._own, 4096).decode(errors="replace")
            except OSError:  # how Linux says that the other side has closed
                break
        return self.text


class TestTerminal:
    @pytest.mark.usefixtures("project")
    def test_a_bar_shows_the_phases(self) -> None:
        terminal = Terminal(*RTX, "--fp32")
        text = terminal.read_until()
        assert terminal.process.wait(60) == 0
        assert re.search(r"compiling +\d+%\|.*\| \d\d:\d\d, [A-Z]\w+", text)

    @pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
    def test_an_interrupt_leaves_nothing(self, kind: signal.Signals, project: Path) -> None:
        before = files(project)
        terminal = Terminal(*RTX, "--fp32")
        terminal.read_until("compiling")
        terminal.process.send_signal(kind)
        assert (
            terminal.read_until()
            .splitlines()[-1]
            .endswith("qbench: interrupted; no file was left half-written")
        )
        assert terminal.process.wait(60) == 130
        assert files(project) == before


def test_the_search_for_scales_is_shown_until_the_build_begins(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with closing(BuildBar(is_hidden=False)) as bar:
        bar.search(3, 10)
        bar.build(Progress("Tactics", None, 1, 2))
        bar.build(Progress("Tactics", None, 2, 2))
    lines = [line for line in capsys.readouterr().err.split("\r") if line.strip()]
    assert re.match(r"searching: +\d+%\|.*/10 ", lines[0])
    assert re.match(r"compiling +0%\|.*Tactics", next(x for x in lines if "compiling" in x))
    assert "searching" not in lines[-1]


def test_nothing_is_shown_where_the_bar_is_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    with closing(BuildBar(is_hidden=True)) as bar:
        bar.search(3, 10)
        bar.build(Progress("Tactics", None, 1, 2))
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("calibrated")
def test_int8_reports_its_search(qbench: Qbench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def build_engine(*_: object, options: EngineOptions, **__: object) -> None:
        seen.append(options.quantization)
        raise UnfitError("that is all")

    monkeypatch.setattr(build, "build_engine", build_engine)
    for flag in ("--int8", "--fp16"):
        assert qbench(*RTX, flag).code == 5
    assert isinstance(seen[0], Int8Options)
    assert seen[0].on_progress is not None
    assert not isinstance(seen[1], Int8Options)
