"""Correct what weight rounding does to the mean of a layer's output."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qbench.model.graph import constant, integer
from qbench.placement.analysis import BiasPlace, bias_place
from qbench.placement.plan import Plan
from qbench.quantization.weights import WeightCoding

Shifts = dict[str, NDArray[Any]]
"""What to add to the bias of a node, float32 [output channels], by node name."""

Means = Callable[[str], NDArray[Any] | None]
"""The mean of each channel of a tensor, [channels], by its name; None where it is not known."""


def bias_shifts(
    graph: ir.Graph,
    plan: Plan,
    means: Means,
    coding: WeightCoding,
) -> Shifts:
    """Return the bias shifts that undo the mean error of rounded weights, for Conv and Gemm.

    Args:
        graph: The float graph that the plan was made for.
        plan: What to quantize.
        means: Of the nodes' inputs; nodes without are left alone.
        coding: How weights become codes.
    """
    nodes = {node.name: node for node in graph}
    shifts = {}
    for weight in plan.weights:
        node = nodes[weight.reader.node]
        data, array = node.inputs[0], constant(node.inputs[1])
        mean = means(data.name or "") if data is not None else None
        if own_bias(node) is not None and array is not None and mean is not None:
            other = coding.rounded(weight, array)
            shifts[weight.reader.node] = shift(node, array, other, mean)
    return shifts


def own_bias(node: ir.Node) -> BiasPlace | None:
    """Return the bias of a Conv or Gemm, or its place; None for other nodes, and if computed."""
    return bias_place(node) if node.op_type in {"Conv", "Gemm"} else None


def shift(
    node: ir.Node, array: NDArray[Any], other: NDArray[Any], means: NDArray[Any]
) -> NDArray[Any]:
    """Return what to add to a Conv's or Gemm's bias where its weights `array` become `other`.

    The output's mean changes by the sum of the difference times the input's mean over the input
    channels and the kernel; the shift is its negative (Nagel et al., "Data-Free Quantization
    Through Weight Equalization and Bias Correction", 2019, section 4.2). Zero padding at borders
    is neglected.

    Args:
        node: The node.
        array: Its float weights.
        other: What they are replaced by.
        means: Of the node's input, [input channels].
    """
    error = other.astype(np.float64) - array
    return -_mean_error(node, error, means).astype(np.float32)


def _mean_error(node: ir.Node, error: NDArray[Any], means: NDArray[Any]) -> NDArray[Any]:
    """Return the change of the output's mean, [output channels]."""
    if node.op_type == "Gemm":
        result: NDArray[Any] = error @ means if integer(node, "transB", 0) else means @ error
        return result
    group = integer(node, "group", 1)
    outputs, inputs_per_group = error.shape[:2]
    per_kernel = error.reshape(outputs, inputs_per_group, -1).sum(axis=2)
    # Output channels of group g read the input channels of group g.
    group_means = np.repeat(means.reshape(group, inputs_per_group), outputs // group, axis=0)
    total: NDArray[Any] = np.einsum("oi,oi->o", per_kernel, group_means)
    return total
