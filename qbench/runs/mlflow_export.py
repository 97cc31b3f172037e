"""Runs in MLflow: one of its runs for each of ours, with one nested run for each row."""

from importlib import import_module
from types import ModuleType

import msgspec

from qbench.errors import StorageError, UnfitError
from qbench.runs.flat import Value, flat_rows
from qbench.runs.run import Run

EXPERIMENT = "qbench"
"""What runs are put in."""

_PARAMETERS = ("model", "precision", "provider", "batch", "threads", "streams", "mode", "rate")


def export_run(run: Run, experiment: str = EXPERIMENT) -> str:
    """Write a run where MLflow is told to, such as by MLFLOW_TRACKING_URI; return MLflow's id.

    Raises:
        UnfitError: MLflow is not installed.
        StorageError: MLflow cannot write there.
    """
    mlflow = _mlflow()
    try:
        return _write_run(mlflow, run, experiment)
    except mlflow.MlflowException as error:
        reason = str(error).partition("\n")[0]
        raise StorageError(
            f"MLflow does not take the run: {reason} (MLFLOW_TRACKING_URI says where it goes)"
        ) from error


def _write_run(mlflow: ModuleType, run: Run, experiment: str) -> str:
    mlflow.set_experiment(experiment)
    with mlflow.start_run(run_name=run.id, tags=_tags(run)) as written:
        mlflow.log_params(msgspec.to_builtins(run.result.settings))
        mlflow.log_dict(msgspec.to_builtins(run.result), "result.json")
        for line in flat_rows(run):
            _write_row(mlflow, line)
    return str(written.info.run_id)


def _write_row(mlflow: ModuleType, line: dict[str, Value]) -> None:
    """Write a row: what it measures as parameters, its figures as metrics, all else as tags."""
    figures = {
        name: float(value)
        for name, value in line.items()
        if isinstance(value, (int, float))
        and not isinstance(value, bool)
        and name not in _PARAMETERS
    }
    texts = {name: value for name, value in line.items() if isinstance(value, str) and value}
    name = " ".join(str(line[part]) for part in ("model", "precision", "provider"))
    with mlflow.start_run(run_name=name, nested=True):
        mlflow.log_params({p: line[p] for p in _PARAMETERS if line[p] is not None})
        mlflow.log_metrics(figures)
        mlflow.set_tags({key: text for key, text in texts.items() if key not in _PARAMETERS})


def _tags(run: Run) -> dict[str, str]:
    machine = run.result.environment
    known = {"cpu": machine.cpu, "os": machine.os, "git_commit": machine.git_commit}
    state = {"finished": str(run.finished), "trusted": str(run.result.trusted)}
    return {**{name: text for name, text in known.items() if text}, **state}


def _mlflow() -> ModuleType:
    try:
        return import_module("mlflow")
    except ImportError as error:
        raise UnfitError(
            f"MLflow does not load ({error}); `pip install 'qbench-onnx[mlflow]'`"
        ) from error
