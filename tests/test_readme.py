"""The commands of README.md run, in their order, and print what it shows."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from qbench.benchmarking import candidates
from qbench.benchmarking.timing.clock import BlockTimer
from qbench.benchmarking.timing.schedule import Measurement, OnRound, measure_blocks
from qbench.benchmarking.timing.settings import Settings
from qbench.cli.main import run

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
MEASURED = re.compile(
    r"\d+(\.\d+)? ?(ms|s|%|KiB|MiB)|\d+\.\d+|\b(faster|slower|same|inconclusive)\b"
)
"""What depends on the machine; the rest of a line must be as shown."""


SHORT = Settings(half_width=0.5, max_seconds=1.0, block_seconds=0.002, warmup_seconds=0.1)
"""The commands are tested here, not the figures."""


def measure_shortly(
    timers: Sequence[BlockTimer], settings: Settings, on_round: OnRound | None, **_: object
) -> Measurement:
    del settings
    return measure_blocks(timers, SHORT, on_round)


def commands() -> list[tuple[list[str], list[str]]]:
    """Return each command of the README with the lines that it shows below it."""
    found: list[tuple[list[str], list[str]]] = []
    for line in "".join(BLOCKS).splitlines():
        if line.startswith("$ "):
            found.append((shlex.split(line[2:]), []))
        else:
            found[-1][1].append(line)
    return found


def test_readme_commands_and_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(candidates, "measure_blocks", measure_shortly)
    for words, shown in commands():
        if words[0] == "cd":
            monkeypatch.chdir(words[1])
            continue
        assert words[0] == "qbench"
        assert run(words[1:]) == 0, words
        printed = capsys.readouterr().out
        assert_shown(printed, [line for line in shown if line != "..."])
    exec(compile(PYTHON[0], "README.md", "exec"), {})
    assert "multiply-accumulates in INT8" in capsys.readouterr().out


def assert_shown(printed: str, shown: list[str]) -> None:
    """Check that every line shown was printed, but for measured figures."""
    plain = [without_figures(line) for line in printed.splitlines()]
    for line in shown:
        wanted = without_figures(line.removesuffix("..."))
        assert any(text.startswith(wanted) for text in plain), line


def without_figures(line: str) -> str:
    """Return a line with measured figures and the spaces around them made equal."""
    return re.sub(r"\s+", " ", MEASURED.sub("#", line)).strip()
