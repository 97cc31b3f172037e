"""What accuracy means for each task, and how much a model's differs from another's."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qbench.benchmarking.result import Accuracy, Metric, accuracy_from_correct
from qbench.benchmarking.stats import Interval, paired_difference, resampled_interval
from qbench.data.box_labels import load_boxes
from qbench.data.labels import load_labels
from qbench.data.masks import find_masks
from qbench.data.recipes import Recipe
from qbench.data.samples import Source
from qbench.errors import UsageError
from qbench.evaluation import agreement, classify, detect, segment
from qbench.evaluation.agreement import Measure
from qbench.runtimes.base import Runner
from qbench.runtimes.cpu import usable_cores
from qbench.runtimes.ort import OrtRunner, open_graph

if TYPE_CHECKING:
    from qbench.model.load import Model  # which loads the graph library, and that takes seconds

logger = logging.getLogger(__name__)

_DRAWS = 300
_SEED = 0


@dataclass(frozen=True)
class Material:
    """What a model is judged on.

    Attributes:
        source: The samples.
        data: Where they come from.
        recipe: How they were prepared; None for arrays.
        labels: Where their labels are; None where the task needs none, or finds them by itself.
        decoder: How boxes are read; see `evaluation.decoders`.
        reference: The float model that is agreed with where there are no labels; None where only
            engines are judged and their model is gone.
    """

    source: Source
    data: Path
    recipe: Recipe | None
    labels: Path | None
    decoder: str
    reference: Model | None

    @property
    def names(self) -> list[str]:
        """Names of all samples."""
        return [self.source.name(index) for index in range(len(self.source))]

    def float_model(self) -> Model:
        """Return the reference.

        Raises:
            UsageError: There is none.
        """
        if self.reference is None:
            raise UsageError(
                "without labels an engine is compared with its float model, which is gone or "
                "changed; name an .onnx file before it, or give --labels"
            )
        return self.reference


@dataclass(frozen=True)
class Judged:
    """A model's accuracy.

    Attributes:
        accuracy: The figure.
        names: The samples that were judged.
        outcomes: Whether each sample is right, [n]; or, where the figure is no share of samples,
            its value over sets of samples that were drawn with replacement, [draws].
        decoder: What read its boxes, and should read those of the same model in other precisions;
            None but for `detect`.
    """

    accuracy: Accuracy
    names: tuple[str, ...]
    outcomes: NDArray[Any]
    decoder: str | None = None

    def difference(self, baseline: Judged) -> Interval | None:
        """Return how much higher the figure is than the baseline's, bootstrapped over samples.

        None where the two were judged on other samples, or by another metric.
        """
        same_metric = self.accuracy.metric == baseline.accuracy.metric
        if self.names != baseline.names or not same_metric:
            return None
        if self.outcomes.dtype == np.bool_:
            return paired_difference(self.outcomes, baseline.outcomes, _SEED)
        value = self.accuracy.value - baseline.accuracy.value
        return resampled_interval(value, self.outcomes - baseline.outcomes)


class Judge(Protocol):
    """Tells how accurate a model is at one task, on one material."""

    def judge(self, runner: Runner) -> Judged:
        """Run the model on all samples.

        Raises:
            DataError: Samples or labels cannot be used.
            ModelError: The model's outputs do not suit the task.
        """


class ClassifyJudge:
    """Top-1 accuracy."""

    def __init__(self, material: Material) -> None:
        self._source = material.source
        self._labels = load_labels(material.names, material.labels, material.data)
        _warn(self._labels.notes)

    def judge(self, runner: Runner) -> Judged:
        """Return the share of samples whose class is ranked first."""
        found = classify.evaluate(runner, self._source, self._labels, usable_cores())
        return Judged(accuracy_from_correct("top1", found.correct), found.names, found.correct)


class DetectJudge:
    """COCO mAP."""

    def __init__(self, material: Material, labels: Path) -> None:
        self._source = material.source
        self._labels = load_boxes(material.names, labels)
        self._options = detect.DetectOptions(material.recipe, material.decoder)
        _warn(self._labels.notes)

    def judge(self, runner: Runner) -> Judged:
        """Return mAP; the decoder that fits the first model reads all of them."""
        found = detect.evaluate(runner, self._source, self._labels, self._options, usable_cores())
        self._options = replace(self._options, decoder=found.decoder)
        judged = _judged("map", found.map, found.names, found.resampled(_DRAWS, _SEED))
        return replace(judged, decoder=found.decoder)


class SegmentJudge:
    """Mean IoU."""

    def __init__(self, material: Material) -> None:
        if material.labels is None or material.recipe is None:
            raise UsageError(
                "task segment needs images with masks; give --data and --labels FOLDER"
            )
        self._source, self._recipe = material.source, material.recipe
        self._labels = find_masks(material.names, material.labels)
        _warn(self._labels.notes)

    def judge(self, runner: Runner) -> Judged:
        """Return the mean IoU."""
        found = segment.evaluate(runner, self._source, self._labels, self._recipe, usable_cores())
        return _judged("miou", found.miou, found.names, found.resampled(_DRAWS, _SEED))


class AgreementJudge:
    """Agreement with the float model, without labels."""

    def __init__(self, material: Material, metric: Metric, measure: Measure) -> None:
        reference = material.float_model()
        reference.check_float()
        self._model, self._source = reference.ir, material.source
        self._metric, self._measure = metric, measure

    @cached_property
    def _reference(self) -> OrtRunner:
        return open_graph(self._model)

    def judge(self, runner: Runner) -> Judged:
        """Return the mean agreement."""
        found = agreement.evaluate(
            self._reference, runner, self._source, self._measure, usable_cores()
        )
        rng = np.random.default_rng(_SEED)
        n = found.values.size
        means = [found.values[rng.integers(n, size=n)].mean() for _ in range(_DRAWS)]
        return _judged(self._metric, found.mean, found.names, np.array(means))


def _detect(material: Material) -> Judge:
    if material.labels is not None:
        return DetectJudge(material, material.labels)
    options = detect.DetectOptions(material.recipe, material.decoder)
    return AgreementJudge(material, "agreement", agreement.detections_in_common(options))


def _embed(material: Material) -> Judge:
    if material.labels is not None:
        raise UsageError("task embed compares with FP32 and reads no labels; drop --labels")
    return AgreementJudge(material, "cosine", agreement.output_cosine)


TASKS: dict[str, Callable[[Material], Judge]] = {
    "classify": ClassifyJudge,
    "detect": _detect,
    "segment": SegmentJudge,
    "embed": _embed,
}
"""What makes the judge of each task."""


def _judged(
    metric: Metric, value: float, names: tuple[str, ...], resampled: NDArray[np.float64]
) -> Judged:
    interval = resampled_interval(value, resampled)
    return Judged(
        Accuracy(metric, value, len(names), interval.low, interval.high), names, resampled
    )


def _warn(notes: tuple[str, ...]) -> None:
    for note in notes:
        logger.warning("%s", note)
