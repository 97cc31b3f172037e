"""COCO's average precision, computed by faster-coco-eval."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qbench.data.box_labels import TrueBoxes
from qbench.errors import UnfitError

_EVERY_SIZE = [[0.0, 1e10]]


@dataclass(frozen=True)
class Detections:
    """What a model finds in one image, best first.

    Attributes:
        boxes: x1, y1, x2, y2 in pixels, [n, 4].
        scores: Probability of each, [n].
        classes: Class index of each, [n].
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    classes: NDArray[np.int64]


class AveragePrecision:
    """The precisions of detections in images, from which means over any of the images follow.

    Precision is averaged over the IoU thresholds .50, .55, ... .95, over 101 recalls and over the
    classes that have a box to be found (Lin et al., Microsoft COCO, 2014).
    """

    def __init__(self, truth: Sequence[TrueBoxes], found: Sequence[Detections], most: int) -> None:
        """Match what was found with what is there.

        Args:
            truth: Labelled boxes of each image, in pixels; categories are class indices.
            found: Detections in each image.
            most: At most this many detections of an image count.

        Raises:
            UnfitError: faster-coco-eval is not installed.
        """
        library = load_library()
        wanted = library.COCO(_document(truth))
        judge = library.COCOeval_faster(
            wanted, wanted.loadRes(_results(found)), "bbox", separate_eval=True
        )
        judge.params.areaRng, judge.params.areaRngLbl = _EVERY_SIZE, ["all"]
        judge.params.maxDets = [most]
        judge.evaluate()
        self._judge, self._images = judge, len(truth)
        # No public name gives the outcomes per image; they lie in this list, class by class.
        self._outcomes = judge._evalImgs_cpp

    def means(self, images: NDArray[np.int64] | None = None) -> tuple[float, float]:
        """Return mAP and mAP at IoU .50; NaN where there is no box to be found.

        Args:
            images: The images to take, [n] indices for n images, where one may stand twice; None
                for every image once.
        """
        self._judge._evalImgs_cpp = self._outcomes if images is None else self._drawn(images)
        self._judge.accumulate()
        precision = self._judge.eval["precision"]
        return _mean(precision), _mean(precision[0])

    def _drawn(self, images: NDArray[np.int64]) -> list[Any]:
        starts = range(0, len(self._outcomes), self._images)
        return [self._outcomes[start + image] for start in starts for image in images]


def _mean(precision: NDArray[np.float64]) -> float:
    # -1 stands where a class has no box to be found.
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else float("nan")


def load_library() -> Any:
    """Return the module faster_coco_eval.

    Raises:
        UnfitError: It is not installed.
    """
    try:
        return import_module("faster_coco_eval")
    except ImportError as error:
        raise UnfitError(
            "mAP needs faster-coco-eval, which is not installed; "
            "run `uv pip install faster-coco-eval` or `pip install faster-coco-eval`"
        ) from error


def _document(truth: Sequence[TrueBoxes]) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = [
        {"image_id": image, "category_id": int(category), "bbox": box, "iscrowd": int(crowd)}
        for image, there in enumerate(truth)
        for box, category, crowd in zip(
            _sized(there.boxes), there.categories, there.crowd, strict=True
        )
    ]
    for number, annotation in enumerate(annotations, start=1):
        width, height = annotation["bbox"][2:]
        annotation.update(id=number, area=width * height)
    classes = sorted({annotation["category_id"] for annotation in annotations})
    return {
        "images": [{"id": image} for image in range(len(truth))],
        "annotations": annotations,
        "categories": [{"id": index} for index in classes],
    }


def _results(found: Sequence[Detections]) -> list[dict[str, Any]]:
    return [
        {"image_id": image, "category_id": int(label), "bbox": box, "score": float(score)}
        for image, there in enumerate(found)
        for box, score, label in zip(_sized(there.boxes), there.scores, there.classes, strict=True)
    ]


def _sized(boxes: NDArray[np.float64]) -> list[list[float]]:
    """Return x, y, width, height."""
    sized: list[list[float]] = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).tolist()
    return sized
