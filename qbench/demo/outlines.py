"""The shapes of the demo's images: a class is a set of closed outlines inside the unit circle."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Outlines: TypeAlias = list[Floats]


def _polar(angles: Floats, radii: Floats | float = 1.0) -> Floats:
    """Corners [N, 2] from angles in radians and distances from the origin."""
    return np.column_stack([radii * np.cos(angles), radii * np.sin(angles)])


def _around(corners: int) -> Floats:
    """Angles [corners] that divide the circle evenly."""
    return np.linspace(0, 2 * np.pi, corners, endpoint=False)


def blob(rng: Generator) -> Outlines:
    """An irregular, smooth outline: a circle whose radius is a sum of five random waves."""
    angles, waves = _around(40), np.arange(1, 6)[:, None]
    bumps = np.sin(waves * angles + rng.uniform(0, 2 * np.pi, waves.shape))
    heights = rng.normal(0, 0.4, waves.shape) / waves
    return [_polar(angles, 1 + (heights * bumps).sum(0))]


def _disc(rng: Generator) -> Outlines:
    del rng
    return [_polar(_around(64))]


def _ring(rng: Generator) -> Outlines:
    circle = _polar(_around(64))
    return [circle, circle * rng.uniform(0.5, 0.75)]


def _square(rng: Generator) -> Outlines:
    del rng
    return [_polar(_around(4))]


def _triangle(rng: Generator) -> Outlines:
    return [_polar(_around(3) + rng.uniform(-0.25, 0.25, 3))]


def _star(rng: Generator) -> Outlines:
    return [_polar(_around(10), np.tile([1, rng.uniform(0.38, 0.52)], 5))]


def _cross(rng: Generator) -> Outlines:
    arm = rng.uniform(0.18, 0.32)  # radians from an arm's middle to its corner
    notch = np.sqrt(2) * np.sin(arm)
    angles = _around(4)[:, None] + [-arm, arm, np.pi / 4]
    return [_polar(angles.ravel(), np.tile([1, 1, notch], 4))]


def _crescent(rng: Generator) -> Outlines:
    tip = rng.uniform(0.6, 0.9)
    outer = _polar(np.linspace(tip, 2 * np.pi - tip, 48))
    sweep = np.linspace(-np.pi / 2, np.pi / 2, 24)
    depth = np.cos(tip) + rng.uniform(0, 0.4)
    inner = np.stack([np.cos(tip) - depth * np.cos(sweep), np.sin(tip) * np.sin(sweep)], axis=-1)
    return [np.concatenate([outer, inner])]


def _arrow(rng: Generator) -> Outlines:
    shaft, head, neck = rng.uniform(0.12, 0.22), rng.uniform(0.5, 0.65), rng.uniform(-0.1, 0.3)
    upper = np.array([[-0.95, shaft], [neck, shaft], [neck, head], [1, 0]])
    return [np.concatenate([upper, upper[-2::-1] * [1, -1]])]


def _boxes(left: Floats, top: Floats, width: float, height: float) -> Outlines:
    unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    return [unit * (width, height) + corner for corner in zip(left, top, strict=True)]


def _stripes(rng: Generator) -> Outlines:
    count = int(rng.integers(3, 6))
    edges = np.linspace(-0.75, 0.75, 2 * count)
    return _boxes(edges[::2], np.full(count, -0.75), edges[1] - edges[0], 1.5)


def _checker(rng: Generator) -> Outlines:
    count = int(rng.integers(4, 6))
    edges = np.linspace(-0.75, 0.75, count + 1)[:-1]
    rows, columns = np.nonzero(np.indices((count, count)).sum(0) % 2 == 0)
    return _boxes(edges[columns], edges[rows], 1.5 / count, 1.5 / count)


OUTLINES: Mapping[str, Callable[[Generator], Outlines]] = MappingProxyType(
    {
        "arrow": _arrow,
        "checker": _checker,
        "crescent": _crescent,
        "cross": _cross,
        "disc": _disc,
        "ring": _ring,
        "square": _square,
        "star": _star,
        "stripes": _stripes,
        "triangle": _triangle,
    }
)

# In alphabetical order, as folders are listed: class numbers are those of the sorted folders.
CLASSES: tuple[str, ...] = tuple(OUTLINES)
