"""Decoders: what a detector's raw outputs say, as boxes with scores.

A decoder takes the outputs of one image, without their batch axis and in the model's order, and the
height and width of the model's input. It raises a ModelError where these do not have its layout.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qbench.errors import ModelError, UsageError

Outputs = Sequence[NDArray[Any]]
Floats = NDArray[np.float64]

_STRIDES = ((8, 16, 32), (8, 16, 32, 64))
_ANCHORS_PER_CELL = 3
_CORNERS = 4
_END2END_COLUMNS = 6
_LARGEST_LOG_SIZE = 10.0


@dataclass(frozen=True)
class Candidates:
    """Boxes that a model proposes for one image.

    Attributes:
        boxes: x1, y1, x2, y2 in pixels of the model's input, [n, 4].
        scores: Probability of each class, [n, classes]; [n, 1] with `labels`.
        labels: Class of each box, [n]; None where the columns of `scores` are the classes.
        overlapping: Whether one object has many boxes, so that suppression is still due.
    """

    boxes: Floats
    scores: Floats
    labels: NDArray[np.int64] | None = None
    overlapping: bool = True

    @property
    def classes(self) -> int | None:
        """Number of classes that the model knows; None where its output does not say."""
        return self.scores.shape[1] if self.labels is None else None


Decoder = Callable[[Outputs, tuple[int, int]], Candidates]


def yolov8(outputs: Outputs, size: tuple[int, int]) -> Candidates:
    """Decode [4 + classes, anchors]: centre and size in pixels, then class probabilities."""
    del size
    rows = _table(outputs[0], "yolov8", "[4 + classes, anchors]", 5, axis=0).T
    return Candidates(_corners(rows[:, :4]), rows[:, 4:])


def yolov5(outputs: Outputs, size: tuple[int, int]) -> Candidates:
    """Decode [anchors, 5 + classes]: centre and size in pixels, objectness, class probabilities.

    A box is of a class with the probability objectness * class.
    """
    del size
    rows = _table(outputs[0], "yolov5", "[anchors, 5 + classes]", 6)
    return Candidates(_corners(rows[:, :4]), rows[:, 4:5] * rows[:, 5:])


def yolox(outputs: Outputs, size: tuple[int, int]) -> Candidates:
    """Decode [cells, 5 + classes] as `yolov5`, but with boxes relative to the cells of a grid.

    Centre = (offset + cell) * stride, size = exp(value) * stride, with the strides 8, 16 and 32,
    and 64 where there are as many cells. A model exported with its decoder inside is `yolov5`.
    """
    rows = _table(outputs[0], "yolox", "[cells, 5 + classes]", 6)
    strides = next((s for s in _STRIDES if _cell_count(size, s) == len(rows)), None)
    if strides is None:
        raise ModelError(
            f"decoder 'yolox' expects {_cell_count(size, _STRIDES[0])} cells for an input of "
            f"{size[0]}x{size[1]}, not {len(rows)}; choose --decoder yolov5 or another"
        )
    cells, stride = _grid(size, strides)
    # No box is larger than e^10 cells, and the output of a ruined model must not overflow.
    sides = np.exp(np.minimum(rows[:, 2:4], _LARGEST_LOG_SIZE)) * stride
    boxes = _corners(np.hstack([(rows[:, :2] + cells) * stride, sides]))
    return Candidates(boxes, rows[:, 4:5] * rows[:, 5:])


def end2end(outputs: Outputs, size: tuple[int, int]) -> Candidates:
    """Decode [boxes, 6]: corners in pixels, score, class; suppression is part of the model."""
    del size
    rows = _table(outputs[0], "end2end", "[boxes, 6]", _END2END_COLUMNS)[:, :_END2END_COLUMNS]
    labels = np.rint(rows[:, 5]).astype(np.int64)
    return Candidates(rows[:, :4], rows[:, 4:5], labels, overlapping=False)


def ssd(outputs: Outputs, size: tuple[int, int]) -> Candidates:
    """Decode boxes [anchors, 4], corners as shares of the input, and scores [anchors, 1 + classes].

    The first class is the background. Scores are logits, or probabilities after a softmax.
    """
    boxes, scores = _boxes_and_scores(outputs, "ssd")
    return Candidates(boxes * np.tile(size[::-1], 2), _softmax(scores)[:, 1:])


def detr(outputs: Outputs, size: tuple[int, int]) -> Candidates:
    """Decode boxes [queries, 4], centre and size as shares, and logits [queries, classes + 1].

    The last class is `no object`. One object has one box, so nothing is suppressed.
    """
    boxes, logits = _boxes_and_scores(outputs, "detr")
    boxes = _corners(boxes) * np.tile(size[::-1], 2)
    return Candidates(boxes, _softmax(logits)[:, :-1], overlapping=False)


def rtdetr(outputs: Outputs, size: tuple[int, int]) -> Candidates:
    """Decode as `detr`, but every class has a logit of its own, and `no object` has none."""
    boxes, logits = _boxes_and_scores(outputs, "rtdetr")
    boxes = _corners(boxes) * np.tile(size[::-1], 2)
    return Candidates(boxes, _sigmoid(logits), overlapping=False)


DECODERS: dict[str, Decoder] = {
    "yolov8": yolov8,
    "yolov5": yolov5,
    "yolox": yolox,
    "end2end": end2end,
    "ssd": ssd,
    "detr": detr,
    "rtdetr": rtdetr,
}
"""Every decoder by its name on the command line; `auto` stands for `choose_decoder`."""


def choose_decoder(outputs: Outputs, size: tuple[int, int]) -> str:
    """Return the name of the decoder that fits the outputs of one image.

    The number of anchors follows from the input's size: one in every cell of the grids of strides
    8, 16 and 32 (YOLOv8, YOLOX), or three (YOLOv5). It tells columns from rows.

    Raises:
        UsageError: None fits, or more than one does.
    """
    shapes = ", ".join(str([1, *output.shape]) for output in outputs)
    if len(outputs) != 1 or outputs[0].ndim != 2:
        raise UsageError(
            f"outputs {shapes} do not say how to read them; choose --decoder {', '.join(DECODERS)}"
        )
    rows, columns = outputs[0].shape
    cells = {_cell_count(size, strides) for strides in _STRIDES}
    if columns in cells:
        return "yolov8"
    if rows in {_ANCHORS_PER_CELL * count for count in cells}:
        return "yolov5"
    if rows in cells and _is_relative(outputs[0], size):
        return "yolox"
    if columns == _END2END_COLUMNS and rows not in cells:
        return "end2end"
    raise UsageError(
        f"output {shapes} of an input of {size[0]}x{size[1]} fits no decoder or several; "
        f"choose --decoder {', '.join(DECODERS)}"
    )


def _is_relative(output: NDArray[Any], size: tuple[int, int]) -> bool:
    """Return whether x and y are offsets from cells; in pixels they reach across the input.

    NaN and infinity say nothing: what reads the outputs tells of them.
    """
    finite = output[:, :2][np.isfinite(output[:, :2])]
    return bool(np.abs(finite).max(initial=0) < max(size) / 2)


def _cell_count(size: tuple[int, int], strides: Sequence[int]) -> int:
    return sum((size[0] // stride) * (size[1] // stride) for stride in strides)


def _grid(size: tuple[int, int], strides: Sequence[int]) -> tuple[Floats, Floats]:
    """Return x and y of all cells, [cells, 2], and their strides, [cells, 1]."""
    cells = [np.indices((size[0] // s, size[1] // s))[::-1].reshape(2, -1).T for s in strides]
    counts = [len(part) for part in cells]
    return np.vstack(cells).astype(float), np.repeat(np.array(strides, float), counts)[:, None]


def _corners(boxes: Floats) -> Floats:
    """Return x1, y1, x2, y2 of boxes given by centre and size."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.hstack([centre - half, centre + half])


def _table(output: NDArray[Any], decoder: str, layout: str, fewest: int, axis: int = 1) -> Floats:
    if output.ndim != 2 or output.shape[axis] < fewest:
        raise ModelError(
            f"decoder {decoder!r} reads {layout}, but the first output is {list(output.shape)} "
            f"for each image; choose another --decoder: {', '.join(DECODERS)}"
        )
    return output.astype(np.float64)


def _boxes_and_scores(outputs: Outputs, decoder: str) -> tuple[Floats, Floats]:
    """Return the output of four columns and the first other one with as many rows."""
    tables = [output.astype(np.float64) for output in outputs if output.ndim == 2]
    for boxes in tables:
        for scores in tables:
            fits = boxes.shape[1] == _CORNERS and len(scores) == len(boxes)
            if fits and scores is not boxes:
                return boxes, scores
    shapes = ", ".join(str(list(output.shape)) for output in outputs)
    raise ModelError(
        f"decoder {decoder!r} reads boxes [n, 4] and scores [n, classes], but the outputs are "
        f"{shapes} for each image; choose another --decoder: {', '.join(DECODERS)}"
    )


def _softmax(logits: Floats) -> Floats:
    # Logits of thousands of boxes never all lie between 0 and 1; a softmax's outputs always do, but
    # for the rounding of quantized ones.
    if logits.min(initial=0) > -0.02 and logits.max(initial=0) < 1.02:
        return logits
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _sigmoid(logits: Floats) -> Floats:
    return 0.5 * (1 + np.tanh(logits / 2))
