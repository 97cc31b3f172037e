"""The table of a benchmark, for a terminal of 80 columns."""

from rich.table import Table

from qbench.benchmarking.result import Row, RunResult
from qbench.cli.render import percent, size_text

_SIMULATED = " (simulated)"


def result_table(result: RunResult) -> Table:
    """Return one line per row; the model's column only where there are several models."""
    table = Table(box=None, pad_edge=False)
    several = len({row.model for row in result.rows}) > 1
    if several:
        table.add_column("model", overflow="fold")
    for name in ("precision", "provider"):
        table.add_column(name)
    for name in ("accuracy", "latency", "ratio [95 %]"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    table.add_column("size", justify="right")
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
        half = percent((first.ci_high - first.ci_low) / 2)
        lines.append(f"accuracy: {first.metric} on {first.n} images, 95 % interval about +-{half}")
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


def _cells(row: Row, *, is_first: bool) -> list[str]:
    provider = row.provider.replace(_SIMULATED, "*")
    accuracy = percent(row.accuracy.value) if row.accuracy else "-"
    size = size_text(row.size_bytes) if row.size_bytes is not None else "-"
    return [row.precision, provider, accuracy, *_timing(row, is_first=is_first), size]


def _timing(row: Row, *, is_first: bool) -> list[str]:
    if row.latency_ms is None or row.ratio is None:
        return ["-", "-", "failed" if row.error else ""]
    latency, ratio = f"{row.latency_ms.median:.2f} ms", row.ratio
    if is_first:
        return [latency, "1", "baseline"]
    interval = f"{ratio.value:.2f} [{ratio.ci_low:.2f}, {ratio.ci_high:.2f}]"
    return [latency, interval, ratio.verdict]
