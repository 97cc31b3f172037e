import msgspec

from qbench.benchmarking import environment
from qbench.benchmarking.result import (
    Accuracy,
    Latency,
    Ratio,
    Row,
    RunResult,
)
from qbench.benchmarking.stats import Interval
from qbench.benchmarking.timing.settings import Settings


def run_result() -> RunResult:
    measured = Row(
        model="a.onnx",
        precision="int8",
        provider="cpu",
        accuracy=Accuracy("top1", 0.75, 4, 0.3, 0.95),
        latency_ms=Latency(median=2.0, mad=0.1, min=1.0, p90=None),
        ratio=Ratio(1.5, 1.4, 1.6, "faster"),
        throughput_per_s=500.0,
        notes=("unsettled",),
    )
    broken = Row(model="a.onnx", precision="fp16", provider="cuda", error="no driver")
    return RunResult(
        environment=environment.capture(),
        settings=Settings(),
        rows=(measured, broken),
        control=Interval(1.001, 0.999, 1.003),
    )


def test_json_reads_back_as_it_was_written() -> None:
    result = run_result()
    assert msgspec.json.decode(msgspec.json.encode(result), type=RunResult) == result


def test_json_has_the_documented_keys() -> None:
    document = msgspec.json.decode(msgspec.json.encode(run_result()))
    assert document["schema_version"] == 1
    assert document["trusted"] is True
    assert document["control"] == {"value": 1.001, "ci_low": 0.999, "ci_high": 1.003}
    measured, broken = document["rows"]
    latency = {"median": 2.0, "mad": 0.1, "min": 1.0, "p90": None, "p95": None, "p99": None}
    assert measured["latency_ms"] == latency
    assert measured["ratio"] == {"value": 1.5, "ci_low": 1.4, "ci_high": 1.6, "verdict": "faster"}
    keys = {"metric", "value", "n", "ci_low", "ci_high", "difference", "others"}
    assert measured["accuracy"].keys() == keys
    assert broken["error"] == "no driver"
    figures = ["accuracy", "latency_ms", "ratio", "throughput_per_s", "size_bytes", "load_seconds"]
    assert {broken[figure] for figure in figures} == {None}
