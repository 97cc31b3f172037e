"""What accuracy means for each task."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from qbench.benchmarking.judging.agreement import AgreementJudge
from qbench.benchmarking.judging.judged import DRAWS, SEED, Judged, Outcome
from qbench.benchmarking.judging.material import Material
from qbench.data.box_labels import load_boxes
from qbench.data.labels import has_class_folders, load_labels
from qbench.data.masks import find_masks
from qbench.errors import UsageError
from qbench.evaluation import agreement, classify, detect, segment
from qbench.runtimes.base import Runner
from qbench.runtimes.cpu import usable_cores

logger = logging.getLogger(__name__)

_HALF = 0.5
"""A share of samples that no one takes for guessing, however few they are."""


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
        classes = None if self._warned else next(iter(runner.outputs[0].shape[1:2]), None)
        self._warned = True  # what is wrong with labels is so for each precision
        if isinstance(classes, int):
            self._warn_of_other_classes(classes)
        found = classify.evaluate(runner, self._source, self._labels, usable_cores())
        outcome, near = Outcome(found.top1, found.correct), Outcome(found.top5, found.near)
        if isinstance(classes, int):
            _warn_of_guessing(outcome, classes)
        return Judged("top1", found.names, outcome, {"top5": near})

    def _warn_of_other_classes(self, classes: int) -> None:
        """Say where names, which count by their order, are not as many as the model's classes."""
        known = self._labels.classes
        if known is not None and classes != len(known):
            logger.warning(
                "the labels name %d classes, but the model has %d, so that they may be others than "
                "those of the same place; list the model's in classes.txt beside the labels",
                len(known),
                classes,
            )


def _warn_of_guessing(outcome: Outcome, classes: int) -> None:
    """Say where a share of samples is not above what guessing one of the classes would give."""
    if outcome.value < _HALF and outcome.interval.low <= 1 / classes:
        logger.warning(
            "%d of %d samples classified right is what guessing one of %d classes may give; check "
            "that the labels count the model's classes, from 0, and the recipe",
            outcome.drawn.sum(),
            outcome.drawn.size,
            classes,
        )


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
        drawn = found.resampled(DRAWS, SEED)
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
        return Judged("miou", found.names, Outcome(found.miou, found.resampled(DRAWS, SEED)))


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


def _warn(notes: tuple[str, ...]) -> None:
    for note in notes:
        logger.warning("%s", note)
