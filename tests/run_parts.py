"""Parts of runs for tests: cells, rows, requests and whole runs."""

from typing import Any

import msgspec
import numpy as np

from qbench.benchmarking.environment import Environment
from qbench.benchmarking.judging.judged import Judged, Outcome
from qbench.benchmarking.ledger import Cell
from qbench.benchmarking.result import Accuracy, Latency, Metric, Ratio, Row, RunResult
from qbench.benchmarking.stats import Interval
from qbench.benchmarking.timing.settings import Settings
from qbench.runs.request import ModelFile, Request
from qbench.runs.run import Run
from qbench.runtimes.gpu.devices import Gpu

SETTINGS = Settings()
ENVIRONMENT = Environment(
    cpu="A CPU",
    cores=2,
    core_quota=None,
    isa=("avx2",),
    governor=None,
    load_average=(0.1, 0.1, 0.1),
    os="Linux",
    python="3.12.1",
    versions={"onnxruntime": "1.31.1"},
    git_commit=None,
    gpus=None,
    time_utc="2026-11-25T08:00:00+00:00",
)
GPU = Gpu("RTX 4090", "560.1", 24 << 30, "8.9", 300, 2520)


def environment(**changed: Any) -> Environment:
    return msgspec.structs.replace(ENVIRONMENT, **changed)


def cell(precision: str = "fp32", **changed: Any) -> Cell:
    values = {"model": "m.onnx", "sha256": "aa", "provider": "cpu", **changed}
    return Cell(precision=precision, **values)


def row(precision: str = "fp32", *, ms: float = 2.0, **changed: Any) -> Row:
    latency = Latency(ms, 0.01, ms, ms) if "error" not in changed else None
    fixed = {"model": "m.onnx", "provider": "cpu", "sha256": "aa", "latency_ms": latency}
    return Row(precision=precision, **{**fixed, **changed})


def ratio(value: float, spread: float = 0.001) -> Ratio:
    """The baseline's own is 1 without a spread."""
    return Ratio(value, value - spread, value + spread, "faster")


def accuracy(value: float, spread: float = 0.02, difference: Interval | None = None) -> Accuracy:
    return Accuracy("top1", value, 200, value - spread, value + spread, difference)


def request(**changed: Any) -> Request:
    model = ModelFile("/models/m.onnx", "aa")
    values = {"command": ("bench", "m.onnx"), "models": (model,), "options": {}, **changed}
    return Request(**values)


def result(*rows: Row, **changed: Any) -> RunResult:
    values = {"environment": ENVIRONMENT, "settings": SETTINGS, **changed}
    return RunResult(rows=rows, **values)


def judged(*right: bool, metric: Metric = "top1") -> Judged:
    """Samples that were judged right or wrong."""
    names = tuple(f"{i}.png" for i in range(len(right)))
    return Judged(metric, names, Outcome(sum(right) / len(right), np.array(right)))


def run(*rows: Row, images: str | None = "i", **changed: Any) -> Run:
    """A finished run; `samples` and `judged` are given in the order of the rows."""
    seconds, outcomes = changed.pop("samples", ()), changed.pop("judged", ())
    return Run(
        id=changed.pop("id", "bcdfgh"),
        result=result(*rows, **changed),
        samples={i: np.asarray(given) for i, given in enumerate(seconds)},
        judged=dict(enumerate(outcomes)),
        request=request(images=images),
    )
