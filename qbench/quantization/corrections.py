"""Correct what weight rounding does to the mean of a layer's output."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qbench.model.graph import constant, integer
from qbench.placement.analysis import BiasPlace, bias_place
from qbench.placement.plan import Plan, Weight
from qbench.quantization.numerics import row_blocks
from qbench.quantization.weights import CodedWeights, side_by_side

Shifts = dict[str, NDArray[Any]]
"""What to add to the bias of a node, float32 [output channels], by node name."""

Rows = Callable[[slice], NDArray[Any]]
"""Gives some rows of an array, which need not be made whole."""

Means = Callable[[str], NDArray[Any] | None]
"""The mean of each channel of a tensor, [channels], by its name; None where it is not known."""


def bias_shifts(
    graph: ir.Graph,
    plan: Plan,
    means: Means,
    coded: CodedWeights,
) -> Shifts:
    """Return the bias shifts that undo the mean error of rounded weights, for Conv and Gemm.

    Args:
        graph: The float graph that the plan was made for.
        plan: What to quantize.
        means: Of the nodes' inputs; nodes without are left alone.
        coded: The plan's weights as codes.
    """
    nodes = {node.name: node for node in graph}

    def found(weight: Weight) -> NDArray[Any] | None:
        node = nodes[weight.reader.node]
        data, array = node.inputs[0], constant(node.inputs[1])
        mean = means(data.name or "") if data is not None else None
        if own_bias(node) is None or array is None or mean is None:
            return None
        return shift(node, array, coded[weight.tensor, weight.axis].rounded, mean)

    sizes = (coded[weight.tensor, weight.axis].codes.size for weight in plan.weights)
    shifts = zip(plan.weights, side_by_side(found, plan.weights, sizes), strict=True)
    return {weight.reader.node: one for weight, one in shifts if one is not None}


def own_bias(node: ir.Node) -> BiasPlace | None:
    """Return the bias of a Conv or Gemm, or its place; None for other nodes, and if computed."""
    return bias_place(node) if node.op_type in {"Conv", "Gemm"} else None


def shift(node: ir.Node, array: NDArray[Any], other: Rows, means: NDArray[Any]) -> NDArray[Any]:
    """Return what to add to a Conv's or Gemm's bias where its weights `array` become others.

    The output's mean changes by the sum of the difference times the input's mean over the input
    channels and the kernel; the shift is its negative (Nagel et al., "Data-Free Quantization
    Through Weight Equalization and Bias Correction", 2019, section 4.2). Zero padding at borders
    is neglected.

    Args:
        node: The node.
        array: Its float weights.
        other: What gives some rows of the weights that they are replaced by.
        means: Of the node's input, [input channels].
    """
    means = means.astype(np.float32)
    blocks = ((rows, other(rows) - array[rows]) for rows in row_blocks(array))
    if node.op_type == "Gemm" and not integer(node, "transB", 0):  # rows are inputs
        parts = [means[rows] @ error for rows, error in blocks]
        change = np.sum(parts, axis=0, dtype=np.float64)
    else:
        outputs = len(array)
        change = np.concatenate([_change(node, outputs, rows, e, means) for rows, e in blocks])
    return np.asarray(-change, np.float32)


def _change(
    node: ir.Node, outputs: int, rows: slice, error: NDArray[Any], means: NDArray[Any]
) -> NDArray[Any]:
    """Return the change of the mean of those output channels whose weights change by `error`."""
    per_input = error.reshape(*error.shape[:2], -1).sum(axis=2)
    # Output channels of group g read the input channels of group g.
    groups = integer(node, "group", 1)
    group = np.arange(outputs)[rows] * groups // outputs
    total: NDArray[Any] = np.vecdot(per_input, means.reshape(groups, -1)[group])
    return total
