"""How the latencies of each row are distributed: every call counts, none is clipped."""

from collections.abc import Mapping

import altair as alt
import numpy as np
from numpy.typing import NDArray

from qbench.benchmarking.presentation.naming import row_names
from qbench.benchmarking.result import Latency
from qbench.formatting import digits, percent
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
from qbench.report.contents import Contents
from qbench.report.theme import Theme

_MOST_BINS, _MOST_BARS = 160, 1600
"""Of each row, and of all together: a page with many rows shall stay small."""

_LANE = 64
_AXIS = 50
_FILLED = 0.62
"""Share of a lane's height that its tallest bar takes; the name stands above it."""


def draw_latencies(contents: Contents, theme: Theme) -> Chart | None:
    """Return a histogram for each row whose calls were kept."""
    lanes = {
        index: 1e3 * samples
        for index, samples in sorted(contents.run.samples.items())
        if samples.size
    }
    if not lanes:
        return None
    values = np.concatenate(list(lanes.values()))
    scale, ticks = log_scale([float(values.min()), float(values.max())])
    low, high = scale.domain
    edges = np.geomspace(low, high, min(_MOST_BINS, max(_MOST_BARS // len(lanes), 16)) + 1)
    names = row_names(contents.result)
    bars, marks = [], []
    for place, (index, samples) in enumerate(reversed(lanes.items())):
        row = contents.result.rows[index]
        bars += _bars(samples, edges, (names[index], row.precision), place)
        marks.append(_summary(samples, row.latency_ms, names[index], place))
    axis = alt.Axis(title="ms per call, log scale", values=ticks, format="~g")
    x = alt.X("left:Q", scale=scale, axis=axis)
    y = alt.Y("floor:Q", scale=alt.Scale(domain=[0, len(lanes)], nice=False), axis=None)
    layers = [_histograms(bars, x, y, theme), *_medians(marks, theme)]
    return dressed(layers, theme, _LANE * len(lanes) + _AXIS)


def _bars(
    samples: NDArray[np.float64], edges: NDArray[np.float64], row: tuple[str, str], place: int
) -> list[Record]:
    """Return the bars of a row, given its name and precision, that stand on `place`."""
    name, precision = row
    counts, _ = np.histogram(samples, edges)
    return [
        record(
            {
                "row": name,
                "from": f"{low:.4g} to {high:.4g} ms",
                "calls": f"{count} of {samples.size} ({percent(count / samples.size)})",
            },
            precision=precision,
            left=float(low),
            right=float(high),
            floor=place,
            top=place + _FILLED * count / int(counts.max()),
        )
        for low, high, count in zip(edges[:-1], edges[1:], counts.tolist(), strict=True)
        if count
    ]


def _summary(
    samples: NDArray[np.float64], latency: Latency | None, name: str, place: int
) -> Record:
    """Return the median of a row, and the percentiles that its samples suffice for."""
    median = float(np.median(samples))
    known: Mapping[str, float | None] = {
        name: getattr(latency, name, None) for name in ("p90", "p95", "p99")
    }
    tail = {key: f"{digits(value)} ms" for key, value in known.items() if value is not None}
    facts = {"row": name, "median": f"{digits(median)} ms", **tail, "calls": str(samples.size)}
    heading = f"{name}: median {digits(median)} ms"
    return record(
        facts, heading=heading, at=median, floor=place, top=place + 0.72, label=place + 0.84
    )


def _histograms(bars: list[Record], x: alt.X, y: alt.Y, theme: Theme) -> alt.Chart:
    chart: alt.Chart = (
        alt.Chart(data(bars))
        .mark_rect(opacity=0.75)
        .encode(
            x=x,
            x2="right:Q",
            y=y,
            y2="top:Q",
            color=by_precision(bars, theme),
            **told(("row", "from", "calls")),
        )
    )
    return chart


def _medians(marks: list[Record], theme: Theme) -> list[alt.Chart]:
    """Return a line at each median, and the heading above each histogram."""
    base = alt.Chart(data(marks))
    line = base.mark_rule(color=theme["ink"], strokeWidth=1.5).encode(
        x="at:Q", y="floor:Q", y2="top:Q", **told(("row", "median", "calls"))
    )
    heading = base.mark_text(align="left", color=theme["ink"], fontSize=12, aria=False)
    return [line, heading.encode(x=alt.value(0), y="label:Q", text="heading:N")]
