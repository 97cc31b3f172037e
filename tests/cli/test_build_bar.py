"""What is seen of a build on a terminal."""

import os
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import files

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

    def test_an_interrupt_leaves_nothing(self, project: Path) -> None:
        before = files(project)
        terminal = Terminal(*RTX, "--fp32")
        terminal.read_until("compiling")
        terminal.process.send_signal(signal.SIGINT)
        assert (
            terminal.read_until()
            .splitlines()[-1]
            .endswith("qbench: interrupted; no file was left half-written")
        )
        assert terminal.process.wait(60) == 130
        assert files(project) == before
