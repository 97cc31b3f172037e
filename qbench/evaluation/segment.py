"""Mean IoU of a segmentation model over samples with labelled pixels."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from qbench.data.masks import MaskLabels, read_mask
from qbench.data.preprocess import NO_CLASS, Pixels, preprocess_mask
from qbench.data.recipes import Recipe
from qbench.data.samples import Sample, Source
from qbench.errors import DataError, ModelError
from qbench.evaluation.numbers import check_numbers
from qbench.evaluation.stream import SampleStream, labelled
from qbench.runtimes.base import Runner

logger = logging.getLogger(__name__)

Counts = NDArray[np.int64]

_AXES = 3  # of logits: classes, height and width


@dataclass(frozen=True)
class SegmentResult:
    """Mean IoU over the samples that have a mask and could be read, in the source's order.

    Attributes:
        miou: Pixels of a class in common over those in truth or answer, of all samples together,
            averaged over the classes that occur.
        counts: Pixels in common, in truth and in answer by class, [n, 3, classes]; 255 classes
            where the model ends in ArgMax, and does not tell how many it has.
        names: Name of each sample; models that judged the same names can be paired.
        skipped: Names of samples with a mask that could not be read.
    """

    miou: float
    counts: Counts
    names: tuple[str, ...]
    skipped: tuple[str, ...]

    def resampled(self, draws: int, seed: int) -> NDArray[np.float64]:
        """Return mean IoU over `draws` sets of n samples drawn with replacement, [draws].

        The same names and seed give the same sets, so that differences are a paired bootstrap.
        """
        n, rng = len(self.names), np.random.default_rng(seed)
        return np.array([mean_iou(self.counts[rng.integers(n, size=n)]) for _ in range(draws)])


def evaluate(
    runner: Runner, source: Source, labels: MaskLabels, recipe: Recipe, threads: int
) -> SegmentResult:
    """Run every sample of `source` that has a mask and compare pixel by pixel.

    The mask is moved as the recipe moves the image, and compared in the size of the model's input.
    The first output is logits, [1, classes, height, width] or [1, height, width, classes], or the
    classes as integers, [1, height, width] with or without an axis of 1; smaller ones are enlarged.

    Raises:
        DataError: A mask cannot be used, a label is no class of the model, or too many samples
            cannot be read.
        ModelError: The first output is no map of classes, or holds a NaN.
    """
    samples = SampleStream(source, labelled(source, labels.files, "a mask"), threads)
    counts: dict[str, Counts] = {}
    for sample in samples:
        truth = _truth(sample, labels, recipe)
        answer, classes = _answer(runner, sample, (truth.shape[0], truth.shape[1]))
        counts[sample.name] = _counts(truth, answer, classes, sample.name)
    stacked = np.stack(list(counts.values()))
    if not stacked[:, 1, 1:].any():
        logger.warning(
            "the masks show no class but 0, and pixels of %d do not count; save the classes as "
            "gray values 0, 1, 2 and so on",
            NO_CLASS,
        )
    return SegmentResult(mean_iou(stacked), stacked, tuple(counts), samples.skipped)


def mean_iou(counts: Counts) -> float:
    """Return the mean IoU of `SegmentResult.counts`; NaN where no class occurs."""
    common, truth, answer = counts.sum(axis=0)
    union = truth + answer - common
    occurs = union > 0
    return float(np.mean(common[occurs] / union[occurs])) if occurs.any() else float("nan")


def _truth(sample: Sample, labels: MaskLabels, recipe: Recipe) -> Pixels:
    if sample.image_size is None:
        raise DataError(
            f"{sample.name} is an array, which has no mask; give --data with a folder of images"
        )
    size = recipe.height_and_width(next(iter(sample.feeds.values())).shape)
    mask = read_mask(labels.files[sample.name], sample.image_size)
    return preprocess_mask(mask, recipe, size)


def _answer(runner: Runner, sample: Sample, size: tuple[int, int]) -> tuple[NDArray[Any], int]:
    """Return the class of each pixel, [height, width], and a number that all classes are below."""
    name = runner.outputs[0].name
    output = runner.run(sample.feeds)[name][0]
    check_numbers(output, name, sample.name)
    classes = _class_map(output, name)
    if classes is not None and _skew(classes.shape, size) <= max(size):
        return _resized(classes, size, cv2.INTER_NEAREST_EXACT), NO_CLASS
    logits = np.moveaxis(output, _class_axis(output, name, size), 0)
    if logits.shape[1:] != size:
        logits = np.stack([_resized(plane, size, cv2.INTER_LINEAR) for plane in logits])
    return logits.argmax(axis=0), len(logits)


def _class_map(output: NDArray[Any], name: str) -> NDArray[np.uint8] | None:
    """Return what a model that ends in ArgMax gives, [height, width]; None if it is none."""
    if output.dtype.kind not in "biu":
        return None
    for axis in (0, -1):
        if output.ndim == _AXES and output.shape[axis] == 1:
            output = output.squeeze(axis)
    if output.ndim != _AXES - 1:
        return None
    if output.min(initial=0) < 0 or output.max(initial=0) >= NO_CLASS:
        raise ModelError(
            f"output {name!r} has values from {output.min()} to {output.max()}, but classes are 0 "
            f"to {NO_CLASS - 1}; give a model that ends in ArgMax or before it"
        )
    return output.astype(np.uint8)


def _class_axis(output: NDArray[Any], name: str, size: tuple[int, int]) -> int:
    """Return the axis of logits that are the classes: the others are shaped as the input.

    Raises:
        ModelError: There is none, or either the first or the last can be it.
    """
    axes = [axis for axis in (0, 2) if output.ndim == _AXES and output.shape[axis] > 1]
    skews = {axis: _skew(np.delete(output.shape, axis).tolist(), size) for axis in axes}
    exact = [axis for axis in axes if skews[axis] == 0]
    fitting = exact or [axis for axis in axes if skews[axis] <= max(size)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        problem = "whose classes may be the second axis or the last; give a model with another size"
    else:
        problem = (
            f"which is no map of classes for an input of {size[0]}x{size[1]}; segmentation needs "
            "[1, classes, height, width], [1, height, width, classes] or, of integers, "
            "[1, height, width] as the first output"
        )
    raise ModelError(f"output {name!r} has the shape {[1, *output.shape]}, {problem}")


def _skew(shape: Sequence[int], size: tuple[int, int]) -> int:
    """Return how far a (height, width) is from the shape of `size`, 0 if it is the same.

    It is up to the longer side of `size` where height and width were divided and rounded.
    """
    return abs(shape[0] * size[1] - shape[1] * size[0])


def _resized(plane: NDArray[Any], size: tuple[int, int], filter_: int) -> NDArray[Any]:
    """Return a plane of logits or classes in another size."""
    if plane.shape == size:
        return plane
    values = plane if plane.dtype == np.uint8 else plane.astype(np.float32)
    return np.asarray(cv2.resize(values, size[::-1], interpolation=filter_))


def _counts(truth: Pixels, answer: NDArray[Any], classes: int, name: str) -> Counts:
    valid = truth != NO_CLASS
    wanted, found = truth[valid].astype(np.int64), answer[valid].astype(np.int64)
    if wanted.size and wanted.max() >= classes:
        raise DataError(
            f"class {wanted.max()} in the mask of {name} is beyond the model's {classes} classes; "
            "correct the mask"
        )
    parts = (wanted[wanted == found], wanted, found)
    return np.stack([np.bincount(part, minlength=classes) for part in parts])
