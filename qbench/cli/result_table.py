"""The table of a benchmark, for a terminal of 80 columns."""

from rich.table import Table

from qbench.benchmarking.result import Row, RunResult
from qbench.benchmarking.stats import Interval
from qbench.cli.render import digits, percent

_SIMULATED = " (simulated)"

_WORDS = {
    "agreement": "detections in common with FP32",
    "top1_agreement": "the same class first as with FP32",
    "cosine": "cosine with FP32",
    "sqnr_db": "SQNR in dB",
    "retrieval": "the same nearest image as with FP32",
}
"""What metrics are called that their names do not tell."""


def result_table(result: RunResult) -> Table:
    """Return one line per row; the model's column only where there are several models."""
    table = Table(box=None, pad_edge=False)
    several = len({row.model for row in result.rows}) > 1
    if several:
        table.add_column("model", overflow="fold")
    for name in ("precision", "provider"):
        table.add_column(name)
    for name in ("accuracy", "ms", "ratio [95 %]"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    table.add_column("MiB", justify="right")
    baseline = next((row for row in result.rows if row.latency_ms), None)
    for row in result.rows:
        table.add_row(*([row.model] if several else []), *_cells(row, is_first=row is baseline))
    return table


def footnotes(result: RunResult) -> list[str]:
    """Return the lines below the table: metric, errors, notes, and whether to trust it."""
    lines = ["ratio: time of the first row / time of the row"]
    judged = [row.accuracy for row in result.rows if row.accuracy]
    if judged:
        first = judged[0]
        widest = max(accuracy.ci_high - accuracy.ci_low for accuracy in judged)
        half = _text(first.metric, widest / 2)
        metric = _WORDS.get(first.metric, first.metric)
        lines.append(f"accuracy: {metric} on {first.n} images, 95 % interval about +-{half}")
        lines += _changes(result) + _others(result)
    if any(row.provider.endswith(_SIMULATED) for row in result.rows):
        lines.append("*: computed with exact arithmetic, as the target would; not timed")
    notes: dict[str, list[str]] = {}
    for row in result.rows:
        for text in (*row.notes, *([row.error] if row.error else [])):
            notes.setdefault(text, []).append(f"{row.precision} {row.provider}")
    lines += [f"{', '.join(rows)}: {text}" for text, rows in notes.items()]
    if not result.trusted:
        lines.append("NOT TRUSTED: two identical candidates differed by more than 1 %; run again")
    return lines


def _changes(result: RunResult) -> list[str]:
    """Return one line with the differences of accuracy to the first row, if there are any."""
    changes = [
        f"{row.precision} {_provider(row)} {_change(row.accuracy.metric, row.accuracy.difference)}"
        for row in result.rows
        if row.accuracy and row.accuracy.difference
    ]
    return [f"accuracy minus that of the first row: {', '.join(changes)}"] if changes else []


def _others(result: RunResult) -> list[str]:
    """Return one line for each further figure."""
    texts: dict[str, list[str]] = {}
    for row in result.rows:
        for figure in row.accuracy.others if row.accuracy else ():
            texts.setdefault(figure.metric, []).append(
                f"{row.precision} {_provider(row)} {_text(figure.metric, figure.value)}"
            )
    return [f"{_WORDS.get(metric, metric)}: {', '.join(rows)}" for metric, rows in texts.items()]


def _text(metric: str, value: float) -> str:
    if metric == "sqnr_db":
        return f"{value:.1f}"
    return f"{value:.4f}" if metric == "cosine" else percent(value)


def _change(metric: str, change: Interval) -> str:
    if metric == "cosine":
        return f"{change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}]"
    return f"{100 * change.value:+.1f} [{100 * change.low:+.1f}, {100 * change.high:+.1f}] %"


def _cells(row: Row, *, is_first: bool) -> list[str]:
    accuracy = "-" if row.accuracy is None else _text(row.accuracy.metric, row.accuracy.value)
    size = digits(row.size_bytes / (1 << 20)) if row.size_bytes is not None else "-"
    return [row.precision, _provider(row), accuracy, *_timing(row, is_first=is_first), size]


def _provider(row: Row) -> str:
    return row.provider.replace(_SIMULATED, "*")


def _timing(row: Row, *, is_first: bool) -> list[str]:
    if row.latency_ms is None or row.ratio is None:
        return ["-", "-", "failed" if row.error else ""]
    latency, ratio = digits(row.latency_ms.median), row.ratio
    if is_first:
        return [latency, "1", "baseline"]
    interval = f"{digits(ratio.value)} [{digits(ratio.ci_low)}, {digits(ratio.ci_high)}]"
    return [latency, interval, ratio.verdict]
