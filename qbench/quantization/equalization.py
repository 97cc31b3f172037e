"""Give the channels of an activation one size, so that one scale serves them all.

Where a few channels are a hundred times larger than the rest, a scale for the whole tensor leaves
the rest a step or two. A tensor divided by one factor per channel, and read by weights multiplied
by the same factors, computes the same in float (cross-layer equalization: Nagel et al., "Data-Free
Quantization Through Weight Equalization and Bias Correction", 2019; for transformers Xiao et al.,
"SmoothQuant", 2023). Depthwise weights have a scale per channel, so they lose nothing by it.
"""

from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qbench.calibration.ranges import Range
from qbench.calibration.statistics import TensorStatistics
from qbench.model.graph import (
    add_initializer,
    constant,
    integer,
    names_in,
    only_user,
    place_after,
    unused_name,
    values_by_name,
)
from qbench.placement.analysis import channel_axis, weight_array_rank
from qbench.placement.plan import Plan

_SMALLEST = 0.05
"""Channels that are smaller than this share of the largest get its factor: what is small on all
calibration images may be larger on others, and would be clipped."""

WORTH_A_MUL = 0.5
"""Share of the errors of a tensor that equalization may leave at most, where it costs a Mul."""

_READERS = {"Conv", "Gemm", "MatMul"}
_SCALED_BY_CONSTANTS = {True: {"Conv", "BatchNormalization"}, False: {"LayerNormalization"}}
"""Operators whose second and third input scale each channel, by whether that is axis 1."""

_PASSING = {"Relu", "LeakyRelu", "PRelu"}
"""Functions that a positive factor per channel passes through unchanged."""


def equalized_name(tensor: str) -> str:
    """Return the name that `tensor` has once it is equalized."""
    return f"{tensor}_equalized"


def factor_candidates(statistics: TensorStatistics) -> list[NDArray[Any]]:
    """Return the factors worth a trial, float32 [channels].

    By the channels' peaks or their root mean squares; or by the square roots of these, which leaves
    half of the unevenness to dense weights. The largest magnitude stays what it is.
    """
    lows, highs = statistics.channel_lows, statistics.channel_highs
    squares = statistics.channel_second_moments
    if lows is None or highs is None or squares is None or len(lows) < 2:
        return []
    peaks = np.maximum(-lows, highs).astype(np.float64)
    sizes = [peaks, np.sqrt(squares)]
    if not all(size.max() > 0 for size in sizes):
        return []
    relative = [np.maximum(size / size.max(), _SMALLEST) for size in sizes]
    found = [size**power for size in relative for power in (1.0, 0.5)]
    return [(by * (peaks / by).max() / peaks.max()).astype(np.float32) for by in found]


def range_behind(statistics: TensorStatistics, factors: NDArray[Any]) -> Range:
    """Return the extremes of a tensor divided by `factors` [channels], widened to hold zero."""
    lows, highs = statistics.channel_lows, statistics.channel_highs
    assert lows is not None
    assert highs is not None
    return min(0.0, float((lows / factors).min())), max(0.0, float((highs / factors).max()))


def readers_to_equalize(
    value: ir.Value, planned: Collection[str], taken: Collection[str | None]
) -> list[ir.Node]:
    """Return the planned nodes whose weights can take factors; none unless all of them can.

    Nor are there any where one of the names `taken` in the model is that of the equalized tensor.
    """
    is_taken = equalized_name(value.name or "") in taken
    return [] if is_taken else _readers(value, planned)


def _readers(value: ir.Value, planned: Collection[str]) -> list[ir.Node]:
    uses = value.uses()
    readers = [u.node for u in uses if u.node.name in planned and u.node.op_type in _READERS]
    axis = channel_axis(value)
    known = axis is not None and value.shape is not None and isinstance(value.shape[axis], int)
    can_take = known and all(_can_take_factors(node, value) for node in readers)
    return readers if can_take else []


def is_depthwise(node: ir.Node) -> bool:
    """Return whether a node is a convolution whose weights lose nothing by factors.

    Each of its output channels reads one input channel, whose factor the channel's scale takes. Of
    a group of several, the weights of one output channel would get unlike factors.
    """
    weight = constant(node.inputs[1])
    return node.op_type == "Conv" and weight is not None and weight.shape[1] == 1


def costing_a_mul(model: ir.Model, values: Iterable[ir.Value], plan: Plan) -> set[str]:
    """Return the names of tensors of known channels whose factors nothing that writes them takes.

    Args:
        model: The prepared float graph.
        values: Its tensors that have `readers_to_equalize`.
        plan: What shall be quantized in it.
    """
    ones = {value.name or "": np.ones(_channels(value), np.float32) for value in values}
    divided = values_by_name(equalize(model, ones, plan.quantized, plan.observed).graph)
    writers = {name: divided[equalized_name(name)].producer() for name in ones}
    return {name for name, node in writers.items() if node and node.name == equalized_name(name)}


def _channels(value: ir.Value) -> int:
    axis, shape = channel_axis(value), value.shape
    channels = shape[axis] if axis is not None and shape is not None else None
    assert isinstance(channels, int)  # as `readers_to_equalize` makes sure
    return channels


def scaled_weight(node: ir.Node, factors: NDArray[Any]) -> NDArray[Any]:
    """Return the weight of `node` with its input channels times `factors` [channels], float32."""
    weight = constant(node.inputs[1])
    assert weight is not None  # `readers_to_equalize` holds nodes with constant weights only
    scaled: NDArray[Any] = weight * along_inputs(node, factors, weight)
    return scaled.astype(np.float32)


def along_inputs(node: ir.Node, factors: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
    """Return `factors` [input channels] shaped to be multiplied with a node's weight.

    The weight is [M, C/g, ...] for Conv, [..., K, N] for MatMul and Gemm, [N, K] where Gemm
    transposes it.
    """
    if node.op_type == "Conv":
        group = integer(node, "group", 1)
        per_output = np.repeat(factors.reshape(group, -1), weight.shape[0] // group, axis=0)
        return per_output.reshape(*per_output.shape, *[1] * (weight.ndim - 2))
    if node.op_type == "Gemm" and integer(node, "transB", 0):
        return factors
    return factors[:, None]


def equalize(
    model: ir.Model,
    factors: Mapping[str, NDArray[Any]],
    planned: Iterable[str],
    observed: Iterable[str] = (),
) -> ir.Model:
    """Return a copy of a float `model` in which each named tensor is equalized for its readers.

    The division is folded into what writes the tensor where nothing else reads it and a convolution
    or a normalization writes it; otherwise it is a Mul of its own.

    Args:
        model: The prepared float graph.
        factors: What to divide each tensor by, [channels], by name; see `readers_to_equalize`.
        planned: Names of the nodes that shall be quantized; the others keep the tensor as it is.
        observed: Tensors that shall be quantized. Through these no division is folded: their own
            ranges would not hold any more.
    """
    copy = model.clone()
    values = values_by_name(copy.graph)
    names, fixed = set(planned), set(observed)
    for tensor, by in factors.items():
        _equalize(copy.graph, values[tensor], by, names, fixed)
    return copy


def _can_take_factors(node: ir.Node, value: ir.Value) -> bool:
    positions = [index for index, one in enumerate(node.inputs) if one is value]
    return positions == [0] and (weight_array_rank(node) or 0) >= 2


def _equalize(
    graph: ir.Graph, value: ir.Value, factors: NDArray[Any], planned: set[str], fixed: set[str]
) -> None:
    readers = _readers(value, planned)
    for node in readers:
        weight = add_initializer(
            graph, f"{node.name}_weight_equalized", scaled_weight(node, factors)
        )
        node.replace_input_with(1, weight)
    is_alone = len(readers) == len(value.uses()) and not value.is_graph_output()
    folding = _Folding(graph, 1 / factors, channel_axis(value) == 1, fixed)
    if is_alone and folding.into_writer(value):
        value.name = equalized_name(value.name or "")
        return
    divided = _divided(graph, value, factors)
    for node in readers:
        node.replace_input_with(0, divided)


def _divided(graph: ir.Graph, value: ir.Value, factors: NDArray[Any]) -> ir.Value:
    axis = channel_axis(value)
    assert value.shape is not None
    shape = (-1, *[1] * (len(value.shape) - 2)) if axis == 1 else (-1,)
    name = equalized_name(value.name or "")
    inverse = add_initializer(graph, f"{name}_by", (1 / factors).reshape(shape))
    output = ir.val(name, ir.DataType.FLOAT, value.shape)
    node = ir.node("Mul", [value, inverse], name=name, outputs=[output])
    place_after(graph, value, [node])
    return output


@dataclass(frozen=True)
class _Folding:
    """Multiplies a tensor per channel by way of the constants of what writes it.

    Attributes:
        graph: Where it is.
        inverse: What to multiply by, [channels].
        is_image: Whether the channels are axis 1, as for convolutions, and not the last.
        fixed: Names of tensors that must stay as they are.
    """

    graph: ir.Graph
    inverse: NDArray[Any]
    is_image: bool
    fixed: Set[str]

    def into_writer(self, value: ir.Value) -> bool:
        """Fold the factors into what writes `value`; return whether its constants can take them."""
        node = value.producer()
        if node is None:
            return False
        if node.op_type in _PASSING or _clips_from_zero(node):
            return self._into_input(node, 0)
        if node.op_type in _SCALED_BY_CONSTANTS[self.is_image]:
            return self._into_constants(node, range(1, min(len(node.inputs), 3)))
        return node.op_type in {"Add", "Mul"} and not self.is_image and self._into_affine(node)

    def _into_affine(self, node: ir.Node) -> bool:
        """Fold into the Mul or Add by a vector with which a spelled-out normalization ends."""
        arrays = [constant(value) for value in node.inputs]
        vectors = [i for i, a in enumerate(arrays) if a is not None and self._fits(a)]
        if len(vectors) != 1:
            return False
        if node.op_type == "Add" and not self._into_input(node, 1 - vectors[0]):
            return False
        return self._into_constants(node, vectors)

    def _into_input(self, node: ir.Node, position: int) -> bool:
        value = node.inputs[position]
        if value is None or only_user(value) is not node or value.name in self.fixed:
            return False
        if not self.into_writer(value):
            return False
        value.name = unused_name(equalized_name(value.name or ""), names_in(self.graph))
        return True

    def _into_constants(self, node: ir.Node, positions: Iterable[int]) -> bool:
        """Multiply constants of [channels], or with channels first, if all are such."""
        arrays = {position: constant(node.inputs[position]) for position in positions}
        known = {i: array for i, array in arrays.items() if array is not None and self._fits(array)}
        if len(known) < len(arrays):
            return False
        for position, array in known.items():
            shaped = self.inverse.reshape(-1, *[1] * (array.ndim - 1))
            name = f"{node.name}_equalized_{position}"
            node.replace_input_with(position, add_initializer(self.graph, name, array * shaped))
        return True

    def _fits(self, array: NDArray[Any]) -> bool:
        has_one_axis = array.ndim == 1 or self.is_image
        return has_one_axis and array.shape[:1] == self.inverse.shape


def _clips_from_zero(node: ir.Node) -> bool:
    """Return whether `node` is a ReLU with an upper limit, such as ReLU6.

    Divided channels reach that limit earlier, but no value of calibration does: the largest stays
    what it is. And what the quantized tensor could not hold is clipped all the same.
    """
    low = constant(node.inputs[1]) if node.op_type == "Clip" and len(node.inputs) > 1 else None
    return low is not None and low.item() == 0
