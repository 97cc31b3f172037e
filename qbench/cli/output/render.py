"""What commands print: documents, tables, fields and bars."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from shutil import get_terminal_size
from typing import TYPE_CHECKING

import click

from qbench.formatting import MINUS
from qbench.formatting import count_text as count_text
from qbench.formatting import counted as counted
from qbench.formatting import digits as digits
from qbench.formatting import percent as percent
from qbench.formatting import size_text as size_text

if TYPE_CHECKING:
    from rich.table import Table

    from qbench.engines.auditing.engine import NodeFinding
    from qbench.placement.plan import FloatNode
    from qbench.quantization.linting.finding import Finding


_WIDE = 10_000


def print_json(document: object) -> None:
    """Print a document as indented JSON on stdout."""
    from qbench.artifacts import json_bytes

    click.echo(json_bytes(document).decode())


def plain_minus(text: str) -> str:
    """Return a text with the minus that every terminal and encoding has."""
    return text.replace(MINUS, "-")


def output_width() -> int:
    """Return the columns of the terminal, or those of the lines in a file: 100, or $COLUMNS."""
    return get_terminal_size((100, 24)).columns


def natural_width(table: Table) -> int:
    """Return the columns of a table that need not be squeezed."""
    from rich.console import Console

    return Console(width=_WIDE).measure(table).maximum


def print_table(table: Table, width: int | None = None) -> None:
    """Print a table on stdout, in a width or that of the output, without blanks at its right.

    Its cells stand as they are: the names in them are no markup.
    """
    from rich.console import Console

    console = Console(width=width or output_width(), highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        click.echo(line.rstrip())


def print_heading(text: str) -> None:
    """Print a line that stands above others, bold on a terminal, and wrapped to it."""
    from textwrap import fill

    click.secho(fill(text, get_terminal_size((80, 24)).columns), bold=True)


def print_field(label: str, text: str) -> None:
    """Print a labelled text, wrapped to the terminal behind its label."""
    from textwrap import fill

    width = max(40, get_terminal_size((80, 24)).columns)
    click.echo(fill(f"{label:<11} {text}", width, subsequent_indent=" " * 12))


def print_notes(notes: Iterable[str]) -> None:
    """Print remarks on a result, such as those below a table, wrapped to the terminal."""
    from textwrap import fill

    width = get_terminal_size((80, 24)).columns
    for note in notes:
        click.echo(fill(note, width, subsequent_indent="  "))


def print_first(most: int, lines: Sequence[tuple[str, str]]) -> None:
    """Print the first `most` labelled texts, and how many are left out."""
    for label, text in lines[:most]:
        print_field(label, text)
    if len(lines) > most:
        print_field("", f"{len(lines) - most} more; --json lists them")


def print_floats(most: int, nodes: Sequence[FloatNode], label: str = "float") -> None:
    """Print why nodes are not on integers, in the first `most` lines: alike ones share theirs."""
    print_first(most, _alike((f"  {label}", n.name, n.op_type, n.reason) for n in nodes))


def print_not_int8(most: int, nodes: Sequence[NodeFinding]) -> None:
    """Print which nodes an engine or a kernel computes in another type, as `print_floats` does."""
    print_first(most, _alike((f"  {n.dtype}", n.node, n.op_type, n.reason) for n in nodes))


def _alike(nodes: Iterable[tuple[str, str, str, str]]) -> list[tuple[str, str]]:
    """Return a labelled line for those nodes that have but their name for themselves.

    Args:
        nodes: Label, name, operator and reason of each.
    """
    from qbench.formatting import first_names

    names: dict[tuple[str, str, str], list[str]] = {}
    for label, name, op_type, reason in nodes:
        names.setdefault((label, op_type, reason), []).append(name)
    return [
        (label, f"{first_names(found)} ({op_type}): {reason}")
        for (label, op_type, reason), found in names.items()
    ]


def print_findings(findings: Sequence[Finding]) -> None:
    """Print a line for each rule that is broken: how often, the first place, and the fix."""
    if not findings:
        print_field("rules", "all kept")
    for _, group in groupby(findings, key=lambda finding: (finding.rule, finding.fix)):
        first, *others = group
        more = f" (and {len(others)} more)" if others else ""
        print_field(first.severity, f"{first.rule}: {first.node}: {first.reason}{more}")
        print_field("  fix", first.fix)


@contextmanager
def progress(what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a callback (done, total) that moves a bar on stderr, where stderr is a terminal."""
    from tqdm import tqdm

    with tqdm(
        desc=what, unit=unit, disable=not sys.stderr.isatty(), leave=False, dynamic_ncols=True
    ) as bar:

        def report(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield report
