"""Names beside points, moved apart where they would lie on each other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import altair as alt

from qbench.report.charts.common import data
from qbench.report.theme import Theme

_CHARACTER, _LINE = 6.6, 15.0
_GAP = 9
"""Pixels: a character's width, a line's height, and from a point to its name, up and aside."""

_ROUNDING = 1e-6
_RADIUS = 6.0
"""Of a point, in pixels."""

_MARGIN = 70
"""Pixels that axes and padding take, about."""


@dataclass(frozen=True)
class Spot:
    """A point and its name, in the units of the data."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Name:
    """A name in pixels: from `left` to `right`, its middle `shift` above its point at `x`, `y`."""

    spot: Spot
    x: float
    left: float
    right: float
    y: float
    is_before: bool
    shift: float


def placed(
    spots: Sequence[Spot], theme: Theme, height: int, scales: tuple[alt.Scale, alt.Scale]
) -> list[alt.Chart]:
    """Return the layers of names: those left of their points, and those right of them.

    Args:
        spots: The points.
        theme: Gives the width of the chart.
        height: Of the chart, in pixels.
        scales: Of x, logarithmic, and of y, linear; both with a domain.
    """
    (x_low, x_high), (y_low, y_high) = (scale.domain for scale in scales)
    width, tall = theme.width - _MARGIN, height - _MARGIN
    labels = [
        _name(
            spot,
            width * math.log(spot.x / x_low) / math.log(x_high / x_low),
            tall * (spot.y - y_low) / (y_high - y_low),
            width,
        )
        for spot in spots
    ]
    per_pixel = (y_high - y_low) / tall
    moved = apart(labels)
    sides = ([name for name in moved if name.is_before is before] for before in (True, False))
    return [layer for side in sides if side for layer in _layers(side, per_pixel, theme)]


def _name(spot: Spot, x: float, y: float, width: float) -> Name:
    """Return a name right of its point, or left of it where the right lacks room."""
    length = _CHARACTER * len(spot.text) + _GAP
    is_before = x + length > width and x > width / 2
    left = x - length if is_before else x
    return Name(spot, x, left, left + length, y, is_before, shift=_GAP)


def apart(names: Sequence[Name]) -> list[Name]:
    """Return the names from the lowest to the highest, each moved up off points and other names."""
    done: list[Name] = []
    for name in sorted(names, key=lambda name: name.y):
        taken = [(_middle(below), _LINE) for below in done if _meet(name, below.left, below.right)]
        taken += [
            (other.y, _LINE - 3)
            for other in names
            if other is not name and _meet(name, other.x - _RADIUS, other.x + _RADIUS)
        ]
        middle = _middle(name)
        while blocked := [at + room for at, room in taken if abs(at - middle) < room - _ROUNDING]:
            middle = max(blocked)
        done.append(replace(name, shift=middle - name.y))
    return done


def _meet(name: Name, left: float, right: float) -> bool:
    return name.left < right and left < name.right


def _middle(name: Name) -> float:
    return name.y + name.shift


def _layers(names: Sequence[Name], per_pixel: float, theme: Theme) -> list[alt.Chart]:
    """Return the names of one side, on a halo that keeps lines off them."""
    before = names[0].is_before
    shown = [
        {"x": name.spot.x, "y": name.spot.y + name.shift * per_pixel, "text": name.spot.text}
        for name in names
    ]
    base = alt.Chart(data(shown)).encode(x="x:Q", y="y:Q", text="text:N")
    look: dict[str, Any] = {
        "align": "right" if before else "left",
        "dx": -_GAP if before else _GAP,
        "fontSize": 12,
        "aria": False,
    }
    halo = base.mark_text(**look, color=theme["paper"], stroke=theme["paper"], strokeWidth=4)
    return [halo, base.mark_text(**look, color=theme["ink"])]
