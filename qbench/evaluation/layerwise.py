"""Where two forms of a network part: the error of every tensor that both have, layer by layer.

Pure sums over arrays, whoever computed them.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from qbench.data.samples import Sample
from qbench.errors import DataError
from qbench.evaluation.similarity import decibels
from qbench.runtimes.base import Tensors

TensorFunction = Callable[[Mapping[str, NDArray[Any]]], Tensors]
"""Takes a sample's feeds by input name, and returns at least the tensors that are compared."""

LIMIT_DB = 200.0
"""SQNR of equal tensors; its negative is that of a lost one, as where NaN or Inf appear."""

DEFAULT_THRESHOLD_DB = 10.0

_BLOCK = 1 << 18
_SIGNAL, _PRODUCT, _TEST, _NOISE = range(4)


@dataclass(frozen=True)
class Layer:
    """A tensor that both forms of a network have.

    Attributes:
        name: Of the tensor in the reference.
        test: Of the tensor that stands for it in the test.
        op_type: The operator that makes it.
        depth: Number of operators on the longest way to it from an input.
        inputs: Names of the layers that it is made from.
        axis: Of the channels of a tensor that the test holds divided by an unknown factor per
            channel; None for a tensor as it is.
        offset: What the test holds added to the tensor.
        pads: What the test holds around the tensor: begins of all axes, then ends; or nothing.
    """

    name: str
    test: str
    op_type: str
    depth: int
    inputs: tuple[str, ...] = ()
    axis: int | None = None
    offset: float = 0.0
    pads: tuple[int, ...] = ()

    def restored(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the test's array without the offset and what is around it."""
        if self.pads:
            begins, ends = self.pads[: array.ndim], self.pads[array.ndim :]
            sides = zip(array.shape, begins, ends, strict=True)
            array = array[tuple(slice(begin, size - end) for size, begin, end in sides)]
        return array - array.dtype.type(self.offset) if self.offset else array


class LayerScore(msgspec.Struct, frozen=True):
    """How far a tensor of the test is from that of the reference, over all samples.

    Attributes:
        name: Of the tensor in the reference.
        test: Of the tensor that stands for it in the test.
        op_type: The operator that makes it.
        depth: Number of operators on the longest way to it from an input.
        sqnr_db: Signal-to-noise ratio, from -200 (lost, NaN or Inf) to 200 (equal).
        cosine: Of the angle between the two, all samples as one vector; 0 if lost.
        input_sqnr_db: The lowest ratio among `inputs`, 200 without any.
        added_noise: How much the noise, as a share of the signal of at most 1, exceeds the largest
            of the inputs: what the layer itself adds or amplifies.
        inputs: Names of the layers that it is made from.
    """

    name: str
    test: str
    op_type: str
    depth: int
    sqnr_db: float
    cosine: float
    input_sqnr_db: float
    added_noise: float
    inputs: tuple[str, ...]


Totals = tuple[float, float, float]
"""Energy of the reference, energy of the noise, and the cosine."""


def summed(
    reference: TensorFunction,
    test: TensorFunction,
    layers: Sequence[Layer],
    samples: Iterable[Sample],
) -> dict[str, Totals]:
    """Run both on every sample, and return what `scored` takes; only sums outlive a sample.

    Args:
        reference: What is right.
        test: What is compared with it.
        layers: Which tensors; those of a large network need not all be summed up at a time.
        samples: What both are fed.

    Raises:
        DataError: A tensor is missing or of another shape, or there are no samples.
    """
    sums = {layer.name: _Sums(layer) for layer in layers}
    is_empty = True
    for sample in samples:
        is_empty = False
        wanted, found = reference(sample.feeds), test(sample.feeds)
        for each in sums.values():
            each.add(wanted, found)
    if is_empty:
        raise DataError("there are no samples to compare layers on; give more data")
    return {name: each.totals() for name, each in sums.items()}


def scored(layers: Sequence[Layer], totals: Mapping[str, Totals]) -> list[LayerScore]:
    """Return the scores of layers, from the totals of each and of its inputs."""
    found = []
    for layer in layers:
        signal, noise, cosine = totals[layer.name]
        before = [totals[name][:2] for name in layer.inputs if name in totals]
        worst = max((_share(*each) for each in before), default=0.0)
        found.append(
            LayerScore(
                layer.name,
                layer.test,
                layer.op_type,
                layer.depth,
                _limited_db(signal, noise),
                cosine,
                min((_limited_db(*each) for each in before), default=LIMIT_DB),
                max(_share(signal, noise) - worst, 0.0),
                layer.inputs,
            )
        )
    return found


def first_bad(scores: Iterable[LayerScore], threshold_db: float) -> LayerScore | None:
    """Return the first layer, by depth, whose SQNR is below a threshold; None if none is.

    Everything that it is made from is at or above the threshold.
    """
    bad = (score for score in scores if score.sqnr_db < threshold_db)
    return min(bad, key=lambda score: score.depth, default=None)


def steepest(scores: Iterable[LayerScore]) -> LayerScore | None:
    """Return the layer that adds most noise to that of its inputs; None if none adds any."""
    most = max(scores, key=lambda score: score.added_noise, default=None)
    return most if most is not None and most.added_noise > 0 else None


class _Sums:
    """Sums of squares and products of one layer, in float64, for each channel or for all."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._sums: NDArray[np.float64] = np.zeros((4, 1))

    def add(self, reference: Tensors, test: Tensors) -> None:
        a = self._rows(_taken(reference, self._layer.name, "reference"))
        b = self._rows(self._layer.restored(_taken(test, self._layer.test, "test")))
        if a.shape != b.shape:
            raise DataError(
                f"layer {self._layer.name!r} has {a.size} values in the reference and {b.size} in "
                "the test; compare two forms of one network"
            )
        step = max(_BLOCK // max(len(a), 1), 1)
        for start in range(0, a.shape[1], step):
            block = slice(start, start + step)
            self._sums = self._sums + _block_sums(a[:, block], b[:, block])

    def totals(self) -> Totals:
        """Return what was added up; of channels with a factor, behind the best factor for each."""
        signal, product, test, noise = self._sums
        if self._layer.axis is not None:
            gain = np.divide(product, test, out=np.zeros_like(test), where=test > 0)
            left = np.maximum(signal - gain * product, 0.0)
            noise = np.where(np.isinf(noise), noise, left)
            product, test = gain * product, gain * product
        energy, error = float(signal.sum()), float(noise.sum())
        if math.isinf(error):
            return energy, error, 0.0
        return energy, error, _cosine(energy, float(product.sum()), float(test.sum()))

    def _rows(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a tensor as [channels, values], or [1, values]."""
        axis = self._layer.axis
        if axis is None:
            return array.reshape(1, -1)
        return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


def _taken(tensors: Tensors, name: str, side: str) -> NDArray[Any]:
    if name not in tensors:
        raise DataError(f"the {side} gives no tensor {name!r}; return it with the others")
    return np.asarray(tensors[name])


def _block_sums(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return the sums over each row, [4, rows]."""
    wide, other = a.astype(np.float64), b.astype(np.float64)
    is_whole = np.isfinite(wide) & np.isfinite(other)
    if is_whole.all():
        return _row_sums(wide, other)
    # A mask of -inf that both have is no error.
    is_lost = ~is_whole & (wide != other) & ~(np.isnan(wide) & np.isnan(other))
    sums = _row_sums(np.where(is_whole, wide, 0.0), np.where(is_whole, other, 0.0))
    sums[_NOISE, is_lost.any(axis=1)] = np.inf
    return sums


def _row_sums(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    noise = a - b
    pairs = ((a, a), (a, b), (b, b), (noise, noise))
    return np.stack([np.einsum("cn,cn->c", one, other) for one, other in pairs])


def _cosine(signal: float, product: float, test: float) -> float:
    if signal == 0 or test == 0:
        return 1.0 if signal == test else 0.0
    return max(-1.0, min(1.0, product / math.sqrt(signal * test)))


def _limited_db(signal: float, noise: float) -> float:
    """Return the ratio in decibels, finite so that it can be written as JSON and be drawn."""
    return max(-LIMIT_DB, min(LIMIT_DB, decibels(signal, noise)))


def _share(signal: float, noise: float) -> float:
    """Return the noise as a share of the signal, at most 1."""
    if noise == 0:
        return 0.0
    return min(noise / signal, 1.0) if signal else 1.0
