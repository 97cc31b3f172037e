"""Where the time of each row goes, by kind of operator and by what it computes in."""

import altair as alt

from qbench.benchmarking.presentation.naming import named_rows
from qbench.benchmarking.result import OperatorTime
from qbench.formatting import percent
from qbench.report.charts.common import Chart, Record, data, dressed, record, told
from qbench.report.contents import Contents
from qbench.report.theme import Theme

_FACTS = ("row", "operator", "computes in", "share")
_CHARACTER = 7.0
_SMALLEST = 0.01
_LANE, _AXIS = 58, 90

_COLOURS = {
    "int8": "int8",
    "uint8": "int8",
    "int4": "int4",
    "float8": "fp8",
    "fp8": "fp8",
    "bfloat16": "bf16",
    "bf16": "bf16",
    "float16": "fp16",
    "fp16": "fp16",
    "half": "fp16",
    "float": "fp32",
    "fp32": "fp32",
}
"""The colour of a type, by how its name begins; the first that fits."""


def draw_operators(contents: Contents, theme: Theme) -> Chart | None:
    """Return a bar for each row that has a profile, in parts by operator."""
    profiled = [(row.profile, name) for name, row in named_rows(contents.result) if row.profile]
    if not profiled:
        return None
    parts = [
        part
        for place, (profile, name) in enumerate(reversed(profiled))
        for part in _parts(profile, name, place)
    ]
    headings = [
        {"heading": name, "label": place + 0.85}
        for place, (_, name) in enumerate(reversed(profiled))
    ]
    axis = alt.Axis(title="share of the operators' time, %", tickCount=5)
    x = alt.X("left:Q", scale=alt.Scale(domain=[0, 100]), axis=axis)
    y_scale = alt.Scale(domain=[0, len(profiled)], nice=False)
    y = alt.Y("floor:Q", scale=y_scale, axis=None)
    layers = [_bars(parts, x, y, theme), _words(parts, theme), _headings(headings, theme)]
    return dressed(layers, theme, _LANE * len(profiled) + _AXIS)


def type_colour(name: str | None) -> str:
    """Return the name of the colour of a type that operators compute in."""
    lowered = (name or "").lower()
    return next(
        (colour for start, colour in _COLOURS.items() if lowered.startswith(start)), "other"
    )


def _parts(profile: tuple[OperatorTime, ...], name: str, place: int) -> list[Record]:
    parts, left = [], 0.0
    for operator in _gathered(profile):
        right = left + 100 * operator.share
        facts = {
            "row": name,
            "operator": operator.operator,
            "computes in": operator.type or "not told",
            "share": percent(operator.share),
        }
        parts.append(record(facts, left=left, right=right, floor=place, top=place + 0.66))
        left = right
    return parts


def _gathered(profile: tuple[OperatorTime, ...]) -> list[OperatorTime]:
    """Return a profile whose operators of hardly any time are one part."""
    small = [operator for operator in profile if operator.share < _SMALLEST]
    if len(small) < 2:
        return list(profile)
    others = OperatorTime(f"{len(small)} others", "several", sum(part.share for part in small))
    return [operator for operator in profile if operator.share >= _SMALLEST] + [others]


def _bars(parts: list[Record], x: alt.X, y: alt.Y, theme: Theme) -> alt.Chart:
    types = list(dict.fromkeys(part["computes in"] for part in parts))
    colours = alt.Scale(domain=types, range=[theme[type_colour(name)] for name in types])
    legend = alt.Legend(title="computes in", columns=3 if theme.is_narrow else 0)
    bars = alt.Chart(data(parts)).mark_rect(stroke=theme["paper"], strokeWidth=1.5)
    chart: alt.Chart = bars.encode(
        x=x,
        x2="right:Q",
        y=y,
        y2="top:Q",
        color=alt.Color("computes in:N", scale=colours, legend=legend),
        **told(_FACTS),
    )
    return chart


def _words(parts: list[Record], theme: Theme) -> alt.Chart:
    """Return the names of the operators whose part is wide enough to hold them."""
    wide = [
        {
            "x": (part["left"] + part["right"]) / 2,
            "y": part["floor"] + 0.33,
            "text": part["operator"],
        }
        for part in parts
        if theme.width * (part["right"] - part["left"]) / 100
        > _CHARACTER * len(part["operator"]) + 8
    ]
    text = alt.Chart(data(wide)).mark_text(color=theme["paper"], fontSize=12, aria=False)
    chart: alt.Chart = text.encode(x="x:Q", y="y:Q", text="text:N")
    return chart


def _headings(headings: list[Record], theme: Theme) -> alt.Chart:
    text = alt.Chart(data(headings)).mark_text(
        align="left", color=theme["ink"], fontSize=12, aria=False
    )
    chart: alt.Chart = text.encode(x=alt.value(0), y="label:Q", text="heading:N")
    return chart
