"""Correct what weight rounding does to the mean of a layer's output."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qbench.calibration.statistics import TensorStatistics
from qbench.model.graph import constant, integer
from qbench.placement.plan import Plan
from qbench.quantization.numerics import dequantize, per_channel_symmetric, quantize

Shifts = dict[str, NDArray[Any]]
"""What to add to the bias of a node, float32 [output channels], by node name."""


def bias_shifts(
    graph: ir.Graph,
    plan: Plan,
    statistics: Mapping[str, TensorStatistics],
    weight_bits: int,
) -> Shifts:
    """Return the bias shifts that undo the mean error of rounded weights, for Conv and Gemm.

    Rounding changes the weights by e, and the output's mean by the sum of e times the input's mean
    over the input channels and the kernel; the shift is its negative (Nagel et al., "Data-Free
    Quantization Through Weight Equalization and Bias Correction", 2019, section 4.2). The means are
    measured, so no pass over data is needed. Zero padding at borders is neglected.

    Args:
        graph: The prepared float graph that the plan was made for.
        plan: What to quantize.
        statistics: Of the nodes' inputs, with channel totals; nodes without are left alone.
        weight_bits: As in `per_channel_symmetric`.
    """
    nodes = {node.name: node for node in graph}
    shifts = {}
    for weight in plan.weights:
        node = nodes[weight.reader.node]
        array = constant(node.inputs[1])
        means = _input_means(node, statistics)
        if node.op_type not in {"Conv", "Gemm"} or array is None or means is None:
            continue
        parameters = per_channel_symmetric(array, weight.axis, weight_bits)
        codes = quantize(array, parameters, weight.axis)
        error = dequantize(codes, parameters, weight.axis).astype(np.float64) - array
        shifts[weight.reader.node] = -_mean_error(node, error, means).astype(np.float32)
    return shifts


def _input_means(node: ir.Node, statistics: Mapping[str, TensorStatistics]) -> NDArray[Any] | None:
    data = node.inputs[0]
    known = statistics.get(data.name or "") if data is not None else None
    return None if known is None else known.channel_means


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
