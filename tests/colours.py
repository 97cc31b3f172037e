"""A model and images of three classes: red, green and blue."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import graphs
import numpy as np
import onnx

from qbench.benchmarking.timing.settings import Settings
from qbench.data.recipes import Recipe

TINY = Settings(min_rounds=6, max_rounds=6, max_seconds=0.05, block_seconds=1e-5, warmup_seconds=0)
RECIPE = Recipe(name="mine", scale=1 / 255)

SIX = ((0, 2), (1, 1), (2, 2), (0, 0), (1, 1), (2, 2))
"""Six images, of which the first lies in a wrong folder."""


def brightest(batch: int | str = "N") -> onnx.ModelProto:
    """Logits are the means of red, green and blue."""
    b = graphs.Builder((batch, 3, 8, 8))
    weight = b.constant("w", np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1))
    mean = b.node("GlobalAveragePool", "mean", b.node("Conv", "same", b.x, weight))
    return b.model(b.node("Flatten", "logits", mean))


def write_images(folder: Path, shown: Sequence[tuple[int, int]] = SIX) -> Path:
    """Write images, each in the folder of one class and in the colour of another or the same."""
    for i, (label, colour) in enumerate(shown):
        path = folder / str(label) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[:, :, 2 - colour] = 255  # OpenCV writes BGR
        cv2.imwrite(str(path), pixels)
    return folder
