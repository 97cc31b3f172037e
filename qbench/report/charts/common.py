"""What all charts share: scales, ticks, tooltips and looks."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt

from qbench.report.theme import FONT, Theme

Chart = alt.LayerChart
Record = dict[str, Any]

_TIP = "tip"


def record(facts: Mapping[str, str], **values: Any) -> Record:
    """Return a record of a chart's data: its values, and the facts that its tooltip tells.

    The tooltip of a live chart lists the facts; in a page, where charts are still images, the
    mark's label holds them, one a line.
    """
    return {**values, **facts, _TIP: "\n".join(f"{name}: {fact}" for name, fact in facts.items())}


def told(facts: Iterable[str]) -> dict[str, Any]:
    """Return the channels that tell the facts of a `record`."""
    return {"tooltip": [alt.Tooltip(f"{name}:N") for name in facts], "description": f"{_TIP}:N"}


def data(records: Iterable[Record]) -> alt.InlineData:
    """Return records as a chart's data."""
    return alt.InlineData(list(records))


def log_scale(values: Iterable[float]) -> tuple[alt.Scale, list[float]]:
    """Return a logarithmic scale around positive values, and its ticks."""
    known = list(values)
    low, high = min(known), max(known)
    room = max(high / low, 1.05) ** 0.06
    low, high = low / room, high * room
    return alt.Scale(type="log", domain=[low, high], nice=False), ticks(low, high)


def ticks(low: float, high: float) -> list[float]:
    """Return about six round positions between two positive values."""
    if high / low >= 8:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = (1, 2, 5) if high / low < 500 else (1,)
        found = [step * 10.0**power for power in powers for step in steps]
    else:
        step = _round_step((high - low) / 5)
        first = math.ceil(low / step)
        found = [number * step for number in range(first, math.floor(high / step) + 1)]
    return [float(f"{tick:.6g}") for tick in found if low <= tick <= high]


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * 0.999)


def by_precision(
    records: Iterable[Record], theme: Theme, legend: alt.Legend | None = None
) -> alt.Color:
    """Return the channel that gives each precision its colour."""
    names = list(dict.fromkeys(item["precision"] for item in records))
    scale = alt.Scale(domain=names, range=[theme[name] for name in names])
    return alt.Color("precision:N", scale=scale, legend=legend)


def by_row(records: Iterable[Record], theme: Theme) -> alt.Y:
    """Return the channel that puts rows below each other, in their order."""
    labels = alt.Axis(title=None, labelLimit=120 if theme.is_narrow else 260, ticks=False)
    return alt.Y("row:N", sort=list(dict.fromkeys(item["row"] for item in records)), axis=labels)


def dressed(layers: Sequence[alt.Chart], theme: Theme, height: int) -> Chart:
    """Return layers as a chart, in its size, colours and type."""
    text = {"labelColor": theme["muted"], "titleColor": theme["muted"], "titleFontWeight": "normal"}
    axis = {"domainColor": theme["line"], "gridColor": theme["line"], "tickColor": theme["line"]}
    sizes = {"labelFontSize": 12, "titleFontSize": 12}
    symbols = {f"symbolBase{part}Color": theme["muted"] for part in ("Fill", "Stroke")}
    chart: Chart = (
        alt.LayerChart(layer=layers)
        .properties(
            width=theme.width,
            height=height,
            autosize=alt.AutoSizeParams(type="fit", contains="padding"),
        )
        .configure(background="transparent", font=FONT, padding=4)
        .configure_view(stroke=None)
        .configure_axis(**text, **axis, **sizes, titlePadding=8)
        .configure_legend(**text, **sizes, **symbols, orient="bottom")
        .configure_title(color=theme["ink"], subtitleColor=theme["muted"], anchor="start")
    )
    return chart
