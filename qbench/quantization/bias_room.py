"""Leave room for biases, which integer kernels add as int32 in steps of input x weight scale.

A channel whose weights are zero, or nearly so (pruned, or folded from a normalization that scales
by almost nothing), and one that reads a tensor of zeros, has steps so small that its bias would not
fit: ONNX Runtime then adds the largest int32, or one of the wrong sign, without a word.
"""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qbench.placement.analysis import bias_place
from qbench.placement.plan import Plan, Reader
from qbench.quantization.corrections import Shifts
from qbench.quantization.numerics import QuantizationParameters, quantize
from qbench.quantization.weights import CodedWeight, CodedWeights

_LARGEST_BIAS = 2.0**30
"""Half of int32; the products of a layer are summed up in the other half."""


def with_room_for_biases(
    graph: ir.Graph,
    plan: Plan,
    parameters: Mapping[str, QuantizationParameters],
    coded: CodedWeights,
    shifts: Shifts,
) -> CodedWeights:
    """Return the weights with no scale so small that a bias does not fit into int32.

    Args:
        graph: The float graph that the plan was made for.
        plan: What to quantize.
        parameters: Scale and zero-point by the name of each activation's `scale_from`.
        coded: The plan's weights as codes.
        shifts: What is to be added to biases.
    """
    nodes = {node.name: node for node in graph}
    scales = {
        reader: parameters[activation.scale_from].scale
        for activation in plan.activations
        for reader in activation.readers
    }
    result = dict(coded)
    for weight in plan.weights:
        name, key = weight.reader.node, (weight.tensor, weight.axis)
        bias = _bias(nodes[name], shifts.get(name))
        scale = scales.get(Reader(name, 0))
        if bias is not None and scale is not None:
            least = np.abs(bias).astype(np.float64) / (float(scale) * _LARGEST_BIAS)
            result[key] = _with_scales_from(result[key], least)
    return result


def _bias(node: ir.Node, shift: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    """Return the constant bias of a node with what is added to it, [channels] or [1]."""
    place = bias_place(node)
    old = None if place is None or place.array is None else place.array.ravel()
    if old is None or shift is None:
        return shift if old is None else old
    return np.asarray(old + shift, np.float32)


def _with_scales_from(weight: CodedWeight, least: NDArray[np.float64]) -> CodedWeight:
    """Return `weight` with scales of at least `least`, and so with smaller codes."""
    old = weight.parameters
    if least.size not in {1, old.scale.size}:  # a bias for each sample, which stays float
        return weight
    scale = np.maximum(old.scale, least if old.scale.ndim else least.max()).astype(np.float32)
    if np.array_equal(scale, old.scale):
        return weight
    parameters = QuantizationParameters(scale, old.zero_point)
    codes = quantize(weight.rounded(), parameters, weight.axis)
    return CodedWeight(codes, parameters, weight.axis)
