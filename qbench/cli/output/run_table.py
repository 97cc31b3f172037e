"""How kept runs look: as a list for a terminal of 80 columns, and one of them as Markdown."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.table import Table
from rich.text import Text

from qbench.benchmarking.result import RunResult
from qbench.cli.output.result_notes import footnotes
from qbench.cli.output.result_table import result_table
from qbench.runs.reader import Summary

_TRUST = {None: "-", True: "yes", False: "no"}


def run_table(found: Iterable[Summary]) -> Table:
    """Return one line per run."""
    table = Table(box=None, pad_edge=False)
    table.add_column("run", no_wrap=True)
    table.add_column("when", no_wrap=True)
    table.add_column("models", overflow="fold", max_width=28)
    table.add_column("rows", justify="right")
    table.add_column("finished")
    table.add_column("trusted")
    for run in found:
        table.add_row(
            run.id,
            f"{datetime.fromisoformat(run.began).astimezone():%Y-%m-%d %H:%M}",
            Text(", ".join(run.models)),
            str(run.rows),
            "yes" if run.finished else "no",
            _TRUST[run.trusted],
        )
    return table


def markdown(result: RunResult) -> str:
    """Return the table of `qbench bench` in Markdown, and its footnotes as a list."""
    table = result_table(result)
    headings = [str(column.header) for column in table.columns]
    rules = ["---:" if column.justify == "right" else "---" for column in table.columns]
    cells = zip(*(map(str, column.cells) for column in table.columns), strict=True)
    lines = [_line(line) for line in (headings, rules, *cells)]
    notes = [f"- {_plain(note)}" for note in footnotes(result)]
    return "\n".join([*lines, "", *notes, ""])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_plain, cells))} |"


def _plain(text: str) -> str:
    """Return a text that ends no cell and is no markup."""
    for mark in "\\|*<_`":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
