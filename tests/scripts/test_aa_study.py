"""The script runs, here and in workers; its figures mean nothing here."""

import argparse
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from qbench.benchmarking.sessions.session import LocalSession
from qbench.benchmarking.timing.settings import MODES, Settings

TINY = Settings(min_rounds=6, max_rounds=6, max_seconds=0.05, block_seconds=1e-5, warmup_seconds=0)


@pytest.mark.parametrize("where", [[], ["--workers"]])
def test_a_study(
    where: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = importlib.import_module("aa_study")
    monkeypatch.setitem(MODES, "quick", TINY)
    monkeypatch.setenv("PYTHONPATH", "")  # which the script sets, and this restores
    words = ["--mode", "quick", "--repetitions", "2", "--slow", "4", *where]
    monkeypatch.setattr(sys, "argv", ["aa_study.py", *words])
    script.main()
    first, second, *document = capsys.readouterr().out.splitlines()
    assert first.startswith("  0 control")
    assert second.startswith("  1 control")
    counts = json.loads("\n".join(document))
    assert (counts["repetitions"], counts["slow"]) == (2, 4.0)
    counted = {"slowdown_found", "excludes_1", "beyond_1_percent", "untrusted"}
    assert counted <= counts.keys()
    assert all(counts[name] in (0, 1, 2) for name in counted)


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    script = importlib.import_module("aa_study")
    monkeypatch.setitem(MODES, "quick", TINY)
    monkeypatch.setenv("PYTHONPATH", "")

    def run(*words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["aa_study.py", "--mode", "quick", *words])
        script.main()

    return run


def test_a_study_in_parts(
    study: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "study.jsonl")
    study("--repetitions", "1", "--out", out)
    first, *_ = (tmp_path / "study.jsonl").read_text("utf-8").splitlines()
    capsys.readouterr()
    study("--repetitions", "2", "--out", out)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("  1 control")
    assert json.loads("\n".join(printed[1:]))["repetitions"] == 2
    kept = (tmp_path / "study.jsonl").read_text("utf-8").splitlines()
    assert kept[0] == first
    assert [json.loads(text)["repetition"] for text in kept] == [0, 1]


def test_a_study_that_is_out_of_time_sums_up_what_it_has(
    study: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "study.jsonl")
    study("--repetitions", "1", "--out", out)
    capsys.readouterr()
    study("--repetitions", "9", "--out", out, "--seconds", "-1")
    assert json.loads(capsys.readouterr().out)["repetitions"] == 1


def test_a_file_of_another_study_is_not_added_to(
    study: Callable[..., None], tmp_path: Path
) -> None:
    out = str(tmp_path / "study.jsonl")
    study("--repetitions", "1", "--out", out)
    with pytest.raises(ValueError, match=r"study\.jsonl is a study of .*; name another file"):
        study("--repetitions", "1", "--out", out, "--slow", "0.5")


def test_a_call_is_slowed_by_its_share() -> None:
    planted = importlib.import_module("planted")
    calls: list[int] = []
    planted.slowed(lambda: calls.append(1), 0.5)()
    assert calls == [1]


def test_a_candidate_is_slowed_whenever_it_is_loaded() -> None:
    """Fourfold, so that no noise hides it."""
    script = importlib.import_module("aa_study")
    args = argparse.Namespace(model=script.DEMO_MODEL, threads=1, size=64)
    plain, slow = (LocalSession(script.task_of(args, share)) for share in (0.0, 3.0))
    for _ in range(2):
        assert slow.time_block(20, 1).figure > 2 * plain.time_block(20, 1).figure
        slow.reload()
