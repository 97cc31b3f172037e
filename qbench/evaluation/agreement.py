"""How far a model's answers agree with those of a reference on the same samples: no labels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qbench.data.samples import Sample, Source
from qbench.errors import MismatchError
from qbench.evaluation.classify import logits_of
from qbench.evaluation.detect import DetectOptions, read_candidates, suppress, with_decoder
from qbench.evaluation.similarity import (
    cosine,
    detection_agreement,
    powers,
    same_neighbours,
    top1_agreement,
)
from qbench.evaluation.stream import SampleStream
from qbench.runtimes.base import Runner, Tensors

Floats = NDArray[np.float64]
Other = Literal["cosine", "powers", "retrieval"]

_CONFIDENT = 0.25
_LARGEST_EMBEDDING = 1 << 16
_FEWEST_TO_RETRIEVE = 3  # of two, each is the other's nearest


@dataclass(frozen=True)
class AgreementResult:
    """How alike two models answer, in the source's order.

    Attributes:
        values: One value in [0, 1] or [-1, 1] per sample, 1 for equal answers, or whether it is
            answered alike, [n].
        names: Name of each sample.
        skipped: Names of samples that could not be read.
        others: Values of further metrics, by their names.
    """

    values: NDArray[Any]
    names: tuple[str, ...]
    skipped: tuple[str, ...]
    others: Mapping[Other, NDArray[Any]] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Mean over the samples."""
        return float(self.values.mean())


Measure = Callable[[Sample, Tensors, Tensors], float]
"""Tells how alike two models' outputs for a sample are: the reference's, then the other's."""

Comparison = Callable[[Runner, Runner, Source, int], AgreementResult]
"""Runs a reference and another model on every sample, read by some threads."""


def evaluate(
    reference: Runner, runner: Runner, source: Source, measure: Measure, threads: int
) -> AgreementResult:
    """Run both models on every sample of `source` and measure how alike their outputs are.

    Raises:
        DataError: Too many samples cannot be read.
        MismatchError: The outputs differ in shape.
        ModelError: The outputs do not suit the measure.
    """
    samples = SampleStream(source, range(len(source)), threads)
    values = {
        sample.name: measure(sample, reference.run(sample.feeds), runner.run(sample.feeds))
        for sample in samples
    }
    return AgreementResult(np.array(list(values.values())), tuple(values), samples.skipped)


def by_measure(measure: Measure) -> Comparison:
    """Return the comparison that takes `measure` of every sample; see `evaluate`."""

    def compare(reference: Runner, runner: Runner, source: Source, threads: int) -> AgreementResult:
        return evaluate(reference, runner, source, measure, threads)

    return compare


def same_class(reference: Runner, runner: Runner, source: Source, threads: int) -> AgreementResult:
    """Run two classifiers on every sample and tell whether they rank the same class first.

    Others are the `cosine` of the logits and, unless all logits are equal, their `powers`, [n, 2]:
    those of the signal and of the noise; see `similarity.powers`.

    Raises:
        DataError: Too many samples cannot be read.
        MismatchError: The models differ in classes.
        ModelError: An output is not one row of logits, or holds a NaN.
    """
    samples = SampleStream(source, range(len(source)), threads)
    rows = {}
    for sample in samples:
        wanted, found = logits_of(reference, sample), logits_of(runner, sample)
        same = top1_agreement(wanted[np.newaxis], found[np.newaxis])
        rows[sample.name] = same, cosine(wanted, found), *powers(wanted, found)
    table = np.array(list(rows.values()))
    others: dict[Other, NDArray[Any]] = {"cosine": table[:, 1]}
    if table[:, 3].any():
        others["powers"] = table[:, 2:]
    return AgreementResult(table[:, 0] == 1, tuple(rows), samples.skipped, others)


def same_embedding(
    reference: Runner, runner: Runner, source: Source, threads: int
) -> AgreementResult:
    """Run two models on every sample and measure the cosine between their outputs.

    The other is `retrieval`: whether the sample that is nearest among all others is the same one,
    where there are three samples or more and embeddings of one length, of at most 65536 values.

    Raises:
        DataError: Too many samples cannot be read.
        MismatchError: The outputs differ in names or shape.
    """
    samples = SampleStream(source, range(len(source)), threads)
    cosines: dict[str, float] = {}
    embeddings: list[tuple[Floats, Floats]] = []
    for sample in samples:
        wanted, found = reference.run(sample.feeds), runner.run(sample.feeds)
        cosines[sample.name] = output_cosine(sample, wanted, found)
        if sum(output.size for output in wanted.values()) <= _LARGEST_EMBEDDING:
            embeddings.append((_embedding(wanted), _embedding(found)))
    others: dict[Other, NDArray[Any]] = {}
    lengths = {wanted.size for wanted, _ in embeddings}
    if len(embeddings) == len(cosines) >= _FEWEST_TO_RETRIEVE and len(lengths) == 1:
        wanted_rows, found_rows = (np.stack(rows) for rows in zip(*embeddings, strict=True))
        others["retrieval"] = same_neighbours(wanted_rows, found_rows)
    return AgreementResult(
        np.array(list(cosines.values())), tuple(cosines), samples.skipped, others
    )


def output_cosine(sample: Sample, wanted: Tensors, found: Tensors) -> float:
    """Return the cosine between the outputs, averaged over them.

    Raises:
        MismatchError: The other model lacks one, or the outputs differ in shape.
    """
    del sample
    if missing := [name for name in wanted if name not in found]:
        raise MismatchError(
            f"the model has no output {missing[0]!r} to compare with that of the first model; "
            "measure it alone"
        )
    return float(np.mean([cosine(wanted[name], found[name]) for name in wanted]))


def score_cosine(options: DetectOptions) -> Measure:
    """Return the measure of the cosine between the class scores of all boxes that are proposed.

    The decoder that fits the reference's outputs for the first sample reads all outputs.
    """

    def measure(sample: Sample, wanted: Tensors, found: Tensors) -> float:
        nonlocal options
        options = with_decoder(options, wanted, sample)
        both = [read_candidates(outputs, sample, options) for outputs in (wanted, found)]
        return cosine(both[0].scores, both[1].scores)

    return measure


def detections_in_common(options: DetectOptions) -> Measure:
    """Return the measure of the share of confident detections that both models make.

    See `similarity.detection_agreement`; confident are scores above .25. The decoder that fits the
    reference's outputs for the first sample reads all outputs.
    """
    confident = replace(options, score_threshold=_CONFIDENT)

    def measure(sample: Sample, wanted: Tensors, found: Tensors) -> float:
        nonlocal confident
        confident = with_decoder(confident, wanted, sample)
        reference, test = (
            suppress(read_candidates(outputs, sample, confident), confident)
            for outputs in (wanted, found)
        )
        return detection_agreement((reference.boxes, reference.classes), (test.boxes, test.classes))

    return measure


def _embedding(outputs: Tensors) -> Floats:
    """Return unit vectors of all outputs as one, so that products are the sums of their cosines."""
    parts = [output.ravel().astype(np.float64) for output in outputs.values()]
    with np.errstate(over="ignore", invalid="ignore"):
        return np.concatenate([part / (np.linalg.norm(part) or 1) for part in parts])
