"""The checks for a GPU, on a fake TensorRT and a GPU in host memory; the figures mean nothing."""

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_nvml
import pytest
import trt_runtime
from fake_trt.running import ACTIVATIONS

from qbench.benchmarking.timing.settings import Settings
from qbench.demo import workflow
from qbench.errors import EngineError

TINY = Settings(min_rounds=6, max_rounds=6, max_seconds=0.05, block_seconds=1e-5, warmup_seconds=0)
TRTEXEC = """#!/bin/sh
echo "[I] H2D Latency: min = 0.1 ms, max = 0.2 ms, mean = 0.1 ms, median = 0.15 ms"
echo "[I] GPU Compute Time: min = 0.4 ms, max = 0.6 ms, mean = 0.5 ms, median = 0.51 ms"
"""

Run = Callable[..., dict[tuple[str, str], Any]]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(workflow, "_CALIBRATION_PER_CLASS", 2)
    monkeypatch.setattr(workflow, "_EVALUATION_PER_CLASS", 2)
    module = importlib.import_module("gpu_check")
    monkeypatch.setattr(module, "SETTINGS", TINY)
    monkeypatch.setattr(module, "CHECKS", dict(module.CHECKS))
    return module


@pytest.fixture
def work(script: Any, tmp_path: Path) -> Any:
    return script.Work(folder=tmp_path, settings=TINY)


@pytest.fixture
def run(script: Any, work: Any) -> Run:
    """Run checks in this process, and return the rows by check and subject."""

    def here(name: str, seconds: float, asked: Any) -> Any:
        assert seconds > 0
        script.run_here(name, asked)
        return script.read_rows(script.rows_path(asked, name))

    def choose(*without: str) -> dict[tuple[str, str], Any]:
        for name in without:
            del script.CHECKS[name]
        return {(row.check, row.subject): row for row in script.run_all(work, 1000, here)}

    return choose


@pytest.fixture
def trtexec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin" / "trtexec"
    program.parent.mkdir()
    program.write_text(TRTEXEC, "utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    return program


def test_all_of_tensorrt(
    run: Run, trtexec: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gpu = trt_runtime.install(monkeypatch, tmp_path, "11.4")
    fake_nvml.install(monkeypatch)
    rows = run("build rtx")
    engines = ("tensorrt fp16", "tensorrt fp32", "tensorrt int8")
    per_engine = ("parity", "graphs", "streams", "overhead", "phases", "profile", "trtexec")
    wanted = {(check, engine) for check in per_engine for engine in engines}
    wanted |= {("build tensorrt", engine) for engine in engines}
    wanted |= {("engines", f"{name} tensorrt engine") for name in ("fp32", "fp16", "int8")}
    assert {key: rows[key].error for key in wanted if rows[key].error is not None} == {}
    assert rows["doctor", "cuda-bindings"].result == "host, sm00"
    assert rows["doctor", "watch"].figures == {"sm_clocks_mhz": [1980, 1980]}
    for engine in engines:
        assert rows["parity", engine].figures["max_difference"] < 1e-6
        assert rows["parity", engine].figures["least_cosine"] > 0.999999
        assert rows["graphs", engine].figures["captured"]
        assert set(rows["streams", engine].figures["images_per_s"]) == {"1", "2", "4"}
        assert sum(
            share for *_, share in rows["profile", engine].figures["shares"]
        ) == pytest.approx(1)
        assert rows["profile", engine].figures["device_memory_bytes"] > ACTIVATIONS
        assert rows["trtexec", engine].figures["trtexec_ms"] == 0.51
    assert rows["onnxruntime", "fp32 cpu"].figures["accuracy"]["n"] == 20
    assert trtexec.exists()
    assert gpu.cuda.live == {}


def test_what_refuses_is_told_and_the_rest_goes_on(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gpu = trt_runtime.install(monkeypatch, tmp_path, "10.0.1")
    gpu.cuda.refuses_capture = "it may not be captured"
    trt: Any = gpu.module
    rows = run("build rtx", "onnxruntime", "engines", "trtexec")
    assert rows["graphs", "tensorrt fp32"].figures["captured"] is False
    assert "it may not be captured" in rows["graphs", "tensorrt fp32"].result

    def refuse(_: Any, data: bytes) -> None:
        raise EngineError(f"{len(data) > 0}: this GPU is not supported")

    monkeypatch.setattr(trt.Runtime, "deserialize_cuda_engine", refuse)
    rows = run("prepare", "build tensorrt")
    for check in ("parity", "graphs", "streams", "overhead", "phases", "profile"):
        assert rows[check, "tensorrt int8"].error == "True: this GPU is not supported"


def test_without_a_gpu_each_check_says_why(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gpu = trt_runtime.install(monkeypatch, tmp_path, "11.0")

    def no_gpu() -> None:
        raise EngineError("no GPU is here")

    monkeypatch.setitem(trt_runtime.BACKENDS, "cuda-bindings", no_gpu)
    rows = run("build rtx", "onnxruntime", "overhead")
    assert rows["doctor", "watch"].error.startswith("NVML finds no GPU, or the package")
    for check in ("parity", "engines", "graphs", "streams", "phases", "profile", "trtexec"):
        assert rows[check, "engines"].error == "no GPU is here"
    assert gpu.cuda.live == {}


def test_without_engines_nothing_is_timed(run: Run) -> None:
    rows = run("build tensorrt", "build rtx", "onnxruntime", "doctor", "overhead")
    assert rows["prepare", "calibration"].result == "classifier.onnx, 20 samples"
    assert rows["graphs", "engines"].error == "no engine was built; see `build` above"


def test_a_model_of_ones_own_needs_data_for_int8(script: Any, tmp_path: Path) -> None:
    own = script.Work(folder=tmp_path, model=workflow.MODEL, settings=TINY)
    script.run_here("prepare", own)
    (row,) = script.read_rows(script.rows_path(own, "prepare"))
    assert row.error == "INT8 needs --data with the model; the rest goes on"
    assert own.images() is None
    assert own.side() == 64


def test_a_check_that_takes_too_long_keeps_its_rows(script: Any, work: Any) -> None:
    script.Rows("doctor", script.rows_path(work, "doctor")).add("cpu", "a fine one", cores=2)
    first, last = script.run_apart("doctor", 0.01, work, options=[])
    assert (first.subject, first.figures) == ("cpu", {"cores": 2})
    assert last.error == "took longer than 0 s"


def test_time_may_run_out(script: Any, work: Any) -> None:
    rows = script.run_all(work, 0, lambda *_: pytest.fail("there is no time"))
    assert [row.check for row in rows] == list(script.CHECKS)
    assert {row.error for row in rows} == {"no time was left; give more with --seconds"}


def test_the_death_of_a_check_is_explained(script: Any) -> None:
    assert script.death(-9, "") == "ended by signal 9 (Killed)"
    assert script.death(1, "Traceback ...\nRuntimeError: driver\n") == "RuntimeError: driver"
    assert script.death(3, "") == "exit code 3"


@pytest.fixture
def report(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Path], str]:
    """Write a report of rows that are made up, and return what is printed."""

    def known(name: str, *_: Any, **__: Any) -> list[Any]:
        return [
            script.Row(name, "x", "fine") if name == "doctor" else script.Row(name, "y", error="no")
        ]

    monkeypatch.setattr(script, "run_apart", known)

    def write(document: Path) -> str:
        monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--json", str(document)])
        script.main()
        return capsys.readouterr().out

    return write


def test_the_report(script: Any, report: Callable[[Path], str], tmp_path: Path) -> None:
    document = tmp_path / "gpu.json"
    output = report(document)
    assert f"1 rows of {len(script.CHECKS)} worked" in output
    assert "- no" in output
    rows = json.loads(document.read_text("utf-8"))["rows"]
    assert [row["check"] for row in rows] == list(script.CHECKS)


def test_a_report_that_cannot_be_written(
    report: Callable[[Path], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SystemExit, match=r"error: cannot write .*gpu\.json"):
        report(tmp_path / "file" / "gpu.json")
    assert "rows of" in capsys.readouterr().out
