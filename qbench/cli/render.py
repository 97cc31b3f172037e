"""How figures look: formatted once, here, at the edge."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

    from qbench.quantization.linting.finding import Finding

_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def print_json(document: Any) -> None:
    """Print a document as indented JSON on stdout."""
    from qbench.artifacts import json_bytes

    click.echo(json_bytes(document).decode())


def print_table(table: Table) -> None:
    """Print a table on stdout, in the terminal's width; 100 columns into a file."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 100
    Console(width=width, highlight=False).print(table)


def print_field(label: str, text: str) -> None:
    """Print a labelled text, wrapped to the terminal behind its label."""
    from textwrap import fill

    width = max(40, get_terminal_size((80, 24)).columns)
    click.echo(fill(f"{label:<11} {text}", width, subsequent_indent=" " * 12))


def print_findings(findings: Sequence[Finding]) -> None:
    """Print a line for each rule that is broken: how often, the first place, and the fix."""
    if not findings:
        print_field("rules", "all kept")
    for _, group in groupby(findings, key=lambda finding: (finding.rule, finding.fix)):
        first, *others = group
        more = f" (and {len(others)} more)" if others else ""
        print_field(first.severity, f"{first.rule}: {first.node}: {first.reason}{more}")
        print_field("  fix", first.fix)


def size_text(size: float) -> str:
    """Return a size in bytes as in `4.7 MiB`."""
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size:.0f} B"


def count_text(count: float) -> str:
    """Return a large count as in `4.7 M`."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.2f} {name}"
    return f"{count:.0f}"


def digits(value: float) -> str:
    """Return a figure with two decimals below 10, one below 1000, and none above."""
    for limit, decimals in ((10, 2), (1000, 1)):
        if abs(value) < limit:
            return f"{value:.{decimals}f}"
    return f"{value:.0f}"


def percent(share: float) -> str:
    """Return a share as in `95.0 %`."""
    return f"{100 * share:.1f} %"


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
