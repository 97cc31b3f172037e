"""Residual streams that stay float between integer products, on ONNX Runtime's CPU provider.

The Adds around which a MobileNetV2 is built sum up what linear pointwise convolutions write. Each
rounding of the stream is passed on to all blocks behind it. An integer convolution must write
integers, but the kernel of a MatMul may write floats, and a pointwise convolution is a MatMul over
channels that come last, as integer convolutions keep them anyway. So only what the next convolution
reads is rounded: of an EfficientNet-lite0, 27.4 instead of 26.6 dB are left at 6 % more time (ONNX
Runtime 1.31, AVX2). To gain as much by float convolutions would take 12 %. Each of its four streams
does its part, the widest, of 7 x 7 positions, 0.3 dB for 1.5 %, the thinnest 0.1 dB for 2 %.
"""

from math import prod
from typing import NamedTuple

import onnx_ir as ir

from qbench.model.graph import integer, ints, is_constant, static_shape
from qbench.placement.analysis import weight_array_rank

_FEWEST_CHANNELS = 128
"""Input channels from which on writing floats costs little beside the product. With two more
convolutions of that EfficientNet, of 96 and 144 channels, whole blocks around them would be left
float: 8 % more time."""

_LEAST_WORK = 2_000_000
"""Multiply-accumulates for an image from which on further kernels, of the bias and of rounding, are
worth their calls. A classifier of 0.5 ms, whose four have at most half as many, would take 6 % more
time for 0.2 dB."""

_READERS = {"Add", "Conv"}
"""What may read a stream: behind an activation it would take one more pass in float."""


class FloatResiduals(NamedTuple):
    """Nodes of residual streams that may stay float.

    Attributes:
        products: Pointwise convolutions that write into a stream.
        adds: What sums them up.
    """

    products: frozenset[ir.Node]
    adds: frozenset[ir.Node]


def float_residuals(graph: ir.Graph) -> FloatResiduals:
    """Return the residual streams that may stay float, each from its first convolution on."""
    products: set[ir.Node] = set()
    adds: set[ir.Node] = set()
    for node in graph:
        if node.op_type != "Add" or not _is_read_by_convolutions(node.outputs[0]):
            continue
        terms = [value.producer() if value is not None else None for value in node.inputs]
        linear = {term for term in terms if term is not None and _is_wide_pointwise(term)}
        if all(term in linear or term in adds for term in terms):
            adds.add(node)
            products |= linear
    return FloatResiduals(frozenset(products), frozenset(adds))


def _is_read_by_convolutions(value: ir.Value) -> bool:
    readers = {usage.node for usage in value.uses()}
    return not value.is_graph_output() and all(
        node.op_type in _READERS and node.graph is value.graph for node in readers
    )


def _is_wide_pointwise(node: ir.Node) -> bool:
    """Return whether a node is a convolution that a MatMul over many channels could compute."""
    if node.op_type != "Conv" or node.domain or not _is_read_by_convolutions(node.outputs[0]):
        return False
    shape = static_shape(node.inputs[1])
    if weight_array_rank(node) is None or shape is None or shape[2:] != (1, 1):
        return False
    if shape[1] < _FEWEST_CHANNELS or prod(shape) * _positions(node.outputs[0]) < _LEAST_WORK:
        return False
    has_known_bias = all(value is None or is_constant(value) for value in node.inputs[2:])
    is_dense = integer(node, "group", 1) == 1 and ints(node, "strides", [1, 1]) == [1, 1]
    return has_known_bias and is_dense and not any(ints(node, "pads", []))


def _positions(value: ir.Value) -> int:
    """Return the number of positions of a feature map, [batch, channels, height, width].

    Where they are not known, these are more than enough.
    """
    sizes = [] if value.shape is None else list(value.shape[2:])
    known = [size for size in sizes if isinstance(size, int)]
    return prod(known) if known and len(known) == len(sizes) else _LEAST_WORK
