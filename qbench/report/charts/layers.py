"""Where along the model accuracy is lost."""

from collections.abc import Sequence

import altair as alt

from qbench.evaluation.layerwise import LIMIT_DB
from qbench.formatting import digits
from qbench.report.charts.common import Chart, Record, data, dressed, record, told
from qbench.report.contents import Contents, Layer
from qbench.report.theme import Theme

_Told = tuple[float, Layer]
"""SQNR in decibels, and the layer that has it."""

_FACTS = ("layer", "depth", "SQNR", "cosine")
_HEIGHT = 300
_EDGES = -20.0, 100.0

_WORST = 5
"""Layers that are ringed, and listed below the chart."""


def draw_layers(contents: Contents, theme: Theme) -> Chart | None:
    """Return the chart of a report's layers."""
    return layers_chart(contents.layers, theme)


def layers_chart(compared: Sequence[Layer], theme: Theme) -> Chart | None:
    """Return the SQNR of each layer by depth, with rings around the lowest."""
    unlike = _unlike(compared)
    if not unlike:
        return None
    records = [_record(layer, db) for db, layer in unlike]
    axis = alt.Axis(title="depth, layers from the input", tickMinStep=1, grid=False)
    x = alt.X("place:Q", axis=axis)
    y_axis = alt.Axis(title="SQNR of the output, dB", tickCount=6)
    y = alt.Y("db:Q", axis=y_axis)
    layers = alt.Chart(data(records)).encode(x=x, y=y)
    line = layers.mark_line(color=theme["muted"], strokeWidth=1, aria=False)
    lowest = line.encode(y=alt.Y("min(db):Q", axis=y_axis))
    dots = layers.mark_point(filled=True, size=40, opacity=1, color=theme["accent"])
    low = alt.Chart(data([_record(layer, db) for db, layer in _worst(unlike)])).encode(x=x, y=y)
    rings = low.mark_point(size=90, color=theme["alarm"], opacity=1, aria=False)
    return dressed([lowest, dots.encode(**told(_FACTS)), rings], theme, _HEIGHT)


def worst_layers(compared: Sequence[Layer]) -> list[Layer]:
    """Return the layers that lose most, worst first."""
    return [layer for _, layer in _worst(_unlike(compared))]


def _unlike(compared: Sequence[Layer]) -> list[_Told]:
    """Return what is known of the layers that are not equal."""
    told = ((layer.sqnr_db, layer) for layer in compared)
    return [(db, layer) for db, layer in told if db is not None and db < LIMIT_DB]


def _worst(unlike: Sequence[_Told]) -> list[_Told]:
    return sorted(unlike, key=lambda told: told[0])[:_WORST]


def _record(layer: Layer, db: float) -> Record:
    facts = {
        "layer": layer.name,
        "depth": str(layer.depth),
        "SQNR": f"{digits(db)} dB",
        "cosine": "not told" if layer.cosine is None else f"{layer.cosine:.5f}",
    }
    low, high = _EDGES
    return record(facts, place=layer.depth, db=min(max(db, low), high))
