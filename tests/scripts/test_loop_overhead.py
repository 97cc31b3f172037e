"""The script runs on models and engines; its figures mean nothing here."""

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import graphs
import onnx
import pytest
import trt_runtime

from qbench.benchmarking.timing.settings import MODES, Settings

TINY = Settings(min_rounds=6, max_rounds=6, max_seconds=0.05, block_seconds=1e-5, warmup_seconds=0)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    script = importlib.import_module("loop_overhead")
    monkeypatch.setitem(MODES, "quick", TINY)

    def run(path: Path) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["loop_overhead.py", str(path), "--mode", "quick"])
        script.main()
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return run


def check(document: dict[str, Any], name: str) -> None:
    assert document["model"] == name
    low, high = document["ratio_ci"]
    assert low <= document["ratio"] <= high
    expected = 1e3 * document["bare_ms"] * (document["ratio"] - 1)
    assert document["overhead_us"] == pytest.approx(expected)


def test_a_model_of_dynamic_batch(measured: Any, tmp_path: Path) -> None:
    b = graphs.Builder(("N", 8, "h", "w"))
    onnx.save(b.model(b.node("Relu", "y", b.x)), tmp_path / "m.onnx")
    check(measured(tmp_path / "m.onnx"), "m.onnx")


def test_an_engine(measured: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = importlib.import_module("loop_overhead")
    monkeypatch.setattr(script, "read_manifest", lambda _: SimpleNamespace(flavour="tensorrt"))
    gpu = trt_runtime.install(monkeypatch, tmp_path)
    check(measured(gpu.write_engine(tmp_path / "m.engine", graphs.conv_bn_relu())), "m.engine")
    assert gpu.cuda.live == {}
