"""A procedural, seeded generator of labelled images: one shape on cluttered, unevenly lit ground.

A class is a set of closed outlines inside the unit circle. One path turns outlines into pixels:
distort, place, fill, scratch, light, blur, add noise. Only the outlines depend on the class, so a
classifier has nothing but the shape to go by.
"""

from pathlib import Path

import cv2
import numpy as np

from qbench.artifacts import write_bytes
from qbench.demo.outlines import CLASSES as CLASSES
from qbench.demo.outlines import OUTLINES
from qbench.demo.painting import Pixels, contrasting_colour, ground, painted, photographed, placed

# Seeds of images by purpose. The ranges do not meet, so the images that measure the model took
# part neither in its training nor in its calibration.
TRAINING_SEEDS = range(1_000_000)
CALIBRATION_SEEDS = range(1_000_000, 2_000_000)
EVALUATION_SEEDS = range(2_000_000, 3_000_000)

MIN_SIDE, MAX_SIDE = 80, 128  # pixels


def draw(label: int, seed: int) -> Pixels:
    """Draw an image of class `CLASSES[label]`; the same arguments give the same pixels.

    Returns:
        RGB [H, W, 3], height and width from `MIN_SIDE` to `MAX_SIDE`.
    """
    rng = np.random.default_rng((label, seed))
    height, width = rng.integers(MIN_SIDE, MAX_SIDE, 2, endpoint=True).tolist()
    canvas = ground(rng, height, width)
    colour = contrasting_colour(rng, canvas)
    outlines = placed(rng, OUTLINES[CLASSES[label]](rng), canvas)
    return photographed(rng, painted(rng, canvas, outlines, colour))


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
