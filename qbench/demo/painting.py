"""How the demo's images are painted: outlines on cluttered, unevenly lit ground."""

from typing import TypeAlias

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from qbench.demo.outlines import Floats, Outlines, blob

Pixels: TypeAlias = NDArray[np.uint8]
Canvas: TypeAlias = NDArray[np.float32]

_MIN_CONTRAST = 0.35  # distance between colours whose channels run from 0 to 1
_SUBPIXEL_BITS = 4  # cv2 takes polygon corners as integers of 1/16 pixel


def ground(rng: Generator, height: int, width: int) -> Canvas:
    """Smooth mottling in two colours with irregular blobs on it, [H, W, 3] about 0..1."""
    colour = rng.uniform(0.25, 0.75) + rng.normal(0, 0.12, 3)
    grid = rng.normal(0, 1, (*rng.integers(3, 9, 2), 1)) * rng.normal(0, 0.08, 3) + colour
    smooth = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    canvas = np.asarray(smooth, np.float32)
    for _ in range(rng.integers(1, 6)):
        stain = _mask(placed(rng, blob(rng), canvas, spread=0.5), canvas)
        canvas = _blend(canvas, colour + rng.normal(0, 0.13, 3), stain * rng.uniform(0.3, 0.9))
    return canvas


def contrasting_colour(rng: Generator, canvas: Canvas) -> Floats:
    """The first of some random colours [3] that stands out from the mean of the canvas."""
    colours = rng.uniform(0.05, 0.95, (32, 3))
    distances = np.linalg.norm(colours - canvas.mean((0, 1)), axis=1)
    return np.asarray(colours[np.argmax(distances > _MIN_CONTRAST)])


def placed(
    rng: Generator,
    outlines: Outlines,
    canvas: Canvas,
    spread: float = 0.2,
    scale: tuple[float, float] = (0.18, 0.4),
) -> Outlines:
    """Turn, shear and scale outlines, then move them off the centre by up to `spread` of a side.

    Args:
        rng: Decides all of it.
        outlines: Inside the unit circle.
        canvas: What they are placed on.
        spread: Largest distance from the centre, as a share of each side.
        scale: Smallest and largest radius, as shares of the shorter side.

    Returns:
        The outlines in pixels.
    """
    size = np.array(canvas.shape[1::-1])
    turn = rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shear = np.eye(2) + rng.uniform(-0.2, 0.2, (2, 2))
    warp = rotation @ shear * size.min() * rng.uniform(*scale)
    centre = size * rng.uniform(0.5 - spread, 0.5 + spread, 2)
    return [outline @ warp.T + centre for outline in outlines]


def painted(rng: Generator, canvas: Canvas, outlines: Outlines, colour: Floats) -> Canvas:
    """Fill outlines with an almost opaque colour [3], and let them cast a shadow."""
    canvas = _blend(canvas, 0.0, _shadow(rng, outlines, canvas))
    return _blend(canvas, colour, _mask(outlines, canvas) * rng.uniform(0.8, 1))


def _mask(outlines: Outlines, canvas: Canvas) -> Canvas:
    """Coverage [H, W] in 0..1 of the area inside an odd number of outlines."""
    corners = [np.round(outline * 2**_SUBPIXEL_BITS).astype(np.int32) for outline in outlines]
    inside = np.zeros(canvas.shape[:2], np.uint8)
    cv2.fillPoly(inside, corners, 255, cv2.LINE_AA, _SUBPIXEL_BITS)
    return np.asarray(inside / 255, np.float32)


def _shadow(rng: Generator, outlines: Outlines, canvas: Canvas) -> Canvas:
    """Opacity [H, W] of a soft shadow beside the outlines."""
    offset = rng.uniform(-4, 4, 2)
    cast = _mask([outline + offset for outline in outlines], canvas)
    return _blurred(cast, 2) * rng.uniform(0, 0.5)


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


def photographed(rng: Generator, canvas: Canvas) -> Pixels:
    """Scratch the canvas, light it from one side, take it out of focus a little, and add noise."""
    canvas = _scratched(rng, canvas)
    height, width = canvas.shape[:2]
    across, down = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    light = 1 + rng.uniform(-0.4, 0.4) * across + rng.uniform(-0.4, 0.4) * down
    image = _blurred(canvas * light[..., None].astype(np.float32), rng.uniform(0.3, 2))
    image += rng.standard_normal(image.shape, np.float32) * rng.uniform(0.01, 0.08)
    return (image.clip(0, 1) * 255).round().astype(np.uint8)
