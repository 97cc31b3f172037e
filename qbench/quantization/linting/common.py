"""Rules that hold for every target, and questions that the rules of several targets ask."""

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qbench.model.graph import is_constant
from qbench.model.passes.opset import MINIMUM_OPSET
from qbench.placement.analysis import COMPUTE, DATA_MOVEMENT, weight_array_rank
from qbench.quantization.encodings import (
    axis_of,
    code_type,
    dequantizer,
    is_dequantize,
    is_qdq,
    is_quantize,
    is_weight,
    same_encoding,
    scale_of,
    zero_point_of,
)
from qbench.quantization.linting.finding import Place

_REARRANGE = DATA_MOVEMENT | {"Concat", "DequantizeLinear", "Pad", "QuantizeLinear"}


def encoders(graph: ir.Graph) -> Iterator[ir.Node]:
    """Yield the nodes that say how a tensor is encoded: Q nodes, and DQ nodes that repeat no Q."""
    for node in graph:
        if is_quantize(node) or (is_dequantize(node) and not _repeats(node)):
            yield node


def _repeats(dequantize: ir.Node) -> bool:
    codes = dequantize.inputs[0]
    producer = codes.producer() if codes is not None else None
    return producer is not None and is_quantize(producer) and same_encoding(producer, dequantize)


def multiplying_nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    """Yield the nodes that multiply and accumulate."""
    return (node for node in graph if node.op_type in COMPUTE)


def quantizes_activations(graph: ir.Graph) -> bool:
    """Return whether anything but weights is quantized; else float inputs are what is wanted."""
    return any(is_quantize(node) and not is_weight(node) for node in graph)


def activation_dequantizer(value: ir.Value | None) -> ir.Node | None:
    """Return the DQ that makes `value` from integers that are computed, or None."""
    found = dequantizer(value)
    return None if found is None or is_weight(found) else found


def weight_dequantizer(value: ir.Value | None) -> ir.Node | None:
    """Return the DQ that makes `value` from a constant, or None."""
    found = dequantizer(value)
    return found if found is not None and is_weight(found) else None


def impossible_scales(graph: ir.Graph, signed: Collection[ir.DataType]) -> Iterator[Place]:
    """Yield Q/DQ nodes whose scale is zero, negative, infinite or not a number.

    Args:
        graph: Any.
        signed: Types of stored codes that may have any finite scale. A DQ merely multiplies with
            it, and ONNX Runtime's 4-bit weights lie so that the largest of a block is code -8.
    """
    for node in encoders(graph):
        scale = scale_of(node)
        if scale is None:
            continue
        takes_any = code_type(node) in signed and is_dequantize(node) and is_weight(node)
        wrong = np.ravel(scale)[~(np.isfinite(scale) & (takes_any | (scale > 0))).ravel()]
        if wrong.size:
            yield Place(node, node.inputs[0], f"its scale is {wrong[0]:g}")


def default_scales(graph: ir.Graph) -> Iterator[Place]:
    """Yield Q nodes whose scale is exactly 1, which is what a tool writes that measured nothing.

    Pixels of 0 to 255 have that scale rightly, so what merely moves an input is passed over.
    """
    for node in graph:
        scale, source = scale_of(node) if is_quantize(node) else None, node.inputs[0:1]
        if scale is None or is_weight(node) or scale.size != 1 or float(scale.item()) != 1.0:
            continue
        if not _is_moved_input(source[0]):
            yield Place(node, source[0], "its scale is exactly 1, as if it was never calibrated")


def unlike_pairs(graph: ir.Graph) -> Iterator[Place]:
    """Yield DQ nodes that take the codes of a Q for others than it wrote."""
    for node in graph:
        codes = node.inputs[0] if is_dequantize(node) else None
        producer = codes.producer() if codes is not None else None
        if producer is not None and is_quantize(producer) and _differ(producer, node):
            reason = (
                f"its scale, zero-point or type is not that of {producer.name!r}, which it reads"
            )
            yield Place(node, codes, reason)


def _differ(one: ir.Node, other: ir.Node) -> bool:
    """Return whether codes mean other values to one of two Q/DQ nodes; one scale may be repeated.

    Scales that are computed at run time are trusted.
    """
    if code_type(one) != code_type(other):
        return True
    scale, other_scale = scale_of(one), scale_of(other)
    if scale is None or other_scale is None:
        return False
    zeros = zero_point_of(one), zero_point_of(other)
    return not (_equal(scale, other_scale) and _equal(*zeros))


def _equal(one: NDArray[Any], other: NDArray[Any]) -> bool:
    is_alike = 1 in {one.size, other.size} or one.shape == other.shape
    return is_alike and bool(np.all(one == other))


def early_axes(graph: ir.Graph) -> Iterator[Place]:
    """Yield Q/DQ nodes with one scale per channel in an opset that knows but one per tensor."""
    opset = graph.opset_imports.get("", 0)
    for node in encoders(graph) if opset < MINIMUM_OPSET else ():
        if axis_of(node) is not None:
            reason = f"one scale per channel needs opset {MINIMUM_OPSET}, this is {opset}"
            yield Place(node, node.inputs[0], reason)


def channel_activations(graph: ir.Graph) -> Iterator[Place]:
    """Yield nodes that read an activation with one scale per channel.

    Not those with float weights, which run in float in any case.
    """
    for node in graph:
        for value in () if is_qdq(node) or weight_array_rank(node) is not None else node.inputs:
            source = activation_dequantizer(value)
            if source is not None and axis_of(source) is not None:
                yield Place(node, value, "its input has one scale per channel")


def source_before(value: ir.Value | None, moves: Collection[str]) -> ir.Node | None:
    """Return the node that computes `value`, past operators in `moves`."""
    producer = value.producer() if value is not None else None
    while producer is not None and producer.op_type in moves:
        value = producer.inputs[0]
        producer = value.producer() if value is not None else None
    return producer


def _is_moved_input(value: ir.Value | None) -> bool:
    """Return whether `value` is a graph input, or pieces of one put together anew or shifted."""
    source = source_before(value, _REARRANGE)
    while source is not None and source.op_type == "Add" and is_constant(source.inputs[1]):
        source = source_before(source.inputs[0], _REARRANGE)
    return source is None
