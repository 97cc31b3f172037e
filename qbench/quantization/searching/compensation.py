"""Choose the codes of a model's weights by what its layers read, where that is known."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qbench.data.samples import Sample
from qbench.model.graph import constant
from qbench.placement.analysis import weight_array_rank
from qbench.placement.plan import Plan, Weight
from qbench.quantization.numerics import QuantizationParameters
from qbench.quantization.product_pairs import partners
from qbench.quantization.searching.layer_inputs import (
    Covariance,
    covariances,
    layers_side_by_side,
    portions,
)
from qbench.quantization.searching.rounding import compensated_codes
from qbench.quantization.weights import WeightCoding


def compensated_weights(
    model: ir.Model,
    plan: Plan,
    parameters: Mapping[str, QuantizationParameters],
    samples: Sequence[Sample],
    *,
    saturates: bool,
) -> dict[str, NDArray[np.int8]]:
    """Return better codes than the nearest ones, each of its weight's shape, by node name.

    Weights that several nodes read are left out, since each node would want other codes, and so are
    those of MatMul nodes that are no matrices.

    Args:
        model: The float graph that the plan was made for.
        plan: What to quantize.
        parameters: Of the activations, by `Activation.scale_from`.
        samples: What the layers' inputs are taken from.
        saturates: Whether products are added in 16 bits; see `product_pairs`.
    """
    nodes = {node.name or "": node for node in model.graph}
    readers = Counter(weight.tensor for weight in plan.weights)
    weights = {
        weight.reader.node: weight
        for weight in plan.weights
        if readers[weight.tensor] == 1 and _is_layer(nodes[weight.reader.node])
    }
    noise = _rounding_noise(plan, parameters)

    def rounded(known: dict[str, Covariance], name: str) -> NDArray[np.int8]:
        mixed = known.pop(name).shrunk(noise.get(name, 0.0))
        return _codes(nodes[name], weights[name], mixed, saturates=saturates)

    codes: dict[str, NDArray[np.int8]] = {}
    for portion in portions(nodes[name] for name in weights):
        known = covariances(model, portion, samples)
        with layers_side_by_side() as pool:
            names = list(known)
            codes.update(zip(names, pool.map(partial(rounded, known), names), strict=True))
    return codes


def _is_layer(node: ir.Node) -> bool:
    return node.op_type == "Conv" or (
        node.op_type in {"Gemm", "MatMul"} and weight_array_rank(node) == 2
    )


def _rounding_noise(
    plan: Plan, parameters: Mapping[str, QuantizationParameters]
) -> dict[str, float]:
    """Return the variance that rounding adds to each value that a node reads: a twelfth of step^2.

    It is like white noise. Without it, weights would lean on inputs whose differences get lost.
    """
    return {
        reader.node: float(parameters[activation.scale_from].scale) ** 2 / 12
        for activation in plan.activations
        for reader in activation.readers
        if reader.position == 0
    }


def _codes(
    node: ir.Node, weight: Weight, covariance: NDArray[Any], *, saturates: bool
) -> NDArray[np.int8]:
    array = constant(node.inputs[1])
    assert array is not None  # the plan holds constant weights only
    groups, inputs = covariance.shape[:2]
    is_column = weight.axis == 1
    rows = array.T if is_column else array
    scale = WeightCoding(saturates=saturates).parameters(node, weight, array).scale
    outputs = rows.shape[0] // groups
    codes = compensated_codes(
        rows.reshape(groups, outputs, inputs),
        covariance,
        np.broadcast_to(scale, (rows.shape[0],)).reshape(groups, outputs),
        partners(node, array) if saturates else None,
    ).reshape(rows.shape)
    return np.ascontiguousarray(codes.T) if is_column else codes
