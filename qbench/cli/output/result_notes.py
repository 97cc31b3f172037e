"""What stands below the table of a benchmark: what its figures mean, and what is amiss."""

from collections.abc import Sequence

from qbench.benchmarking.presentation.bearing import is_noisy
from qbench.benchmarking.presentation.metric_text import change_text, figure_text, is_share
from qbench.benchmarking.presentation.naming import metric_name
from qbench.benchmarking.result import UNTRUSTED, Mode, Row, RunResult
from qbench.benchmarking.stats import Interval
from qbench.cli.output.render import counted, percent, plain_minus
from qbench.runtimes.base import OperatorTime

_SIMULATED = " (simulated)"
_PROFILED = 5
_WORTH_NAMING = 0.01

AXES = {"batch": "batch", "threads": "thr.", "streams": "str."}
"""Axes of the matrix that are shown where they vary, and how their columns are called."""

_RATIO = {
    "latency": "time of the first row / time of the row",
    "throughput": "images per second of the row / those of the first row",
    "paced": "time of the first row / time of the row, from when calls were due",
}


def footnotes(result: RunResult) -> list[str]:
    """Return the lines below the table: metric, errors, notes, and whether to trust it."""
    axes = varying(result.rows)
    per_image = ", per image" if "batch" in axes else ""
    lines = [f"ratio: {_RATIO[mode_of(result.rows)]}{per_image}", *_shared(result.rows)]
    judged = [row.accuracy for row in result.rows if row.accuracy]
    if judged:
        first = judged[0]
        widest = max(accuracy.ci_high - accuracy.ci_low for accuracy in judged)
        half = figure_text(first.metric, widest / 2)
        metric = metric_name(first.metric)
        images = counted(first.n, "image")
        lines.append(f"accuracy: {metric} on {images}, 95 % interval about +-{half}")
        lines += _changes(result) + _others(result)
    if any(row.provider.endswith(_SIMULATED) for row in result.rows):
        lines.append("*: computed with exact arithmetic, as the target would; not timed")
    lines += _missed(result.rows) + _notes(result.rows, axes) + _profiles(result.rows, axes)
    if is_noisy(result) and result.control is not None:
        ends = f"[{result.control.low:.3f}, {result.control.high:.3f}]"
        lines.append(f"noisy: the ratio of two identical candidates is known only to lie in {ends}")
    if not result.trusted:
        lines.append("NOT TRUSTED: two identical candidates differed by more than 1 %; run again")
    return lines


def _shared(rows: Sequence[Row]) -> list[str]:
    """Return one line with what has no column because all timed rows share it, if it is unusual."""
    timed = next((row for row in rows if row.latency_ms), None)
    if timed is None:
        return []
    axes = varying(rows)
    known = {
        timed.provider: not shows_provider(rows),
        f"batch {timed.batch}": timed.batch > 1 and "batch" not in axes,
        f"{timed.threads} threads": timed.threads > 0 and "threads" not in axes,
        f"{timed.streams} streams": timed.streams > 1 and "streams" not in axes,
        f"{timed.rate or 0:g} calls a second": timed.rate is not None,
    }
    shared = [text for text, is_told in known.items() if is_told]
    return [f"all rows: {', '.join(shared)}"] if shared else []


def _notes(rows: Sequence[Row], axes: Sequence[str]) -> list[str]:
    """Return each note and error once, behind the rows that have it."""
    notes: dict[str, list[Row]] = {}
    for row in rows:
        for text in (*row.notes, *([row.error] if row.error else [])):
            if text != UNTRUSTED:
                notes.setdefault(text, []).append(row)
    return [f"{_who(noted, rows, axes)}: {text}" for text, noted in notes.items()]


def _who(noted: Sequence[Row], rows: Sequence[Row], axes: Sequence[str]) -> str:
    """Return which rows are meant, in as few words as say it."""
    if len(noted) == len(rows) > 2:
        return "all rows"
    for axis in axes:
        values = {getattr(row, axis) for row in noted}
        alike = [row for row in rows if getattr(row, axis) in values]
        if len(values) == 1 and len(alike) == len(noted) > 1:
            return f"{axis} {values.pop()}"
    names = [_name(row, rows) for row in rows]
    labels: dict[str, None] = {}
    for row in noted:
        name = _name(row, rows)
        is_whole = names.count(name) == [_name(other, rows) for other in noted].count(name)
        details = [] if is_whole else [f"{axis} {getattr(row, axis)}" for axis in axes]
        labels[" ".join([name, *details])] = None
    return ", ".join(labels)


def _profiles(rows: Sequence[Row], axes: Sequence[str]) -> list[str]:
    """Return what takes most of the time of each row that was profiled."""
    return [
        f"time of {_who([row], rows, axes)}: {', '.join(map(_part, _largest(row)))}"
        for row in rows
        if row.profile
    ]


def _largest(row: Row) -> list[OperatorTime]:
    return [part for part in row.profile[:_PROFILED] if part.share >= _WORTH_NAMING]


def _part(part: OperatorTime) -> str:
    return " ".join(filter(None, (part.operator, part.type, percent(part.share))))


def _name(row: Row, rows: Sequence[Row]) -> str:
    return f"{_model(row, rows)}{row.precision} {row.provider}"


def _model(row: Row, rows: Sequence[Row]) -> str:
    """Return the model of a row, and a blank, where there are several."""
    return f"{row.model} " if len({other.model for other in rows}) > 1 else ""


def _missed(rows: Sequence[Row]) -> list[str]:
    """Return one line with the shares of calls that were late, if there are any."""
    late = [f"{_name(row, rows)} {percent(row.missed_share)}" for row in rows if row.missed_share]
    return [f"not done when the next call was due: {', '.join(late)}"] if late else []


def _changes(result: RunResult) -> list[str]:
    """Return one line with the differences of accuracy to the first row, if there are any."""
    changes = dict.fromkeys(
        f"{_variant(row, result.rows)} {_change(row.accuracy.metric, row.accuracy.difference)}"
        for row in result.rows
        if row.accuracy and row.accuracy.difference
    )
    metric = next((row.accuracy.metric for row in result.rows if row.accuracy), "")
    unit = ", in points" if is_share(metric) else ""
    return [f"accuracy minus that of the first row{unit}: {', '.join(changes)}"] if changes else []


def _others(result: RunResult) -> list[str]:
    """Return one line for each further figure."""
    texts: dict[str, dict[str, None]] = {}
    for row in result.rows:
        for figure in row.accuracy.others if row.accuracy else ():
            text = f"{_variant(row, result.rows)} {figure_text(figure.metric, figure.value)}"
            texts.setdefault(figure.metric, {})[text] = None  # judged once for all batch sizes
    return [f"{metric_name(metric)}: {', '.join(found)}" for metric, found in texts.items()]


def _variant(row: Row, rows: Sequence[Row]) -> str:
    return f"{_model(row, rows)}{row.precision} {provider_text(row)}"


def _change(metric: str, change: Interval) -> str:
    return plain_minus(change_text(metric, change.value, change.low, change.high))


def varying(rows: Sequence[Row]) -> list[str]:
    """Return which of batch, threads and streams are not the same in all timed rows."""
    timed = [row for row in rows if not row.provider.endswith(_SIMULATED)]
    return [axis for axis in AXES if len({getattr(row, axis) for row in timed}) > 1]


def shows_provider(rows: Sequence[Row]) -> bool:
    """Tell whether providers have a column: not where one runs all rows and axes take the place."""
    return not varying(rows) or len({row.provider for row in rows}) > 1


def mode_of(rows: Sequence[Row]) -> Mode:
    """Return the mode of a run."""
    return next((row.mode for row in rows if row.latency_ms), "latency")


def provider_text(row: Row) -> str:
    """Return the provider of a row, marked where it is simulated."""
    return row.provider.replace(_SIMULATED, "*")
