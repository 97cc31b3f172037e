"""Raw outputs of detectors that say given boxes, and a source and a runner that serve them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qbench.data.samples import Sample
from qbench.model.spec import TensorSpec

SIZE = (64, 96)
"""Height and width of the model's input."""

IMAGE_SIZE = (128, 192)
"""Height and width of an image, twice as large."""

CLASSES = 4
STRIDES = (8, 16, 32)
CELLS = sum((SIZE[0] // s) * (SIZE[1] // s) for s in STRIDES)

Outputs = list[NDArray[np.float32]]


@dataclass(frozen=True)
class Scene:
    """Boxes x1, y1, x2, y2 in pixels of the input, and their classes and scores; at most CELLS."""

    boxes: NDArray[np.float64]
    classes: NDArray[np.int64]
    scores: NDArray[np.float64]

    @property
    def centred(self) -> NDArray[np.float64]:
        corners = self.boxes
        return np.hstack([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]])

    @property
    def class_scores(self) -> NDArray[np.float64]:
        table = np.zeros((len(self.boxes), CLASSES))
        table[np.arange(len(self.boxes)), self.classes] = self.scores
        return table


def scene(*rows: tuple[float, ...]) -> Scene:
    """Return a scene of rows x1, y1, x2, y2, class, score."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Scene(table[:, :4], table[:, 4].astype(np.int64), table[:, 5])


def _padded(rows: NDArray[np.float64], count: int) -> NDArray[np.float32]:
    return np.vstack([rows, np.zeros((count - len(rows), rows.shape[1]))]).astype(np.float32)


def yolov8(wanted: Scene) -> Outputs:
    return [_padded(np.hstack([wanted.centred, wanted.class_scores]), CELLS).T]


def yolov5(wanted: Scene) -> Outputs:
    sure = np.full((len(wanted.boxes), 1), 0.5)
    return [_padded(np.hstack([wanted.centred, sure, 2 * wanted.class_scores]), 3 * CELLS)]


def yolox(wanted: Scene) -> Outputs:
    stride = np.repeat(STRIDES, [(SIZE[0] // s) * (SIZE[1] // s) for s in STRIDES])
    cells = np.array([(x, y) for s in STRIDES for y in range(SIZE[0] // s)
                      for x in range(SIZE[1] // s)])  # fmt: skip
    count = len(wanted.boxes)
    stride, cells = stride[:count, None], cells[:count]
    offsets = wanted.centred[:, :2] / stride - cells
    sizes = np.log(wanted.centred[:, 2:] / stride)
    sure = np.full((count, 1), 0.5)
    return [_padded(np.hstack([offsets, sizes, sure, 2 * wanted.class_scores]), CELLS)]


def end2end(wanted: Scene) -> Outputs:
    rows = [wanted.boxes, wanted.scores[:, None], wanted.classes[:, None]]
    return [_padded(np.hstack(rows), 50)]


def _shares(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return boxes / np.tile(SIZE[::-1], 2)


def ssd(wanted: Scene) -> Outputs:
    background = 1 - wanted.scores[:, None]
    scores = _padded(np.hstack([background, wanted.class_scores]), 50)
    scores[len(wanted.boxes) :, 0] = 1
    return [scores, _padded(_shares(wanted.boxes), 50)]


def detr(wanted: Scene) -> Outputs:
    scores = np.hstack([wanted.class_scores, 1 - wanted.scores[:, None]])
    scores = _padded(scores, 50)
    scores[len(wanted.boxes) :, -1] = 1
    return [np.log(scores + 1e-9) + 5, _padded(_shares(wanted.centred), 50)]


def rtdetr(wanted: Scene) -> Outputs:
    scores = np.clip(_padded(wanted.class_scores, 50), 1e-6, 1 - 1e-6)
    return [_padded(_shares(wanted.centred), 50), np.log(scores / (1 - scores))]


ENCODERS: dict[str, Callable[[Scene], Outputs]] = {
    "yolov8": yolov8,
    "yolov5": yolov5,
    "yolox": yolox,
    "end2end": end2end,
    "ssd": ssd,
    "detr": detr,
    "rtdetr": rtdetr,
}


class Views:
    """A source whose sample i is an image of IMAGE_SIZE, and an array that only says i."""

    def __init__(self, count: int, image_size: tuple[int, int] | None = IMAGE_SIZE) -> None:
        self._count, self._image_size = count, image_size

    def __len__(self) -> int:
        return self._count

    def name(self, index: int) -> str:
        return f"{index:03}.png"

    def load(self, index: int) -> Sample:
        array = np.full((1, 3, *SIZE), index, np.float32)
        return Sample(self.name(index), {"x": array}, self._image_size)

    def digest(self, index: int) -> str:
        return str(index)

    def fingerprint(self) -> str:
        return "views"

    def describe(self) -> str:
        return f"{len(self)} views"


class Oracle:
    """A runner that answers sample i with the i-th outputs."""

    provider = "cpu"
    load_seconds = 0.0
    inputs = (TensorSpec("x", (1, 3, *SIZE), np.dtype(np.float32)),)
    outputs = (TensorSpec("y0", (1, None, None), np.dtype(np.float32)),)

    def __init__(self, answers: Sequence[Outputs]) -> None:
        self._answers = answers

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        answer = self._answers[int(feeds["x"].flat[0])]
        return {f"y{number}": output[np.newaxis] for number, output in enumerate(answer)}

    def bind(self, feeds: Mapping[str, NDArray[Any]]) -> Callable[[], None]:
        raise NotImplementedError
