"""What the weights of a layer are multiplied with, over a few samples: its inputs' covariances."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from qbench.data.samples import Sample
from qbench.model.graph import constant, integer, ints
from qbench.placement.analysis import weight_axis
from qbench.runtimes.cpu import usable_cores
from qbench.runtimes.ort.parts import open_parts

MOST_INPUTS = 2304
"""Inputs of an output, 3 x 3 of 256 channels; with more, errors average out, and time would grow
with their cube."""

_LEAST_ROWS = 1
"""Rows for each input. Fewer say so little of how inputs go together that the time is better spent
elsewhere: of the 1280 inputs of a last layer, 32 rows took 3 % off the error on other images."""

_MOST_BYTES = 1 << 26
"""Bytes of sums at a time. Those of all layers may be several times as large as their weights."""

_ROWS = 509
"""Positions of one sample's tensor that are looked at, evenly spaced.

A prime, since steps of a round number meet few columns of an image: of 160 x 160 positions, every
50th lies in one of 16 columns, and the first of these, beside the padding, would count tenfold.
"""

_ROWS_OF_A_CHANNEL = 101
"""The same for depthwise convolutions, each of whose covariances is of one kernel's values."""


_Step = TypeVar("_Step")


_AT_ONCE = 256
"""Rows of a matrix."""


class Covariance(NamedTuple):
    """How the inputs of a layer go together.

    Attributes:
        matrix: As the samples have it, [groups, inputs, inputs].
        shrinkage: Share of white noise in the best mixture of the two, 0 to 1.
    """

    matrix: NDArray[Any]
    shrinkage: float

    def shrunk(self, noise: float) -> NDArray[Any]:
        """Return the mixture, in which the variance of each group is the same as before.

        Args:
            noise: Variance that is added to each input besides.
        """
        mixed: NDArray[Any] = self.matrix * np.float32(1 - self.shrinkage)
        variances = _variances(mixed)
        variances += self.shrinkage * _variances(self.matrix).mean(axis=1, keepdims=True) + noise
        return mixed


@dataclass
class _Sums:
    """Sums over rows of a layer's inputs, of every other sample apart.

    Attributes:
        node: The layer.
        rows: Their number, [2].
        first: [2, groups, inputs].
        second: Of their products, both [groups, inputs, inputs].
    """

    node: ir.Node
    rows: NDArray[Any]
    first: NDArray[Any]
    second: tuple[NDArray[Any], NDArray[Any]]

    @property
    def tensor(self) -> str:
        """Name of what the layer reads."""
        return _tensor_of(self.node)

    @classmethod
    def of(cls, node: ir.Node) -> "_Sums":
        groups, inputs = integer(node, "group", 1), _inputs_of(node)
        one, other = (np.zeros((groups, inputs, inputs), np.float32) for _ in range(2))
        first = np.zeros((2, groups, inputs), np.float32)
        return cls(node, np.zeros(2, np.int64), first, (one, other))

    def are_enough(self, times: int = 1) -> bool:
        """Return whether `times` as many rows suffice."""
        inputs: int = self.first.shape[-1]
        return bool(times * self.rows.sum() >= _LEAST_ROWS * inputs)

    def add(self, half: int, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Add a sample's to one half."""
        rows = _rows(self.node, tensors)
        self.rows[half] += rows.shape[1]
        self.first[half] += rows.sum(axis=1)
        second = self.second[half]
        second += rows.transpose(0, 2, 1) @ rows

    def covariance(self) -> Covariance:
        """Return what both halves say, and how far they contradict each other.

        The sums are used up: of 2304 inputs, one matrix more would take 21 MB. The shrinkage is
        that of Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance
        matrices", 2004: squared error over squared distance from white noise. The error is a half
        of the difference between the halves; that between rows would be too small, since those of
        one image are alike.
        """
        rows = np.maximum(self.rows, 1).astype(np.float32)[:, None, None]
        means = self.first / rows
        for second, number, mean in zip(self.second, rows, means, strict=True):
            second /= number
            _add_outer(second, mean, -1)
        matrix, other = self.second
        matrix -= other
        error = np.vdot(matrix, matrix) / 4
        # The covariance of both is the mean of theirs, and that of their means.
        share = float(self.rows[0] / self.rows.sum())
        matrix *= share
        matrix += other
        _add_outer(matrix, means[0] - means[1], share * (1 - share))
        variances = _variances(matrix)
        inputs = variances.shape[1]
        distance = np.vdot(matrix, matrix) - inputs * (variances.mean(axis=1) ** 2).sum()
        return Covariance(matrix, float(error / distance) if error < distance else 1.0)


def _add_outer(matrix: NDArray[Any], vectors: NDArray[Any], factor: float) -> None:
    """Add `factor` times the products of `vectors`, [groups, n], to `matrix`, [groups, n, n]."""
    for start in range(0, vectors.shape[1], _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        matrix[:, some] += np.float32(factor) * vectors[:, some, None] * vectors[:, None, :]


def _variances(matrix: NDArray[Any]) -> NDArray[Any]:
    """Return the diagonals of covariances, [groups, inputs]: a view that can be written."""
    diagonals: NDArray[Any] = np.einsum("gkk->gk", matrix)
    return diagonals


@contextmanager
def layers_side_by_side() -> Iterator[ThreadPoolExecutor]:
    """Return a thread for each core, in each of which BLAS has one thread.

    Else each of them would start as many as there are cores, and those wait for each other: a
    product of 512 x 108 took 20 ms instead of 0.5 ms on two busy cores.
    """
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(usable_cores()) as pool:
        yield pool


def portions(nodes: Iterable[ir.Node]) -> Iterator[list[ir.Node]]:
    """Yield nodes, in their order, as many at a time as memory should be spent on.

    Args:
        nodes: See `covariances`.
    """
    portion: list[ir.Node] = []
    total = 0
    for node in nodes:
        inputs = _inputs_of(node)
        size = 2 * 4 * integer(node, "group", 1) * inputs**2 if inputs <= MOST_INPUTS else 0
        if portion and total + size > _MOST_BYTES:
            yield portion
            portion, total = [], 0
        portion.append(node)
        total += size
    if portion:
        yield portion


def covariances(
    model: ir.Model, nodes: Iterable[ir.Node], samples: Sequence[Sample]
) -> dict[str, Covariance]:
    """Return the covariance of each node's inputs by node name.

    Inputs of a Conv are the values under its kernel, in the order of its weights. The mean is taken
    off, since `corrections` mends what it does to the output. Nodes that read the same, as queries,
    keys and values do, share one. Nodes with more than `MOST_INPUTS` inputs are left out, and those
    of which the samples tell too little.

    Args:
        model: The float graph.
        nodes: Conv, Gemm and MatMul nodes with constant weights.
        samples: What to run it on; nothing is known of less than two.
    """
    small = [node for node in nodes if _inputs_of(node) <= MOST_INPUTS]
    if not small or len(samples) < 2:
        return {}
    tensors = [_tensor_of(node) for node in small]
    read = {node.name or "": _what_it_reads(node) for node in small}
    sums = {_what_it_reads(node): _Sums.of(node) for node in small}
    runner = open_parts(model, tensors, samples[0].feeds, threads=1)
    parts = ((index, found) for index, one in enumerate(samples) for found in runner.run(one.feeds))
    with closing(runner), layers_side_by_side() as pool:
        for index, found in _one_ahead(parts, pool):
            if index == 1 and _are_alike(samples):  # large sums may be in vain
                sums = {key: one for key, one in sums.items() if one.are_enough(len(samples))}
            some = [one for one in sums.values() if one.tensor in found]
            list(pool.map(partial(_Sums.add, half=index % 2, tensors=found), some))
    known = {key: sums.pop(key).covariance() for key in list(sums) if sums[key].are_enough()}
    return {name: known[key] for name, key in read.items() if key in known}


def _one_ahead(steps: Iterator[_Step], pool: ThreadPoolExecutor) -> Iterator[_Step]:
    """Yield what `steps` does, while a thread takes the next step."""
    pending = pool.submit(next, steps, None)
    while (found := pending.result()) is not None:
        pending = pool.submit(next, steps, None)
        yield found


def _are_alike(samples: Sequence[Sample]) -> bool:
    """Return whether all samples have the shapes of the first, and so as many rows."""
    shapes = [{name: array.shape for name, array in one.feeds.items()} for one in samples]
    return all(one == shapes[0] for one in shapes)


def _what_it_reads(node: ir.Node) -> object:
    """Return what two nodes have in common that read the same inputs, in the same order."""
    weight = constant(node.inputs[1])
    assert weight is not None  # a plan holds constant weights only
    if node.op_type != "Conv":
        return (node.inputs[0],)
    by_kernel = weight.shape[1:], integer(node, "group", 1), node.attributes.get_string("auto_pad")
    axes = [1] * (weight.ndim - 2)
    steps = (tuple(ints(node, name, axes)) for name in ("strides", "dilations"))
    return node.inputs[0], *by_kernel, *steps, tuple(ints(node, "pads", [0] * 2 * len(axes)))


def _tensor_of(node: ir.Node) -> str:
    value = node.inputs[0]
    assert value is not None
    return value.name or ""


def _inputs_of(node: ir.Node) -> int:
    weight = constant(node.inputs[1])
    assert weight is not None  # a plan holds constant weights only
    outputs = 0 if weight_axis(node) == 0 else -1
    return int(weight.size // weight.shape[outputs])


def _rows(node: ir.Node, tensors: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Return the inputs of a node at some positions, float32 [groups, positions, inputs]."""
    array = tensors[_tensor_of(node)]
    if node.op_type == "Conv":
        return _patches(node, array)
    flat: NDArray[Any] = array.reshape(-1, array.shape[-1])
    return flat[None, _spread(len(flat))]


def _patches(node: ir.Node, array: NDArray[Any]) -> NDArray[Any]:
    weight = constant(node.inputs[1])
    assert weight is not None  # a plan holds constant weights only
    kernel, group = weight.shape[2:], integer(node, "group", 1)
    axes = len(kernel)
    strides, dilations = ints(node, "strides", [1] * axes), ints(node, "dilations", [1] * axes)
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    zeros = _padding(node, array.shape[2:], reach, strides)
    padded = np.pad(array, [(0, 0), (0, 0), *zeros]) if any(map(any, zeros)) else array
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, tuple(range(2, 2 + axes)))
    steps = (slice(None), slice(None), *(slice(None, None, s) for s in strides))
    taps = tuple(slice(None, None, d) for d in dilations)
    placed = windows[(*steps, *taps)]  # [N, C, *positions, *kernel], a view
    most = _ROWS if weight.shape[1] > 1 else _ROWS_OF_A_CHANNEL
    where = _spread(placed.shape[0] * int(np.prod(placed.shape[2 : 2 + axes])), most)
    sample, *position = np.unravel_index(where, (placed.shape[0], *placed.shape[2 : 2 + axes]))
    index: tuple[Any, ...] = (sample, slice(None), *position)
    picked: NDArray[Any] = placed[index]  # [rows, C, *kernel]
    return picked.reshape(len(where), group, -1).transpose(1, 0, 2)


def _padding(
    node: ir.Node, sizes: Sequence[int], reach: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """Return the zeros that a Conv adds before and behind each axis of its image.

    With `auto_pad` SAME_UPPER and SAME_LOWER there are ``ceil(size / stride)`` outputs, and the odd
    zero stands behind or before; with VALID there are no zeros.

    Args:
        node: The Conv.
        sizes: Of its input's image.
        reach: Of its dilated kernel.
        strides: Its own.
    """
    mode = node.attributes.get_string("auto_pad", "NOTSET")
    if not mode.startswith("SAME"):
        none = [0] * 2 * len(sizes)
        pads = none if mode == "VALID" else ints(node, "pads", none)
        return list(zip(pads[: len(sizes)], pads[len(sizes) :], strict=True))
    totals = [
        max((-(-size // stride) - 1) * stride + covered - size, 0)
        for size, covered, stride in zip(sizes, reach, strides, strict=True)
    ]
    halves = [(total // 2, total - total // 2) for total in totals]
    return halves if mode == "SAME_UPPER" else [(more, fewer) for fewer, more in halves]


def _spread(count: int, most: int = _ROWS) -> NDArray[Any]:
    """Return at most `most` evenly spaced indices below `count`."""
    return np.arange(min(count, most)) * count // min(count, most)
