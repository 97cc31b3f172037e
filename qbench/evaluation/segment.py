"""Mean IoU of a segmentation model over samples with labelled pixels."""

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
from qbench.evaluation.stream import SampleStream
from qbench.runtimes.base import Runner

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class SegmentResult:
    """Mean IoU over the samples that have a mask and could be read, in the source's order.

    Attributes:
        miou: Pixels of a class in common over those in truth or answer, of all samples together,
            averaged over the classes that occur.
        counts: Pixels in common, in truth and in answer by class, [n, 3, classes].
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

    Raises:
        DataError: A mask cannot be used, a label is no class of the model, or too many samples
            cannot be read.
        ModelError: The first output is no map of classes.
    """
    indices = [i for i in range(len(source)) if source.name(i) in labels.files]
    if not indices:
        raise DataError(f"no sample of {source.describe()} has a mask; check --labels")
    samples = SampleStream(source, indices, threads)
    counts: dict[str, Counts] = {}
    for sample in samples:
        truth = _truth(sample, labels, recipe)
        answer, classes = _answer(runner, sample, truth.shape[:2])
        counts[sample.name] = _counts(truth, answer, classes, sample.name)
    stacked = np.stack(list(counts.values()))
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
    shape = next(iter(sample.feeds.values())).shape
    size = shape[2:4] if recipe.layout == "nchw" else shape[1:3]
    mask = read_mask(labels.files[sample.name], sample.image_size)
    return preprocess_mask(mask, recipe, (size[0], size[1]))


def _answer(runner: Runner, sample: Sample, size: tuple[int, ...]) -> tuple[NDArray[np.int64], int]:
    """Return the class of each pixel, [height, width], and the number of classes."""
    name = runner.outputs[0].name
    output = runner.run(sample.feeds)[name][0]
    if output.ndim != 3 or output.shape[0] < 2:
        raise ModelError(
            f"output {name!r} has the shape {[1, *output.shape]}, which is no map of classes; "
            "segmentation needs [1, classes, height, width] as the first output"
        )
    check_numbers(output, name, sample.name)
    return _enlarged(output, size).argmax(axis=0), len(output)


def _enlarged(logits: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    """Return maps of logits, [classes, height, width], in another size."""
    if logits.shape[1:] == size:
        return logits
    return np.stack([cv2.resize(plane, (size[1], size[0])) for plane in logits.astype(np.float32)])


def _counts(truth: Pixels, answer: NDArray[np.int64], classes: int, name: str) -> Counts:
    valid = truth != NO_CLASS
    wanted, found = truth[valid].astype(np.int64), answer[valid]
    if wanted.size and wanted.max() >= classes:
        raise DataError(
            f"class {wanted.max()} in the mask of {name} is beyond the model's {classes} classes; "
            "correct the mask"
        )
    parts = (wanted[wanted == found], wanted, found)
    return np.stack([np.bincount(part, minlength=classes) for part in parts])
