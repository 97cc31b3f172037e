"""What accuracy means for each task, and how much a model's differs from another's."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from msgspec.structs import replace as replace_fields
from numpy.typing import NDArray

from qbench.benchmarking.result import Accuracy, Figure, FurtherMetric, Metric
from qbench.benchmarking.stats import (
    Interval,
    paired_difference,
    proportion_interval,
    resampled_interval,
)
from qbench.data.box_labels import load_boxes
from qbench.data.labels import has_class_folders, load_labels
from qbench.data.masks import find_masks
from qbench.data.recipes import Recipe
from qbench.data.samples import Source
from qbench.errors import ModelError, UsageError
from qbench.evaluation import agreement, classify, detect, segment
from qbench.evaluation.agreement import AgreementResult, Comparison
from qbench.evaluation.similarity import decibels
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
        decoder: How boxes are read; see `model.decoders`.
        reference: The float model, or its file, that is agreed with without labels; None where only
            engines are judged and their model is gone.
    """

    source: Source
    data: Path
    recipe: Recipe | None
    labels: Path | None
    decoder: str
    reference: Model | Path | None

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
        if isinstance(self.reference, Path):
            from qbench.model.load import load  # takes seconds to import, and labels do without

            return load(self.reference)
        return self.reference


@dataclass(frozen=True)
class Outcome:
    """A figure over the samples of a judge.

    Attributes:
        value: The figure.
        drawn: Whether each sample is right, [n]; or, where the figure is no share of samples, its
            value over sets of samples that were drawn with replacement, [draws].
    """

    value: float
    drawn: NDArray[Any]

    @property
    def interval(self) -> Interval:
        """The figure with its interval."""
        if self.drawn.dtype == np.bool_:
            return proportion_interval(int(self.drawn.sum()), self.drawn.size)
        return resampled_interval(self.value, self.drawn)

    def minus(self, other: Outcome) -> Interval:
        """Return how much higher it is than another over the same samples, bootstrapped."""
        if self.drawn.dtype == np.bool_:
            return paired_difference(self.drawn, other.drawn, _SEED)
        return resampled_interval(self.value - other.value, self.drawn - other.drawn)


@dataclass(frozen=True)
class Judged:
    """How a model does.

    Attributes:
        metric: What `outcome` is.
        names: The samples that were judged.
        outcome: The accuracy.
        others: Further figures by metric.
        decoder: What read its boxes, and should read those of the same model in other precisions;
            None but for `detect`.
    """

    metric: Metric
    names: tuple[str, ...]
    outcome: Outcome
    others: Mapping[FurtherMetric, Outcome] = field(default_factory=dict)
    decoder: str | None = None

    @property
    def accuracy(self) -> Accuracy:
        """The figures with their intervals."""
        others = tuple(
            Figure(metric, *_ends(outcome.interval)) for metric, outcome in self.others.items()
        )
        value, low, high = _ends(self.outcome.interval)
        return Accuracy(self.metric, value, len(self.names), low, high, others=others)

    def difference(self, baseline: Judged) -> Interval | None:
        """Return how much higher the accuracy is than the baseline's, bootstrapped over samples.

        None where the two were judged on other samples, or by another metric.
        """
        if (self.metric, self.names) != (baseline.metric, baseline.names):
            return None
        return self.outcome.minus(baseline.outcome)

    def compared(self, baseline: Judged) -> Accuracy:
        """Return the accuracy with the differences of all figures to the baseline's."""
        accuracy, change = self.accuracy, self.difference(baseline)
        if change is None:
            return accuracy
        others = tuple(
            replace_fields(figure, difference=self._change(figure.metric, baseline))
            for figure in accuracy.others
        )
        return replace_fields(accuracy, difference=change, others=others)

    def _change(self, metric: FurtherMetric, baseline: Judged) -> Interval | None:
        other = baseline.others.get(metric)
        return self.others[metric].minus(other) if other else None


class Judge(Protocol):
    """Tells how accurate a model is at one task, on one material."""

    def judge(self, runner: Runner) -> Judged:
        """Run the model on all samples.

        Raises:
            DataError: Samples or labels cannot be used.
            ModelError: The model's outputs do not suit the task.
        """


class ClassifyJudge:
    """Top-1 accuracy, and top-5."""

    def __init__(self, material: Material) -> None:
        self._source = material.source
        self._labels = load_labels(material.names, material.labels, material.data)
        self._warned = False
        _warn(self._labels.notes)

    def judge(self, runner: Runner) -> Judged:
        """Return the share of samples whose class is ranked first, and among the first five."""
        self._warn_of_other_classes(runner)
        found = classify.evaluate(runner, self._source, self._labels, usable_cores())
        near = Outcome(found.top5, found.near)
        return Judged("top1", found.names, Outcome(found.top1, found.correct), {"top5": near})

    def _warn_of_other_classes(self, runner: Runner) -> None:
        """Say where names, which count by their order, are not as many as the model's classes."""
        there, known = runner.outputs[0].shape[1:2], self._labels.classes
        if known is None or not there or there[0] == len(known) or not isinstance(there[0], int):
            return
        if not self._warned:
            logger.warning(
                "the labels name %d classes, but the model has %d, so that they may be others than "
                "those of the same place; list the model's in classes.txt beside the labels",
                len(known),
                there[0],
            )
        self._warned = True


class DetectJudge:
    """COCO mAP, and mAP at the IoU threshold .50."""

    def __init__(self, material: Material, labels: Path) -> None:
        self._source = material.source
        self._labels = load_boxes(material.names, labels)
        self._options = detect.DetectOptions(material.recipe, material.decoder)
        _warn(self._labels.notes)

    def judge(self, runner: Runner) -> Judged:
        """Return both; the decoder that fits the first model reads all of them."""
        found = detect.evaluate(runner, self._source, self._labels, self._options, usable_cores())
        self._options = replace(self._options, decoder=found.decoder)
        drawn = found.resampled(_DRAWS, _SEED)
        at_half = Outcome(found.map50, drawn[:, 1])
        outcome = Outcome(found.map, drawn[:, 0])
        return Judged("map", found.names, outcome, {"map50": at_half}, found.decoder)


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
        return Judged("miou", found.names, Outcome(found.miou, found.resampled(_DRAWS, _SEED)))


class AgreementJudge:
    """Agreement with the float model, without labels."""

    def __init__(self, material: Material, metric: Metric, compare: Comparison) -> None:
        reference = material.float_model()
        reference.check_float()
        self._model, self._source = reference.ir, material.source
        self._metric, self._compare = metric, compare

    @cached_property
    def _reference(self) -> OrtRunner:
        return open_graph(self._model)

    def judge(self, runner: Runner) -> Judged:
        """Return the mean agreement; further figures that overflow are left out."""
        found = self._compare(self._reference, runner, self._source, usable_cores())
        _check_finite(found)
        others: dict[FurtherMetric, Outcome] = {}
        for name, values in found.others.items():
            if name == "powers":
                others["sqnr_db"] = _drawn(values, _sqnr_db)
            else:
                others[name] = _outcome_of(values)
        finite = {name: one for name, one in others.items() if math.isfinite(one.value)}
        return Judged(self._metric, found.names, _outcome_of(found.values), finite)


def _check_finite(found: AgreementResult) -> None:
    """Make sure that every sample has a value.

    Raises:
        ModelError: The outputs for one are too large to be compared.
    """
    for name, value in zip(found.names, found.values, strict=True):
        if not math.isfinite(value):
            raise ModelError(
                f"the outputs for {name} hold NaN, or are too large to be compared; the precision "
                "may be too low for this model, compare with fp32"
            )


def _outcome_of(values: NDArray[Any]) -> Outcome:
    """Return the mean of `values` over samples, [n]."""
    if values.dtype == np.bool_:
        return Outcome(float(values.mean()), values)
    return _drawn(values, lambda drawn: float(drawn.mean()))


def _drawn(values: NDArray[Any], statistic: Callable[[NDArray[Any]], float]) -> Outcome:
    """Return a statistic of `values`, [n, ...], also over samples drawn with replacement.

    Of what is drawn, NaN stands for all that is not finite.
    """
    rng, n = np.random.default_rng(_SEED), len(values)
    drawn = np.array([statistic(values[rng.integers(n, size=n)]) for _ in range(_DRAWS)])
    return Outcome(statistic(values), np.where(np.isfinite(drawn), drawn, np.nan))


def _sqnr_db(powers: NDArray[np.float64]) -> float:
    """Return the ratio of the sums of signal and noise, [n, 2]; NaN where there is no noise."""
    signal, noise = powers.sum(axis=0).tolist()
    return decibels(signal, noise) if noise else math.nan


def _classify(material: Material) -> Judge:
    if material.labels is not None or has_class_folders(material.names, material.data):
        return ClassifyJudge(material)
    return AgreementJudge(material, "top1_agreement", agreement.same_class)


def _detect(material: Material) -> Judge:
    if material.labels is not None:
        return DetectJudge(material, material.labels)
    options = detect.DetectOptions(material.recipe, material.decoder)
    measure = agreement.detections_in_common(options)
    return AgreementJudge(material, "agreement", agreement.by_measure(measure))


def _embed(material: Material) -> Judge:
    if material.labels is not None:
        raise UsageError("task embed compares with FP32 and reads no labels; drop --labels")
    return AgreementJudge(material, "cosine", agreement.same_embedding)


TASKS: dict[str, Callable[[Material], Judge]] = {
    "classify": _classify,
    "detect": _detect,
    "segment": SegmentJudge,
    "embed": _embed,
}
"""What makes the judge of each task."""


def _ends(interval: Interval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high


def _warn(notes: tuple[str, ...]) -> None:
    for note in notes:
        logger.warning("%s", note)
