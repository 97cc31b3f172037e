"""Accuracy against latency, with intervals and the rows that no other row beats in both."""

from collections.abc import Sequence

import altair as alt

from qbench.benchmarking.columns import accuracy_text, speedup_text, verdict_text
from qbench.benchmarking.naming import metric_name, row_names
from qbench.benchmarking.result import Accuracy, Latency, Ratio, Row
from qbench.figures import digits
from qbench.report.charts.common import (
    Chart,
    Record,
    colour_scale,
    data,
    dressed,
    log_scale,
    record,
    told,
)
from qbench.report.charts.labels import Spot, placed
from qbench.report.contents import Contents
from qbench.report.theme import Theme

_FACTS = ("row", "accuracy", "median", "speed-up")
_HEIGHT = 340
_MOST_LABELS = 12


def draw_tradeoff(contents: Contents, theme: Theme) -> Chart | None:
    """Return the chart of the rows that have both figures."""
    records = _records(contents)
    if not records:
        return None
    is_labelled = len(records) <= _MOST_LABELS
    legend = None if is_labelled else alt.Legend(columns=2 if theme.is_narrow else 0)
    x_scale, x_ticks = log_scale(item[end] for item in records for end in ("left", "right"))
    low, high = min(item["low"] for item in records), max(item["high"] for item in records)
    room = 0.06 * (high - low) or 1.0
    y_scale = alt.Scale(domain=[low - room, high + room], nice=False, zero=False)
    x_axis = alt.Axis(title="median ms per call, log scale", values=x_ticks, format="~g")
    y_axis = alt.Axis(title=axis_title(contents), tickCount=6)
    x, y = alt.X("ms:Q", scale=x_scale, axis=x_axis), alt.Y("share:Q", scale=y_scale, axis=y_axis)
    spots = [Spot(item["ms"], item["share"], item["row"]) for item in records]
    names = placed(spots, theme, _HEIGHT, (x_scale, y_scale)) if is_labelled else []
    *bars, dots = _points(records, theme, x, y, legend)
    layers = [_front(records, theme, x, y), *bars, *names, dots]
    return dressed(layers, theme, _HEIGHT)


def axis_title(contents: Contents) -> str:
    """Return the metric and its unit."""
    metric = next(row.accuracy.metric for row in contents.result.rows if row.accuracy)
    return metric_name(metric) + ("" if metric == "cosine" else ", %")


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Tell of each (latency, accuracy) whether no other is as good in both and better in one."""
    return [
        not any(x <= ms and y >= share and (x, y) != (ms, share) for x, y in points)
        for ms, share in points
    ]


def _records(contents: Contents) -> list[Record]:
    """Return a record for every row with both figures, of the metric of the first one."""
    found = [
        (row, name, row.accuracy, row.latency_ms)
        for row, name in zip(contents.result.rows, row_names(contents.result), strict=True)
        if row.accuracy and row.latency_ms
    ]
    records = [
        _record(row, name, accuracy, latency)
        for row, name, accuracy, latency in found
        if accuracy.metric == found[0][2].metric
    ]
    return [
        item for batch in {row.batch for row, *_ in found} for item in _with_front(records, batch)
    ]


def _with_front(records: list[Record], batch: int) -> list[Record]:
    """Return the records of one batch size, since calls of others do other work."""
    same = [item for item in records if item["batch"] == batch]
    on_front = front([(item["ms"], item["share"]) for item in same])
    return [{**item, "front": is_on} for item, is_on in zip(same, on_front, strict=True)]


def _record(row: Row, name: str, accuracy: Accuracy, latency: Latency) -> Record:
    """Return a record; the relative width of the speed-up's interval is that of the latency."""
    ratio = row.ratio or Ratio(1.0, 1.0, 1.0, "same")
    unit = 1.0 if accuracy.metric == "cosine" else 100.0
    facts = {
        "row": name,
        "accuracy": f"{accuracy_text(accuracy)}, {accuracy.n} images",
        "median": f"{digits(latency.median)} ms",
        "speed-up": f"{speedup_text(row)} {verdict_text(row) or ''}",
    }
    return record(
        facts,
        batch=row.batch,
        precision=row.precision,
        provider=row.provider,
        ms=latency.median,
        left=latency.median * ratio.value / ratio.ci_high,
        right=latency.median * ratio.value / ratio.ci_low,
        share=unit * accuracy.value,
        low=unit * accuracy.ci_low,
        high=unit * accuracy.ci_high,
    )


def _front(records: list[Record], theme: Theme, x: alt.X, y: alt.Y) -> alt.Chart:
    best = sorted((item for item in records if item["front"]), key=lambda item: float(item["ms"]))
    line = alt.Chart(data(best)).mark_line(
        interpolate="step-after", color=theme["muted"], strokeDash=[3, 3], strokeWidth=1, aria=False
    )
    chart: alt.Chart = line.encode(x=x, y=y, detail="batch:N")
    return chart


def _points(
    records: list[Record], theme: Theme, x: alt.X, y: alt.Y, legend: alt.Legend | None
) -> list[alt.Chart]:
    """Return the intervals in both directions, and the points over them."""
    colour = alt.Color(
        "precision:N",
        scale=colour_scale((item["precision"] for item in records), theme),
        legend=legend,
    )
    base = alt.Chart(data(records)).encode(color=colour)
    bars = base.mark_rule(strokeWidth=1.5, aria=False)
    dots = base.mark_point(size=110, strokeWidth=2, opacity=1).encode(
        x=x,
        y=y,
        shape=alt.Shape("provider:N", legend=legend),
        fill=alt.condition("datum.front", colour, alt.value(theme["paper"])),
        **told(_FACTS),
    )
    return [
        bars.encode(x=x, y="low:Q", y2="high:Q"),
        bars.encode(x="left:Q", x2="right:Q", y=y),
        dots,
    ]
