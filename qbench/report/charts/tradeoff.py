"""Accuracy against speed, with intervals and the rows that no other row beats in both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import altair as alt

from qbench.benchmarking.presentation.columns import accuracy_text, speedup_text, verdict_text
from qbench.benchmarking.presentation.metric_text import is_share
from qbench.benchmarking.presentation.naming import metric_name, named_rows
from qbench.benchmarking.result import Accuracy, Ratio, Row
from qbench.formatting import counted, digits
from qbench.report.charts.common import (
    Chart,
    Record,
    by_precision,
    data,
    dressed,
    log_scale,
    record,
    told,
)
from qbench.report.charts.labels import Spot, placed
from qbench.report.contents import Contents
from qbench.report.theme import Theme

_HEIGHT = 340
_MOST_LABELS = 12


@dataclass(frozen=True)
class _Speed:
    """A figure of speed.

    Attributes:
        name: In a few letters.
        unit: Of the figure.
        axis: What it is, on the axis.
        of: Returns the figure of a row; None where it has none.
        more_is_better: Whether a higher one is.
        over_batches: Whether rows of other batch sizes do the same work for it.
        step: How the line between the best rows runs, from the lowest figure to the highest.
    """

    name: str
    unit: str
    axis: str
    of: Callable[[Row], float | None]
    more_is_better: bool
    over_batches: bool
    step: Literal["step-after", "step-before"]

    def cost(self, figure: float) -> float:
        """Return what grows as the figure gets worse."""
        return 1 / figure if self.more_is_better else figure

    def ends(self, figure: float, ratio: Ratio) -> tuple[float, float]:
        """Return the ends of an interval as wide, relatively, as that of the speed-up."""
        slow, fast = ratio.ci_low / ratio.value, ratio.ci_high / ratio.value
        if self.more_is_better:
            return figure * slow, figure * fast
        return figure / fast, figure / slow


_LATENCY = _Speed(
    name="median",
    unit="ms",
    axis="median ms per call, log scale",
    of=lambda row: row.latency_ms.median if row.latency_ms else None,
    more_is_better=False,
    over_batches=False,
    step="step-after",
)
_THROUGHPUT = _Speed(
    name="throughput",
    unit="images/s",
    axis="images per second, log scale",
    of=lambda row: row.throughput_per_s,
    more_is_better=True,
    over_batches=True,
    step="step-before",
)


def draw_tradeoff(contents: Contents, theme: Theme) -> Chart | None:
    """Return the chart of the rows that have an accuracy and a latency."""
    return _drawn(contents, theme, _LATENCY)


def draw_throughput(contents: Contents, theme: Theme) -> Chart | None:
    """Return the chart of the rows that have an accuracy and a throughput."""
    return _drawn(contents, theme, _THROUGHPUT)


def _drawn(contents: Contents, theme: Theme, speed: _Speed) -> Chart | None:
    records = _records(contents, speed)
    if not records:
        return None
    is_labelled = len(records) <= _MOST_LABELS
    legend = None if is_labelled else alt.Legend(columns=2 if theme.is_narrow else 0)
    x_scale, x_ticks = log_scale(item[end] for item in records for end in ("left", "right"))
    low, high = min(item["low"] for item in records), max(item["high"] for item in records)
    room = 0.06 * (high - low) or 1.0
    y_scale = alt.Scale(domain=[low - room, high + room], nice=False, zero=False)
    x_axis = alt.Axis(title=speed.axis, values=x_ticks, format="~g")
    y_axis = alt.Axis(title=axis_title(contents), tickCount=6)
    x, y = alt.X("at:Q", scale=x_scale, axis=x_axis), alt.Y("share:Q", scale=y_scale, axis=y_axis)
    spots = [Spot(item["at"], item["share"], item["row"]) for item in records]
    names = placed(spots, theme, _HEIGHT, (x_scale, y_scale)) if is_labelled else []
    *bars, dots = _points(records, theme, x, y, legend, ("row", "accuracy", speed.name, "speed-up"))
    best = _front(records, theme, speed).encode(x=x, y=y, detail="work:N")
    return dressed([best, *bars, *names, dots], theme, _HEIGHT)


def axis_title(contents: Contents) -> str:
    """Return the metric and its unit."""
    metric = next(row.accuracy.metric for row in contents.result.rows if row.accuracy)
    return metric_name(metric) + (", %" if is_share(metric) else "")


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Tell of each (cost, accuracy) whether no other is as good in both and better in one."""
    return [
        not any(x <= cost and y >= share and (x, y) != (cost, share) for x, y in points)
        for cost, share in points
    ]


def _records(contents: Contents, speed: _Speed) -> list[Record]:
    """Return a record for every row with both figures, of the metric of the first one."""
    found = [
        (row, name, row.accuracy, at)
        for name, row in named_rows(contents.result)
        if row.accuracy and (at := speed.of(row)) is not None
    ]
    records = [
        _record(row, name, accuracy, at, speed)
        for row, name, accuracy, at in found
        if accuracy.metric == found[0][2].metric
    ]
    work = dict.fromkeys(item["work"] for item in records)
    return [item for one in work for item in _with_front(records, one, speed)]


def _with_front(records: list[Record], work: int, speed: _Speed) -> list[Record]:
    """Return the records of rows that do the same work, and whether each is one of the best."""
    same = [item for item in records if item["work"] == work]
    on_front = front([(speed.cost(item["at"]), item["share"]) for item in same])
    return [{**item, "front": is_on} for item, is_on in zip(same, on_front, strict=True)]


def _record(row: Row, name: str, accuracy: Accuracy, at: float, speed: _Speed) -> Record:
    left, right = speed.ends(at, row.ratio or Ratio(1.0, 1.0, 1.0, "same"))
    unit = 100.0 if is_share(accuracy.metric) else 1.0
    facts = {
        "row": name,
        "accuracy": f"{accuracy_text(accuracy)}, {counted(accuracy.n, 'image')}",
        speed.name: f"{digits(at)} {speed.unit}",
        "speed-up": f"{speedup_text(row)} {verdict_text(row) or ''}",
    }
    return record(
        facts,
        work=1 if speed.over_batches else row.batch,
        precision=row.precision,
        provider=row.provider,
        at=at,
        left=left,
        right=right,
        share=unit * accuracy.value,
        low=unit * accuracy.ci_low,
        high=unit * accuracy.ci_high,
    )


def _front(records: list[Record], theme: Theme, speed: _Speed) -> alt.Chart:
    """Return the line that joins the best rows, without its places."""
    best = sorted((item for item in records if item["front"]), key=lambda item: float(item["at"]))
    line: alt.Chart = alt.Chart(data(best)).mark_line(
        interpolate=speed.step, color=theme["muted"], strokeDash=[3, 3], strokeWidth=1, aria=False
    )
    return line


def _points(
    records: list[Record],
    theme: Theme,
    x: alt.X,
    y: alt.Y,
    legend: alt.Legend | None,
    facts: Sequence[str],
) -> list[alt.Chart]:
    """Return the intervals in both directions, and the points over them."""
    colour = by_precision(records, theme, legend)
    base = alt.Chart(data(records)).encode(color=colour)
    bars = base.mark_rule(strokeWidth=1.5, aria=False)
    dots = base.mark_point(size=110, strokeWidth=2, opacity=1).encode(
        x=x,
        y=y,
        shape=alt.Shape("provider:N", legend=legend),
        fill=alt.condition("datum.front", colour, alt.value(theme["paper"])),
        **told(facts),
    )
    return [
        bars.encode(x=x, y="low:Q", y2="high:Q"),
        bars.encode(x="left:Q", x2="right:Q", y=y),
        dots,
    ]
