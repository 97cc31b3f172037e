"""Scenes for a detector: several of the demo's shapes on one ground, and where each of them is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from qbench.artifacts import write_bytes
from qbench.demo.outlines import CLASSES, OUTLINES, Floats, Outlines
from qbench.demo.painting import (
    Canvas,
    Pixels,
    contrasting_colour,
    ground,
    painted,
    photographed,
    placed,
)

MIN_SIDE, MAX_SIDE = 128, 224  # pixels
MOST = 5  # shapes of a scene

_RADIUS = (0.11, 0.24)  # of the shorter side
_TRIES = 8  # places that a shape is offered until it stays out
_MOST_COVERED = 0.1  # of a box, by another


@dataclass(frozen=True)
class Crowd:
    """A scene.

    Attributes:
        pixels: RGB [H, W, 3], height and width from `MIN_SIDE` to `MAX_SIDE`.
        boxes: x1, y1, x2, y2 of each shape in pixels, [n, 4], n up to `MOST`.
        labels: Class of each shape, [n].
    """

    pixels: Pixels
    boxes: Floats
    labels: NDArray[np.int64]


def draw_crowd(seed: int) -> Crowd:
    """Draw a scene; the same seed gives the same pixels."""
    # The first number keeps apart from the images of the classes, which start by theirs.
    rng = np.random.default_rng((len(CLASSES), seed))
    height, width = rng.integers(MIN_SIDE, MAX_SIDE, 2, endpoint=True).tolist()
    canvas = ground(rng, height, width)
    plain, boxes, labels = canvas, np.empty((0, 4)), []
    for label in rng.integers(len(CLASSES), size=rng.integers(1, MOST, endpoint=True)).tolist():
        outlines = _free_place(rng, OUTLINES[CLASSES[label]](rng), canvas, boxes)
        if outlines is None:
            continue
        canvas = painted(rng, canvas, outlines, contrasting_colour(rng, plain))
        boxes = np.vstack([boxes, _box(outlines)])
        labels.append(label)
    return Crowd(photographed(rng, canvas), boxes, np.array(labels, np.int64))


def write_crowds(folder: Path, count: int, seed: int) -> Path:
    """Write `folder/<nnnn>.png`, scene i drawn from seed `seed + i`, and `folder.json` beside it.

    Returns:
        The file of labels, in the format of COCO.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        crowd, name = draw_crowd(seed + index), f"{index:04d}.png"
        bgr = cv2.cvtColor(crowd.pixels, cv2.COLOR_RGB2BGR)
        write_bytes(folder / name, cv2.imencode(".png", bgr)[1].tobytes())
        height, width = crowd.pixels.shape[:2]
        images.append({"id": index, "file_name": name, "height": height, "width": width})
        annotations += _annotations(crowd, index, len(annotations) + 1)
    categories = [{"id": index, "name": name} for index, name in enumerate(CLASSES)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    file = folder.with_suffix(".json")
    write_bytes(file, msgspec.json.encode(document))
    return file


def _free_place(
    rng: Generator, outlines: Outlines, canvas: Canvas, taken: Floats
) -> Outlines | None:
    """Return outlines placed within the canvas and off `taken`; None where no place was found."""
    for _ in range(_TRIES):
        found = placed(rng, outlines, canvas, spread=0.45, scale=_RADIUS)
        if _is_free(_box(found), canvas, taken):
            return found
    return None


def _is_free(box: Floats, canvas: Canvas, taken: Floats) -> bool:
    height, width = canvas.shape[:2]
    if box.min() < 0 or box[2] > width or box[3] > height:
        return False
    low, high = np.maximum(box[:2], taken[:, :2]), np.minimum(box[2:], taken[:, 2:])
    common = np.clip(high - low, 0, None).prod(axis=1)
    areas = (taken[:, 2:] - taken[:, :2]).prod(axis=1)
    smaller = np.minimum(areas, (box[2:] - box[:2]).prod())
    return bool((common <= _MOST_COVERED * smaller).all())


def _box(outlines: Outlines) -> Floats:
    """Return x1, y1, x2, y2 around outlines, whose whole numbers are the centres of pixels."""
    corners = np.concatenate(outlines) + 0.5
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)])


def _annotations(crowd: Crowd, image: int, first: int) -> list[dict[str, Any]]:
    sized = np.hstack([crowd.boxes[:, :2], crowd.boxes[:, 2:] - crowd.boxes[:, :2]]).round(2)
    return [
        {
            "id": first + number,
            "image_id": image,
            "category_id": int(label),
            "bbox": box.tolist(),
            "area": float(box[2] * box[3]),
            "iscrowd": 0,
        }
        for number, (box, label) in enumerate(zip(sized, crowd.labels, strict=True))
    ]
