"""The script runs, here and in workers; its figures mean nothing here."""

import importlib
import json
import sys

import pytest

from qbench.benchmarking.settings import MODES, Settings

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
    shares = json.loads("\n".join(document))
    assert (shares["repetitions"], shares["slow"]) == (2, 4.0)
    counted = {"slowdown_found", "excludes_1", "beyond_1_percent", "untrusted"}
    assert counted <= shares.keys()
    assert all(shares[name] in (0.0, 0.5, 1.0) for name in counted)


def test_a_call_is_slowed_by_its_share() -> None:
    planted = importlib.import_module("planted")
    calls: list[int] = []
    planted.slowed(lambda: calls.append(1), 0.5)()
    assert calls == [1]
