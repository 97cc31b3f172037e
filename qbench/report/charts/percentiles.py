"""Percentiles of calls that a clock started, beside when the next call was due."""

from collections.abc import Sequence

import altair as alt

from qbench.benchmarking.presentation.naming import named_rows
from qbench.benchmarking.result import Row
from qbench.formatting import digits, percent
from qbench.report.charts.common import (
    Chart,
    Record,
    by_precision,
    by_row,
    data,
    dressed,
    log_scale,
    record,
    told,
)
from qbench.report.contents import Contents
from qbench.report.theme import Theme

_NAMES = ("median", "p90", "p95", "p99")
_SHAPES = ("circle", "square", "diamond", "triangle-up")
_LINE = 34
_AXIS = 110


def draw_percentiles(contents: Contents, theme: Theme) -> Chart | None:
    """Return the percentiles of the rows of mode `paced` that were timed."""
    rows = [(row, name) for name, row in named_rows(contents.result) if row.rate and row.latency_ms]
    points = [item for row, name in rows for item in _points(row, name)]
    if not points:
        return None
    periods = dict.fromkeys(1e3 / row.rate for row, _ in rows if row.rate)
    scale, ticks = log_scale([*(item["ms"] for item in points), *periods])
    axis = alt.Axis(title="ms from when a call was due, log scale", values=ticks, format="~g")
    x = alt.X("ms:Q", scale=scale, axis=axis)
    layers = [_due(list(periods), theme, x), *_marks(points, theme, x)]
    return dressed(layers, theme, _LINE * len(rows) + _AXIS)


def _points(row: Row, name: str) -> list[Record]:
    known = {key: getattr(row.latency_ms, key) for key in _NAMES}
    late = "" if row.missed_share is None else percent(row.missed_share)
    return [
        record(
            {"row": name, "percentile": key, "latency": f"{digits(ms)} ms", "late calls": late},
            precision=row.precision,
            ms=ms,
        )
        for key, ms in known.items()
        if ms is not None
    ]


def _due(periods: Sequence[float], theme: Theme, x: alt.X) -> alt.Chart:
    """Return a line where the next call is due, for each rate."""
    base = alt.Chart(data([{"ms": period} for period in periods]))
    line: alt.Chart = base.mark_rule(
        color=theme["muted"], strokeDash=[4, 3], strokeWidth=1.5, aria=False
    ).encode(x=x)
    return line


def _marks(points: Sequence[Record], theme: Theme, x: alt.X) -> list[alt.Chart]:
    """Return the points of each row, and the line that joins them."""
    shape = alt.Shape(
        "percentile:N",
        scale=alt.Scale(domain=list(_NAMES), range=list(_SHAPES)),
        legend=alt.Legend(title=None),
    )
    base = alt.Chart(data(points)).encode(
        x=x, y=by_row(points, theme), color=by_precision(points, theme)
    )
    return [
        base.mark_line(strokeWidth=2, aria=False).encode(detail="row:N"),
        base.mark_point(filled=True, size=90, opacity=1).encode(
            shape=shape, **told(("row", "percentile", "latency", "late calls"))
        ),
    ]
