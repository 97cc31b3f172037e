"""How far a model's answers agree with those of a reference on the same samples: no labels."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qbench.data.samples import Sample, Source
from qbench.evaluation.detect import DetectOptions, read_candidates, suppress, with_decoder
from qbench.evaluation.similarity import cosine, detection_agreement
from qbench.evaluation.stream import SampleStream
from qbench.model.decoders import Candidates
from qbench.runtimes.base import Runner, Tensors

_CONFIDENT = 0.25


@dataclass(frozen=True)
class AgreementResult:
    """How alike two models answer, in the source's order.

    Attributes:
        values: One value in [0, 1] or [-1, 1] per sample, 1 for equal answers, [n].
        names: Name of each sample.
        skipped: Names of samples that could not be read.
    """

    values: NDArray[np.float64]
    names: tuple[str, ...]
    skipped: tuple[str, ...]

    @property
    def mean(self) -> float:
        """Mean over the samples."""
        return float(self.values.mean())


Measure = Callable[[Sample, Tensors, Tensors], float]
"""Tells how alike two models' outputs for a sample are: the reference's, then the other's."""


def evaluate(
    reference: Runner, runner: Runner, source: Source, measure: Measure, threads: int
) -> AgreementResult:
    """Run both models on every sample of `source` and measure how alike their outputs are.

    Raises:
        DataError: Too many samples cannot be read, or the outputs differ in shape.
        ModelError: The outputs do not suit the measure.
    """
    samples = SampleStream(source, range(len(source)), threads)
    values = {
        sample.name: measure(sample, reference.run(sample.feeds), runner.run(sample.feeds))
        for sample in samples
    }
    return AgreementResult(np.array(list(values.values())), tuple(values), samples.skipped)


def output_cosine(sample: Sample, wanted: Tensors, found: Tensors) -> float:
    """Return the cosine between the outputs, averaged over them."""
    del sample
    return float(np.mean([cosine(wanted[name], found[name]) for name in wanted]))


def score_cosine(options: DetectOptions) -> Measure:
    """Return the measure of the cosine between the class scores of all boxes that are proposed."""

    def measure(sample: Sample, wanted: Tensors, found: Tensors) -> float:
        reference, test = _both(sample, wanted, found, options)
        return cosine(reference.scores, test.scores)

    return measure


def detections_in_common(options: DetectOptions) -> Measure:
    """Return the measure of the share of confident detections that both models make.

    See `similarity.detection_agreement`; confident are scores above .25.
    """
    confident = replace(options, score_threshold=_CONFIDENT)

    def measure(sample: Sample, wanted: Tensors, found: Tensors) -> float:
        both = _both(sample, wanted, found, confident)
        reference, test = (suppress(candidates, confident) for candidates in both)
        return detection_agreement((reference.boxes, reference.classes), (test.boxes, test.classes))

    return measure


def _both(
    sample: Sample, wanted: Tensors, found: Tensors, options: DetectOptions
) -> tuple[Candidates, Candidates]:
    """Return what both models propose, read by the decoder that fits the reference."""
    options = with_decoder(options, wanted, sample)
    return read_candidates(wanted, sample, options), read_candidates(found, sample, options)
