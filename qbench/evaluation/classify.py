"""Top-1 and top-5 accuracy of a classifier over labelled samples."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qbench.data.labels import Labels
from qbench.data.samples import Sample, Source
from qbench.errors import DataError, ModelError
from qbench.evaluation.numbers import check_numbers
from qbench.evaluation.stream import SampleStream, labelled
from qbench.runtimes.base import Runner

_TOP = 5


@dataclass(frozen=True)
class ClassifyResult:
    """Accuracy over the samples that have a label and could be read, in the source's order.

    Attributes:
        top1: Share of samples whose own class has the highest logit.
        top5: Share of samples whose own class is among the five highest.
        n: Number of samples judged.
        correct: Whether each sample is right at top-1, [n]; models that judged the same names can
            be paired.
        near: Whether each sample is right at top-5, [n].
        names: Name of each sample.
        skipped: Names of labelled samples that could not be read.
    """

    top1: float
    top5: float
    n: int
    correct: NDArray[np.bool_]
    near: NDArray[np.bool_]
    names: tuple[str, ...]
    skipped: tuple[str, ...]


def evaluate(runner: Runner, source: Source, labels: Labels, threads: int) -> ClassifyResult:
    """Run every labelled sample of `source` and compare with its label.

    Samples are read by `threads` threads a little ahead of the model. The class of a sample ranks
    behind all classes with a higher logit, and of equal logits, which are frequent in quantized
    outputs, behind those of a lower index, as argmax has it.

    Raises:
        DataError: No sample has a label, a label is no class of the model, or too many samples
            cannot be read.
        ModelError: The first output is not one row of logits, or holds a NaN.
    """
    samples = SampleStream(source, labelled(source, labels.index, "a label"), threads)
    ranks: dict[str, int] = {}
    for sample in samples:
        logits = logits_of(runner, sample)
        ranks[sample.name] = _rank(logits, labels.index[sample.name], sample.name)
    return _result(ranks, samples.skipped)


def _result(ranks: dict[str, int], skipped: tuple[str, ...]) -> ClassifyResult:
    rank = np.array(list(ranks.values()))
    return ClassifyResult(
        top1=float(np.mean(rank == 0)),
        top5=float(np.mean(rank < _TOP)),
        n=rank.size,
        correct=rank == 0,
        near=rank < _TOP,
        names=tuple(ranks),
        skipped=skipped,
    )


def logits_of(runner: Runner, sample: Sample) -> NDArray[Any]:
    """Return a classifier's logits for a sample, [classes].

    Raises:
        ModelError: The first output is not one row of logits, or holds a NaN.
    """
    name = runner.outputs[0].name
    output = runner.run(sample.feeds)[name]
    if output.shape[:1] == (sample.batch,):
        output = output[:1]
    if output.ndim not in (2, 4) or output.size != output.shape[1]:
        raise ModelError(
            f"output {name!r} has the shape {list(output.shape)}, which is not one row of logits; "
            "classification needs [1, classes] as the first output"
        )
    check_numbers(output, name, sample.name)
    return output.ravel()


def _rank(logits: NDArray[Any], label: int, name: str) -> int:
    if not 0 <= label < logits.size:
        raise DataError(
            f"label {label} of {name} is beyond the model's {logits.size} classes; correct --labels"
        )
    own = logits[label]
    return int(np.sum(logits > own) + np.sum(logits[:label] == own))
