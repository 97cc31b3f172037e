"""The table of a benchmark, for a terminal of 80 columns."""

from collections.abc import Sequence

from rich.table import Table

from qbench.benchmarking.bearing import is_noisy
from qbench.benchmarking.naming import metric_name
from qbench.benchmarking.result import UNTRUSTED, Mode, Row, RunResult
from qbench.benchmarking.stats import Interval
from qbench.cli.render import digits, percent, print_notes, print_table
from qbench.runtimes.base import OperatorTime

_SIMULATED = " (simulated)"
_PROFILED = 5
_WORTH_NAMING = 0.01

_AXES = {"batch": "batch", "threads": "thr.", "streams": "str."}
"""Axes of the matrix that are shown where they vary, and how their columns are called."""

_RATIO = {
    "latency": "time of the first row / time of the row",
    "throughput": "images per second of the row / those of the first row",
    "paced": "time of the first row / time of the row, from when calls were due",
}


def print_result(result: RunResult) -> None:
    """Print the table of a run, and below it what a reader has to know."""
    print_table(result_table(result))
    print_notes(footnotes(result))


def result_table(result: RunResult) -> Table:
    """Return one line per row, with a column for each axis that varies.

    Batch, threads and streams take the place of the size, and of a provider that is always the
    same.
    """
    table = Table(box=None, pad_edge=False)
    axes = varying(result.rows)
    shown = _columns(result.rows, axes)
    baseline = next((row for row in result.rows if row.latency_ms), None)
    for name in shown:
        is_text = name in {"model", "precision", "provider", "verdict"}
        table.add_column(
            name,
            justify="left" if is_text else "right",
            overflow="fold" if name == "model" else "ellipsis",
        )
    for row in result.rows:
        cells = _cells(row, is_first=row is baseline)
        table.add_row(*(cells[name] for name in shown))
    return table


def varying(rows: Sequence[Row]) -> list[str]:
    """Return which of batch, threads and streams are not the same in all timed rows."""
    timed = [row for row in rows if not row.provider.endswith(_SIMULATED)]
    return [axis for axis in _AXES if len({getattr(row, axis) for row in timed}) > 1]


def _columns(rows: Sequence[Row], axes: Sequence[str]) -> list[str]:
    mode = _mode(rows)
    model = ["model"] if len({row.model for row in rows}) > 1 else []
    provider = ["provider"] if not axes or len({row.provider for row in rows}) > 1 else []
    figures = {"latency": ["ms"], "throughput": ["img/s"], "paced": ["ms", "p99"]}[mode]
    size = ["MiB"] if not axes and mode != "paced" else []
    shown = [*model, "precision", *provider, *(_AXES[axis] for axis in axes), "accuracy"]
    return [*shown, *figures, "ratio [95 %]", "verdict", *size]


def _mode(rows: Sequence[Row]) -> Mode:
    return next((row.mode for row in rows if row.latency_ms), "latency")


def footnotes(result: RunResult) -> list[str]:
    """Return the lines below the table: metric, errors, notes, and whether to trust it."""
    axes = varying(result.rows)
    per_image = ", per image" if "batch" in axes else ""
    lines = [f"ratio: {_RATIO[_mode(result.rows)]}{per_image}"]
    judged = [row.accuracy for row in result.rows if row.accuracy]
    if judged:
        first = judged[0]
        widest = max(accuracy.ci_high - accuracy.ci_low for accuracy in judged)
        half = _text(first.metric, widest / 2)
        metric = metric_name(first.metric)
        lines.append(f"accuracy: {metric} on {first.n} images, 95 % interval about +-{half}")
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
    names = [_name(row) for row in rows]
    labels: dict[str, None] = {}
    for row in noted:
        name = _name(row)
        is_whole = names.count(name) == [_name(other) for other in noted].count(name)
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


def _name(row: Row) -> str:
    return f"{row.precision} {row.provider}"


def _missed(rows: Sequence[Row]) -> list[str]:
    """Return one line with the shares of calls that were late, if there are any."""
    late = [f"{_name(row)} {percent(row.missed_share)}" for row in rows if row.missed_share]
    return [f"not done when the next call was due: {', '.join(late)}"] if late else []


def _changes(result: RunResult) -> list[str]:
    """Return one line with the differences of accuracy to the first row, if there are any."""
    changes = [
        f"{row.precision} {_provider(row)} {_change(row.accuracy.metric, row.accuracy.difference)}"
        for row in result.rows
        if row.accuracy and row.accuracy.difference
    ]
    once = ", ".join(dict.fromkeys(changes))
    return [f"accuracy minus that of the first row: {once}"] if changes else []


def _others(result: RunResult) -> list[str]:
    """Return one line for each further figure."""
    texts: dict[str, dict[str, None]] = {}
    for row in result.rows:
        for figure in row.accuracy.others if row.accuracy else ():
            text = f"{row.precision} {_provider(row)} {_text(figure.metric, figure.value)}"
            texts.setdefault(figure.metric, {})[text] = None  # judged once for all batch sizes
    return [f"{metric_name(metric)}: {', '.join(rows)}" for metric, rows in texts.items()]


def _text(metric: str, value: float) -> str:
    if metric == "sqnr_db":
        return f"{value:.1f}"
    return f"{value:.4f}" if metric == "cosine" else percent(value)


def _change(metric: str, change: Interval) -> str:
    if metric == "cosine":
        return f"{change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}]"
    return f"{100 * change.value:+.1f} [{100 * change.low:+.1f}, {100 * change.high:+.1f}] %"


def _cells(row: Row, *, is_first: bool) -> dict[str, str]:
    """Return the texts of a row by the names of all columns."""
    accuracy, latency = row.accuracy, row.latency_ms
    ratio, verdict = _ratio(row, is_first=is_first)
    return {
        "model": row.model,
        "precision": row.precision,
        "provider": _provider(row),
        **{name: str(getattr(row, axis) or "all") for axis, name in _AXES.items()},
        "accuracy": _text(accuracy.metric, accuracy.value) if accuracy else "-",
        "ms": _digits(latency.median if latency else None),
        "p99": _digits(latency.p99 if latency else None),
        "img/s": _digits(row.throughput_per_s),
        "ratio [95 %]": ratio,
        "verdict": verdict,
        "MiB": _digits(row.size_bytes / (1 << 20) if row.size_bytes is not None else None),
    }


def _digits(value: float | None) -> str:
    return "-" if value is None else digits(value)


def _provider(row: Row) -> str:
    return row.provider.replace(_SIMULATED, "*")


def _ratio(row: Row, *, is_first: bool) -> tuple[str, str]:
    if row.latency_ms is None or row.ratio is None:
        return "-", "failed" if row.error else ""
    if is_first:
        return "1", "baseline"
    ratio = row.ratio
    interval = f"{digits(ratio.value)} [{digits(ratio.ci_low)}, {digits(ratio.ci_high)}]"
    return interval, ratio.verdict
