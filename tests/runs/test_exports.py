"""Runs as flat lines and in MLflow."""

import csv
import io
import sys
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from run_parts import accuracy, ratio, row, run

from qbench.benchmarking.stats import Interval
from qbench.errors import StorageError, UnfitError
from qbench.runs.flat import csv_text, flat_rows
from qbench.runs.mlflow_export import export_run

COLUMNS = [
    *("run", "time_utc", "finished", "trusted", "cpu"),
    *("model", "sha256", "precision", "provider", "batch", "threads", "streams", "mode", "rate"),
    *("accuracy_metric", "accuracy_value", "accuracy_n", "accuracy_ci_low", "accuracy_ci_high"),
    *(f"accuracy_difference_{name}" for name in ("value", "ci_low", "ci_high")),
    *(f"latency_ms_{name}" for name in ("median", "mad", "min", "p90", "p95", "p99")),
    *(f"ratio_{name}" for name in ("value", "ci_low", "ci_high", "verdict")),
    *("throughput_per_s", "missed_share", "size_bytes", "peak_rss_bytes", "device_memory_bytes"),
    *("build_seconds", "load_seconds", "first_inference_seconds", "loads", "voided_rounds"),
    "error",
    *(f"accuracy_{name}" for name in ("top5", "map50", "cosine", "sqnr_db", "retrieval")),
    "notes",
]


def full() -> Any:
    judged = accuracy(0.8, difference=Interval(-0.01, -0.02, 0.0))
    return row("int8", ratio=ratio(2.0), accuracy=judged, size_bytes=1000, notes=("a, b", "c"))


def test_columns_are_the_same_whatever_was_measured() -> None:
    lines = list(csv.reader(io.StringIO(csv_text(run(row(error="no driver"), full())))))
    assert lines[0] == COLUMNS
    assert [len(line) for line in lines] == [len(COLUMNS)] * 3
    broken, measured = (dict(zip(COLUMNS, line, strict=True)) for line in lines[1:])
    assert (broken["error"], broken["latency_ms_median"], broken["accuracy_n"]) == (
        "no driver",
        "",
        "",
    )
    assert measured["accuracy_difference_ci_low"] == "-0.02"
    assert (measured["ratio_value"], measured["ratio_verdict"]) == ("2.0", "faster")
    assert (measured["notes"], measured["sha256"]) == ("a, b; c", "aa")
    assert csv_text(run()) == ""


# The part of MLflow's API that is used, as documented.


def set_experiment(experiment_name: str | None = None, experiment_id: str | None = None) -> None:
    pass


def start_run(
    run_id: str | None = None,
    experiment_id: str | None = None,
    run_name: str | None = None,
    nested: bool = False,
    parent_run_id: str | None = None,
    tags: dict[str, Any] | None = None,
    description: str | None = None,
    log_system_metrics: bool | None = None,
) -> Any:
    pass


def log_params(
    params: dict[str, Any], synchronous: bool | None = None, run_id: str | None = None
) -> None:
    pass


def log_metrics(
    metrics: dict[str, float], step: int | None = None, synchronous: bool | None = None
) -> None:
    pass


def log_dict(dictionary: dict[str, Any], artifact_file: str, run_id: str | None = None) -> None:
    pass


def set_tags(tags: dict[str, Any], synchronous: bool | None = None) -> None:
    pass


class MlflowException(Exception):  # noqa: N818, as MLflow calls it
    pass


API = (set_experiment, start_run, log_params, log_metrics, log_dict, set_tags)


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    module = ModuleType("mlflow")
    monkeypatch.setattr(module, "MlflowException", MlflowException, raising=False)
    calls = mock.Mock()
    for function in API:
        standin = mock.create_autospec(function)
        calls.attach_mock(standin, function.__name__)
        setattr(module, function.__name__, standin)
    active = mock.MagicMock()
    active.__enter__.return_value = SimpleNamespace(info=SimpleNamespace(run_id="0123"))
    calls.start_run.return_value = active
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return calls


def test_a_run_becomes_a_run_of_mlflow_with_a_nested_one_for_each_row(mlflow: mock.Mock) -> None:
    measured = run(row(), full())
    assert export_run(measured, "mine") == "0123"
    mlflow.set_experiment.assert_called_once_with("mine")
    outer, *inner = mlflow.start_run.call_args_list
    assert outer.kwargs["run_name"] == "bcdfgh"
    assert outer.kwargs["tags"] == {
        "cpu": "A CPU",
        "os": "Linux",
        "finished": "True",
        "trusted": "True",
    }
    assert [call.kwargs for call in inner] == [
        {"run_name": "m.onnx fp32 cpu", "nested": True},
        {"run_name": "m.onnx int8 cpu", "nested": True},
    ]
    parameters = mlflow.log_params.call_args_list[-1].args[0]
    assert parameters["precision"] == "int8"
    assert parameters["batch"] == 1
    assert "rate" not in parameters
    metrics = mlflow.log_metrics.call_args_list[-1].args[0]
    assert metrics["accuracy_value"] == 0.8
    assert metrics["size_bytes"] == 1000
    assert not {"batch", "trusted", "accuracy_metric", "load_seconds"} & set(metrics)
    assert mlflow.set_tags.call_args_list[-1].args[0]["ratio_verdict"] == "faster"
    document, name = mlflow.log_dict.call_args.args
    assert (document["rows"][0]["precision"], name) == ("fp32", "result.json")


def test_what_mlflow_refuses_is_one_line(mlflow: mock.Mock) -> None:
    mlflow.set_experiment.side_effect = MlflowException("no such server\nsee our pages")
    with pytest.raises(StorageError, match=r"does not take the run: no such server \(MLFLOW_TRACK"):
        export_run(run(row()))


def test_without_mlflow_the_install_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UnfitError, match=r"`pip install 'qbench-onnx\[mlflow\]'`"):
        export_run(run(row()))


def test_flat_rows_keep_their_types() -> None:
    (line,) = flat_rows(run(full()))
    assert (line["trusted"], line["latency_ms_median"], line["build_seconds"]) == (True, 2.0, None)
