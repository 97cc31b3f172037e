"""The benchmark of the store runs, and lists what it wrote; its figures are not tested."""

import importlib
import json
import sys
from types import ModuleType

import pytest


@pytest.fixture
def script() -> ModuleType:
    return importlib.import_module("store_bench")


def test_all_rows_are_listed(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["store_bench.py", "--rows", "5", "--rows-per-run", "2"])
    script.main()
    figures = json.loads(capsys.readouterr().out)
    assert figures["rows"] == 5
    assert figures["database_bytes"] > 0


def test_a_row_that_is_lost_is_noticed(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["store_bench.py", "--rows", "2"])
    monkeypatch.setattr(script.Store, "add", lambda *_: None)
    monkeypatch.setattr(script.Store, "finish", lambda *_: None)
    with pytest.raises(SystemExit, match="0 rows are listed of 2 that were written"):
        script.main()
