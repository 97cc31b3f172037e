"""The table of a benchmark in HTML: for notebooks as it stands, and for the report's page.

Names, notes and errors come from files: everything is escaped, and there is no script.
"""

from html import escape

from qbench.benchmarking.presentation.bearing import bearing
from qbench.benchmarking.presentation.columns import Column, columns_for
from qbench.benchmarking.result import Row, RunResult

_STYLE = """<style>
.qbench td, .qbench th { white-space: nowrap; text-align: left }
.qbench .figure { text-align: right }
.qbench .error, .qbench .note { font-size: smaller }
</style>"""


def result_html(result: RunResult) -> str:
    """Return the table and, below it, what its figures can bear."""
    sentences = " ".join(bearing(result))
    return f"{_STYLE}\n{table_html(result)}\n<p>{escape(sentences)}</p>"


def table_html(result: RunResult) -> str:
    """Return a `<table>` with a `<tbody>` for each row, so that a row moves with its notes.

    A cell that can be sorted by has its value in `data-sort`.
    """
    columns = columns_for(result.rows)
    heads = "".join(_head(column) for column in columns)
    bodies = "\n".join(_body(row, columns) for row in result.rows)
    return f'<table class="qbench">\n<thead><tr>{heads}</tr></thead>\n{bodies}\n</table>'


def _head(column: Column) -> str:
    about, title = escape(column.about), escape(column.title)
    return f'<th scope="col"{_kind(column)} title="{about}">{title}</th>'


def _body(row: Row, columns: list[Column]) -> str:
    cells = "".join(_cell(row, column) for column in columns)
    notes = "".join(
        f'<tr class="{kind}"><td colspan="{len(columns)}"><span>{escape(text)}</span></td></tr>'
        for kind, text in (("error", row.error), ("note", "; ".join(row.notes)))
        if text
    )
    return f"<tbody><tr>{cells}</tr>{notes}</tbody>"


def _cell(row: Row, column: Column) -> str:
    value, text = column.cell(row)
    sort = "" if value is None else f' data-sort="{escape(str(value))}"'
    return f"<td{_kind(column)}{sort}>{escape(text)}</td>"


def _kind(column: Column) -> str:
    return "" if column.text is None else ' class="figure"'
