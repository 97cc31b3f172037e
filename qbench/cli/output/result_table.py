"""The table of a benchmark, for a terminal of 80 columns."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from shutil import get_terminal_size

import click
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from qbench.benchmarking.presentation.metric_text import figure_text
from qbench.benchmarking.presentation.naming import is_baseline
from qbench.benchmarking.result import Row, RunResult
from qbench.cli.output.render import digits, print_heading, print_notes, print_table
from qbench.cli.output.result_notes import (
    AXES,
    footnotes,
    mode_of,
    provider_text,
    shows_provider,
    varying,
)
from qbench.formatting import interval_text

_HEADINGS = ("model", "precision", "provider")
"""Columns that can become headings, from the outermost one."""

_TEXTS = {"model", "precision", "provider", "verdict"}
_NONE = "-"
_GAP = 2
"""Blanks between two columns."""


def print_result(result: RunResult) -> None:
    """Print the table of a run in the terminal's width, and below it what a reader has to know."""
    width = get_terminal_size((80, 24)).columns
    if not result.rows:
        click.echo("no row is finished")
        return
    for heading, part in result_parts(result, width):
        if heading:
            print_heading(heading)
        print_table(part, width)
    print_notes(footnotes(result))


def result_table(result: RunResult) -> Table:
    """Return one line per row, with a column for each axis that varies, however wide that is.

    Batch, threads and streams take the place of the size, and of a provider that is always the
    same.
    """
    return _table(_cells_of(result), _columns(result.rows, varying(result.rows)), {})


def result_parts(result: RunResult, width: int) -> list[tuple[str, Table]]:
    """Return the table in parts that fit a width, each with the heading above it.

    As much of model, precision and provider as does not fit becomes a heading. What is still too
    wide wraps, so that nothing is lost.
    """
    cells = _cells_of(result)
    shown = _columns(result.rows, varying(result.rows))
    above = set()
    for name in _spare(cells):
        if _width(cells, shown) <= width:
            break
        if name in shown:
            shown.remove(name)
            above.add(name)
    fits = _width(cells, shown) <= width
    widths = {name: _widest(cells, name) for name in shown} if fits else {}
    headings = [name for name in _HEADINGS if name in above]
    groups = groupby(cells, lambda row: " ".join(row[name] for name in headings))
    return [
        (heading, _table(list(rows), shown, widths, with_names=number == 0))
        for number, (heading, rows) in enumerate(groups)
    ]


def _spare(cells: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the columns that a table can do without, those first that say least."""
    unjudged = ["accuracy"] if all(row["accuracy"] == _NONE for row in cells) else []
    alike = [name for name in _HEADINGS if len({row[name] for row in cells}) == 1]
    return [*unjudged, *alike, *_HEADINGS]


def _table(
    rows: Sequence[Mapping[str, str]],
    shown: Sequence[str],
    widths: Mapping[str, int],
    *,
    with_names: bool = True,
) -> Table:
    table = Table(box=None, pad_edge=False, show_header=with_names)
    for name in shown:
        table.add_column(
            name,
            justify="left" if name in _TEXTS else "right",
            overflow="fold",
            min_width=widths.get(name),
        )
    for row in rows:
        table.add_row(*(Text(row[name]) for name in shown))
    return table


def _width(cells: Sequence[Mapping[str, str]], shown: Sequence[str]) -> int:
    """Return the width of a table that wraps nothing."""
    return sum(_widest(cells, name) for name in shown) + _GAP * (len(shown) - 1)


def _widest(cells: Sequence[Mapping[str, str]], name: str) -> int:
    return max(cell_len(text) for text in (name, *(row[name] for row in cells)))


def _cells_of(result: RunResult) -> list[dict[str, str]]:
    """Return the texts of all rows."""
    return [_cells(row) for row in result.rows]


def _columns(rows: Sequence[Row], axes: Sequence[str]) -> list[str]:
    mode = mode_of(rows)
    model = ["model"] if len({row.model for row in rows}) > 1 else []
    provider = ["provider"] if shows_provider(rows) else []
    figures = {"latency": ["ms"], "throughput": ["img/s"], "paced": ["ms", "p99"]}[mode]
    size = ["MiB"] if not axes and mode != "paced" else []
    shown = [*model, "precision", *provider, *(AXES[axis] for axis in axes), "accuracy"]
    return [*shown, *figures, "ratio [95 %]", "verdict", *size]


def _cells(row: Row) -> dict[str, str]:
    """Return the texts of a row by the names of all columns."""
    accuracy, latency = row.accuracy, row.latency_ms
    ratio, verdict = _ratio(row)
    return {
        "model": row.model,
        "precision": row.precision,
        "provider": provider_text(row),
        **{name: str(getattr(row, axis) or "all") for axis, name in AXES.items()},
        "accuracy": figure_text(accuracy.metric, accuracy.value) if accuracy else _NONE,
        "ms": _digits(latency.median if latency else None),
        "p99": _digits(latency.p99 if latency else None),
        "img/s": _digits(row.throughput_per_s),
        "ratio [95 %]": ratio,
        "verdict": verdict,
        "MiB": _digits(row.size_bytes / (1 << 20) if row.size_bytes is not None else None),
    }


def _digits(value: float | None) -> str:
    return _NONE if value is None else digits(value)


def _ratio(row: Row) -> tuple[str, str]:
    if row.latency_ms is None or row.ratio is None:
        return _NONE, "failed" if row.error else ""
    if is_baseline(row.ratio):
        return "1", "baseline"
    ratio = row.ratio
    text = f"{digits(ratio.value)} {interval_text(ratio.ci_low, ratio.ci_high)}"
    return text, ratio.verdict
