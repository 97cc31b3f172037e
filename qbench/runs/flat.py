"""Runs as flat lines, whose columns keep their names."""

import csv
import io
from typing import Any, get_args

import msgspec

from qbench.benchmarking.result import Accuracy, FurtherMetric
from qbench.runs.run import Run

Value = str | float | int | bool | None

_ACCURACY = ("metric", "value", "n", "ci_low", "ci_high")
_INTERVAL = ("value", "ci_low", "ci_high")
_LATENCY = ("median", "mad", "min", "p90", "p95", "p99")
_RATIO = ("value", "ci_low", "ci_high", "verdict")
_PLAIN = (
    "throughput_per_s",
    "missed_share",
    "size_bytes",
    "peak_rss_bytes",
    "device_memory_bytes",
    "build_seconds",
    "load_seconds",
    "first_inference_seconds",
    "loads",
    "voided_rounds",
    "error",
)

_COLUMNS: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in ("model", "sha256", "precision", "provider")},
    **{name: (name,) for name in ("batch", "threads", "streams", "mode", "rate")},
    **{f"accuracy_{name}": ("accuracy", name) for name in _ACCURACY},
    **{f"accuracy_difference_{name}": ("accuracy", "difference", name) for name in _INTERVAL},
    **{f"latency_ms_{name}": ("latency_ms", name) for name in _LATENCY},
    **{f"ratio_{name}": ("ratio", name) for name in _RATIO},
    **{name: (name,) for name in _PLAIN},
}
"""The columns of a row, and where its document holds them."""


def flat_rows(run: Run) -> list[dict[str, Value]]:
    """Return a flat line for each row, all with the same columns; None where nothing is known."""
    lines = []
    for row in run.result.rows:
        document = msgspec.to_builtins(row)
        own = {column: _at(document, place) for column, place in _COLUMNS.items()}
        lines.append(
            {
                "run": run.id,
                "time_utc": run.result.environment.time_utc,
                "finished": run.finished,
                "trusted": run.result.trusted,
                "cpu": run.result.environment.cpu,
                **own,
                **_others(row.accuracy),
                "notes": "; ".join(row.notes),
            }
        )
    return lines


def csv_text(run: Run) -> str:
    """Return a run as CSV: a heading, and one line for each row."""
    lines = flat_rows(run)
    text = io.StringIO()
    if lines:
        writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    return text.getvalue()


def _others(accuracy: Accuracy | None) -> dict[str, Value]:
    """Return the further figures of an accuracy, a column for each that there may be."""
    known = {figure.metric: figure.value for figure in accuracy.others} if accuracy else {}
    return {f"accuracy_{metric}": known.get(metric) for metric in get_args(FurtherMetric)}


def _at(document: Any, place: tuple[str, ...]) -> Value:
    """Return what lies at a place in a document; None where a part of the way is missing."""
    for name in place:
        if document is None:
            return None
        document = document.get(name)
    found: Value = document
    return found
