"""How a comparison looks in a terminal of 80 columns."""

from collections import defaultdict
from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from qbench.benchmarking.presentation.metric_text import change_text, figure_text, is_share
from qbench.benchmarking.presentation.naming import metric_name
from qbench.cli.output.render import (
    digits,
    natural_width,
    output_width,
    plain_minus,
    print_notes,
    print_table,
)
from qbench.formatting import interval_text
from qbench.runs.comparing.changes import AccuracyChange, Comparison, RowChange, SpeedChange

_LEGEND = {
    "time": "ratio: time then / time now, above 1 is faster",
    "own baseline": "ratio of rows marked *: speed-up over the own baseline, now / then",
}


_REMEDY = "bench both with `qbench bench --baseline`"


def print_comparison(comparison: Comparison, remedy: str = _REMEDY) -> None:
    """Print the table of a comparison, and below it what a reader has to know.

    Args:
        comparison: What to print.
        remedy: What to do so that both runs are measured in one session; empty for nothing.
    """
    if comparison.rows:
        table = comparison_table(comparison)
        fits = natural_width(table) <= output_width()
        print_table(table if fits else comparison_table(comparison, "\n"))
    print_notes(notes(comparison, remedy))


def comparison_table(comparison: Comparison, between: str = " ") -> Table:
    """Return one line per row; the model's name only where there are several.

    Args:
        comparison: What to show.
        between: What stands between a figure and its interval; the end of a line makes two lines of
            each row.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("row", overflow="fold")
    table.add_column("accuracy", justify="right", no_wrap=True)
    table.add_column(f"change{between}[95 %]", justify="right", no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column(f"ratio{between}[95 %]", justify="right", no_wrap=True)
    table.add_column("verdict")
    for row in comparison.rows:
        cells = (*_accuracy(row.accuracy), *_speed(row))
        figures = (cell.replace(" [", f"{between}[") for cell in cells)
        table.add_row(Text(_name(row, comparison)), *figures)
    return table


def notes(comparison: Comparison, remedy: str) -> Iterator[str]:
    """Yield the lines below the table; `remedy` as of `print_comparison`."""
    yield f"{comparison.before} -> {comparison.after}"
    bases = {row.speed.basis for row in comparison.rows if row.speed}
    yield from (text for basis, text in _LEGEND.items() if basis in bases)
    if comparison.machine:
        yield (
            "different machines, so that milliseconds are not compared: "
            + "; ".join(comparison.machine)
        )
    elif not comparison.together and "time" in bases:
        text = "measured in two sessions, and intervals are wider by what these may differ"
        yield f"{text}; to measure both in one, {remedy}" if remedy else text
    if comparison.software:
        yield "software: " + "; ".join(comparison.software)
    if any(row.accuracy and row.accuracy.verdict is None for row in comparison.rows):
        yield "accuracy was not judged on the same images, or not known to be"
    yield from _further(comparison)
    yield from (f"{row.label}: {note}" for row in comparison.rows for note in row.notes)
    yield from _others(comparison)
    if not comparison.trusted:
        yield "NOT TRUSTED: identical candidates differed by more than 1 % in one of the runs"


def _others(comparison: Comparison) -> Iterator[str]:
    if not comparison.rows:
        yield "no row of the one measures what a row of the other does"
    if comparison.only_before:
        yield f"only in {comparison.before}: {', '.join(comparison.only_before)}"
    if comparison.only_after:
        yield f"only in {comparison.after}: {', '.join(comparison.only_after)}"


def _accuracy(change: AccuracyChange | None) -> tuple[str, str]:
    if change is None:
        return "-", "-"
    return figure_text(change.metric, change.after), _change(change)


def _change(change: AccuracyChange) -> str:
    text = change_text(change.metric, change.difference, change.ci_low, change.ci_high)
    return plain_minus(text)


def _further(comparison: Comparison) -> Iterator[str]:
    """Yield one line for each further figure beside accuracy; rows with the same share a text."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in comparison.rows:
        for figure in row.accuracy.others if row.accuracy else ():
            words = (figure_text(figure.metric, figure.after), _change(figure), figure.verdict)
            text = " ".join(filter(None, words))
            found[figure.metric][text].append(_name(row, comparison))
    for metric, rows in found.items():
        unit = " in points" if is_share(metric) else ""
        texts = (f"{', '.join(names)} {text}" for text, names in rows.items())
        yield f"{metric_name(metric)}, and its change{unit}: {'; '.join(texts)}"


def _name(row: RowChange, comparison: Comparison) -> str:
    """Return the label of a row; the model's name only where there are several."""
    several = len({other.model for other in comparison.rows}) > 1
    return row.label if several else row.label.removeprefix(f"{row.model} ")


def _speed(row: RowChange) -> tuple[str, str, str]:
    if row.speed is None:
        return "-", "-", "broken" if row.broken else ""
    mark = "*" if row.speed.basis == "own baseline" else ""
    after = "-" if mark else digits(row.speed.after)
    return after, _ratio(row.speed) + mark, row.speed.verdict or "unknown"


def _ratio(change: SpeedChange) -> str:
    text = digits(change.ratio)
    if change.ci_low is None or change.ci_high is None:
        return text
    return f"{text} {interval_text(change.ci_low, change.ci_high)}"
