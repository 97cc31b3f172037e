"""What is lost of a signal, as a relative noise power: 0 for nothing, 1 for all."""

import logging
from collections.abc import Iterable, Sequence
from math import log10
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qbench.model.decoders import Candidates

logger = logging.getLogger(__name__)

HARM = 0.03
"""A relative noise power of the output, 15 dB, of which the user is warned."""

_APART = 30.0

_ROUNDING = 1e-5
"""Outputs that vary by less than this share of their size are constant, but for rounding."""

_IMAGE_RANK = 5
"""Of [samples, batch, channels, height, width]."""

_FAINTEST = 1e-3
"""An image's scores are not compared more sternly than with this share of the mean energy."""


def sqnr_from_noise(noise: float) -> float:
    """Return a relative noise power as a signal-to-noise ratio in dB; 120 where there is none."""
    return 10 * log10(1 / max(noise, 1e-12))


def warn_of_harm(precision: str, noise: float, advice: str = "") -> None:
    """Warn of an output that `precision` harms.

    Args:
        precision: As users write it.
        noise: Relative noise power of the output.
        advice: What else may help; with a comma and a space behind it.
    """
    if noise > HARM:
        logger.warning(
            "%s leaves only %.0f dB of signal to noise at this model's output; "
            "%sjudge its accuracy before use, leave more nodes float (--exclude) or use --fp16",
            precision,
            sqnr_from_noise(noise),
            advice,
        )


def relative_noise(reference: NDArray[Any], test: Sequence[NDArray[Any]]) -> float:
    """Return the noise power of `test` relative to the variance of `reference`, at most 1.

    Outputs may hold unlike features, such as coordinates beside scores, whose errors would vanish
    next to theirs. So the entries along one axis are features, those that vary 30 times less than
    the most variable one are judged apart, and the figures are averaged.
    Where the reference itself is NaN or Inf, as the logarithm of 0 is, nothing is compared.

    Sums are taken sample by sample, since outputs of many classes in double precision would be the
    most memory that a search takes.

    Args:
        reference: [samples, ...].
        test: An array for each sample.
    """
    feature = _feature_axis(reference.shape)
    others = tuple(axis - 1 for axis in range(1, reference.ndim) if axis != feature)
    features = 1 if feature is None else reference.shape[feature]
    first, second, error = np.zeros((3, features))
    for one, other in zip(reference, test, strict=True):
        finite = np.isfinite(one)
        wide = np.where(finite, one, 0).astype(np.float64)
        first += wide.sum(axis=others)
        second += np.square(wide).sum(axis=others)
        error += np.square(np.where(finite, other, 0) - wide).sum(axis=others)
    count = reference.size // features
    error, rounding = error / count, _ROUNDING**2 * second / count
    variance = second / count - np.square(first / count)
    variance = np.where(variance > rounding, variance, 0)
    error = np.where(np.isfinite(error), error, np.inf)  # NaN or Inf in the output is ruin
    is_large = variance >= variance.max() / _APART**2
    parts = [part for part in (is_large, ~is_large) if variance[part].sum() > 0]
    if not parts:
        return float(error.any() and min(error.sum() / max(rounding.sum(), 1e-300), 1))
    return float(np.mean([min(error[p].sum() / variance[p].sum(), 1.0) for p in parts]))


def _feature_axis(shape: Sequence[int]) -> int | None:
    """Return the axis of outputs, [samples, ...], whose entries are features; None for none.

    It is the shortest with more than one. Of images and grids, [samples, batch, channels, height,
    width], it is that of the channels, be it the first or the last one; the sides of a square,
    which are as long as each other, are none.
    """
    axes = [axis for axis, size in enumerate(shape) if size > 1 and axis > 0]
    if len(axes) <= 1:
        return None
    if len(shape) >= _IMAGE_RANK:
        axes = [2, len(shape) - 1]
    sizes = [shape[axis] for axis in range(min(axes), len(shape))]
    alone = [axis for axis in axes if sizes.count(shape[axis]) == 1]
    shortest = min(alone, key=lambda axis: shape[axis], default=0)
    return shortest if shortest and shape[shortest] > 1 else None


class Proposals(NamedTuple):
    """What the float model proposes for one image, in single precision, as its outputs are.

    Attributes:
        scores: [n, classes].
        boxes: Corners in pixels, [n, 4].
        energy: Of the scores.
        weights: Square of each box's best score, [n].
        areas: Mean square of each box's sides, [n].
    """

    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]
    energy: float
    weights: NDArray[np.float64]
    areas: NDArray[np.float64]

    @classmethod
    def of(cls, candidates: Candidates) -> "Proposals":
        """Return what is needed of a decoded output."""
        scores, boxes = candidates.scores, candidates.boxes
        sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1.0)
        return cls(
            scores.astype(np.float32),
            boxes.astype(np.float32),
            float(np.square(scores).sum()),
            np.square(scores.max(axis=1)),
            np.square(sides).mean(axis=1),
        )


def detection_noise(reference: Sequence[Proposals], test: Iterable[Candidates]) -> NDArray[Any]:
    """Return the noise of a detector's decoded outputs for each image, [images], at most 1.

    Most of its raw output is of no use: coordinates where there is no object. So scores are
    compared by their energy, and boxes by their error relative to their size, weighted by their
    best score. The two figures are averaged.

    Args:
        reference: What the float model proposes for each image.
        test: What is proposed instead, box by box; taken one by one.
    """
    floor = max(_FAINTEST * float(np.mean([one.energy for one in reference])), 1e-12)
    pairs = zip(reference, test, strict=True)
    return np.array([(_score_noise(a, b, floor) + _box_noise(a, b)) / 2 for a, b in pairs])


def _score_noise(reference: Proposals, test: Candidates, floor: float) -> float:
    change = test.scores - reference.scores
    error = float(np.einsum("ij,ij->", change, change))
    return min(error / max(reference.energy, floor), 1.0) if np.isfinite(error) else 1.0


def _box_noise(reference: Proposals, test: Candidates) -> float:
    error = np.square(test.boxes - reference.boxes).mean(axis=1) / reference.areas
    weights = reference.weights
    noise = float((weights * error).sum() / max(weights.sum(), 1e-12))
    return min(noise, 1.0) if np.isfinite(noise) else 1.0
