"""A procedural, seeded generator of labelled images: one shape on cluttered, unevenly lit ground.

A class is a set of closed outlines inside the unit circle. One path turns outlines into pixels:
distort, place, fill, scratch, light, blur, add noise. Only the outlines depend on the class, so a
classifier has nothing but the shape to go by.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from qbench.artifacts import write_bytes

Pixels: TypeAlias = NDArray[np.uint8]
Canvas: TypeAlias = NDArray[np.float32]
Floats: TypeAlias = NDArray[np.float64]
Outlines: TypeAlias = list[Floats]

# Seeds of images by purpose. The ranges do not meet, so the images that measure the model took
# part neither in its training nor in its calibration.
TRAINING_SEEDS = range(1_000_000)
CALIBRATION_SEEDS = range(1_000_000, 2_000_000)
EVALUATION_SEEDS = range(2_000_000, 3_000_000)

MIN_SIDE, MAX_SIDE = 80, 128  # pixels

_MIN_CONTRAST = 0.35  # distance between colours whose channels run from 0 to 1
_SUBPIXEL_BITS = 4  # cv2 takes polygon corners as integers of 1/16 pixel


def draw(label: int, seed: int) -> Pixels:
    """Draw an image of class `CLASSES[label]`; the same arguments give the same pixels.

    Returns:
        RGB [H, W, 3], height and width from `MIN_SIDE` to `MAX_SIDE`.
    """
    rng = np.random.default_rng((label, seed))
    height, width = rng.integers(MIN_SIDE, MAX_SIDE, 2, endpoint=True).tolist()
    canvas = _ground(rng, height, width)
    colour = _contrasting_colour(rng, canvas)
    outlines = _placed(rng, _OUTLINES[CLASSES[label]](rng), canvas)
    canvas = _blend(canvas, 0.0, _shadow(rng, outlines, canvas))
    canvas = _blend(canvas, colour, _mask(outlines, canvas) * rng.uniform(0.8, 1))
    return _photographed(rng, _scratched(rng, canvas))


def write_images(folder: Path, per_class: int, seed: int) -> list[Path]:
    """Write `folder/<class>/<nnnn>.png`, image i of each class drawn from seed `seed + i`.

    Returns:
        The files written, class by class in the order of `CLASSES`.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    paths = []
    for label, name in enumerate(CLASSES):
        for index in range(per_class):
            paths.append(folder / name / f"{index:04d}.png")
            bgr = cv2.cvtColor(draw(label, seed + index), cv2.COLOR_RGB2BGR)
            # Not cv2.imwrite, which reports a full disk by its return value alone.
            write_bytes(paths[-1], cv2.imencode(".png", bgr)[1].tobytes())
    return paths


def _ground(rng: Generator, height: int, width: int) -> Canvas:
    """Smooth mottling in two colours with irregular blobs on it, [H, W, 3] about 0..1."""
    colour = rng.uniform(0.25, 0.75) + rng.normal(0, 0.12, 3)
    grid = rng.normal(0, 1, (*rng.integers(3, 9, 2), 1)) * rng.normal(0, 0.08, 3) + colour
    smooth = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    canvas = np.asarray(smooth, np.float32)
    for _ in range(rng.integers(1, 6)):
        blob = _mask(_placed(rng, _blob(rng), canvas, spread=0.5), canvas)
        canvas = _blend(canvas, colour + rng.normal(0, 0.13, 3), blob * rng.uniform(0.3, 0.9))
    return canvas


def _contrasting_colour(rng: Generator, canvas: Canvas) -> Floats:
    """The first of some random colours [3] that stands out from the mean of the canvas."""
    colours = rng.uniform(0.05, 0.95, (32, 3))
    distances = np.linalg.norm(colours - canvas.mean((0, 1)), axis=1)
    return np.asarray(colours[np.argmax(distances > _MIN_CONTRAST)])


def _placed(rng: Generator, outlines: Outlines, canvas: Canvas, spread: float = 0.2) -> Outlines:
    """Turn, shear and scale outlines, then move them off the centre by up to `spread` of a side."""
    size = np.array(canvas.shape[1::-1])
    turn = rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shear = np.eye(2) + rng.uniform(-0.2, 0.2, (2, 2))
    warp = rotation @ shear * size.min() * rng.uniform(0.18, 0.4)
    centre = size * rng.uniform(0.5 - spread, 0.5 + spread, 2)
    return [outline @ warp.T + centre for outline in outlines]


def _mask(outlines: Outlines, canvas: Canvas) -> Canvas:
    """Coverage [H, W] in 0..1 of the area inside an odd number of outlines."""
    corners = [np.round(outline * 2**_SUBPIXEL_BITS).astype(np.int32) for outline in outlines]
    mask = np.zeros(canvas.shape[:2], np.uint8)
    cv2.fillPoly(mask, corners, 255, cv2.LINE_AA, _SUBPIXEL_BITS)
    return np.asarray(mask / 255, np.float32)


def _shadow(rng: Generator, outlines: Outlines, canvas: Canvas) -> Canvas:
    """Opacity [H, W] of a soft shadow beside the outlines."""
    offset = rng.uniform(-4, 4, 2)
    mask = _mask([outline + offset for outline in outlines], canvas)
    return _blurred(mask, 2) * rng.uniform(0, 0.5)


def _blurred(image: Canvas, sigma: float) -> Canvas:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)


def _blend(canvas: Canvas, colour: ArrayLike, opacity: Canvas) -> Canvas:
    """Paint a colour over the canvas [H, W, 3] with opacity [H, W]."""
    return canvas + (np.asarray(colour, np.float32) - canvas) * opacity[..., None]


def _scratched(rng: Generator, canvas: Canvas) -> Canvas:
    """Draw thin lines in random colours across the canvas."""
    height, width = canvas.shape[:2]
    for _ in range(rng.integers(0, 4)):
        start, end = rng.integers(0, (width, height), (2, 2)).tolist()
        line = np.zeros((height, width), np.float32)
        cv2.line(line, start, end, rng.uniform(0.3, 0.9), int(rng.integers(1, 3)))
        canvas = _blend(canvas, rng.uniform(0, 1, 3), line)
    return canvas


def _photographed(rng: Generator, canvas: Canvas) -> Pixels:
    """Light the canvas from one side, take it slightly out of focus, and add sensor noise."""
    height, width = canvas.shape[:2]
    across, down = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    light = 1 + rng.uniform(-0.4, 0.4) * across + rng.uniform(-0.4, 0.4) * down
    image = _blurred(canvas * light[..., None].astype(np.float32), rng.uniform(0.3, 2))
    image += rng.standard_normal(image.shape, np.float32) * rng.uniform(0.01, 0.08)
    return (image.clip(0, 1) * 255).round().astype(np.uint8)


def _polar(angles: Floats, radii: Floats | float = 1.0) -> Floats:
    """Corners [N, 2] from angles in radians and distances from the origin."""
    return np.column_stack([radii * np.cos(angles), radii * np.sin(angles)])


def _around(corners: int) -> Floats:
    """Angles [corners] that divide the circle evenly."""
    return np.linspace(0, 2 * np.pi, corners, endpoint=False)


def _blob(rng: Generator) -> Outlines:
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


_OUTLINES: Mapping[str, Callable[[Generator], Outlines]] = MappingProxyType(
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
CLASSES: tuple[str, ...] = tuple(_OUTLINES)
