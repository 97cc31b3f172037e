"""How long ONNX Runtime's CPU kernels take, in float and on integers.

Rounding to eight bits pays only where the integer kernel is the faster one. On x86 with VNNI that
is the case for dense convolutions and matrix products; but integer depthwise convolutions, the
first convolution of a network with its three channels, and a SiLU in two integer kernels all take
longer than their float counterparts, and every change between the two takes a pass over the tensor.

The figures are those of ONNX Runtime 1.31 on two cores with AVX-512 VNNI: least squares over the
profiles of 15 networks (ResNet, MobileNet, EfficientNet, RegNet, DenseNet, ShuffleNet, SqueezeNet,
GoogLeNet, YOLOv8n, YOLOX-nano). A kernel's time is taken as linear in its work: eight in ten
convolutions lie within 25 %, integer depthwise ones within 40 %. Those over volumes were measured
one by one, and lie within a factor of two: their integer kernel copies the window of each position,
value by value, which takes many times as long as the products of few channels. Other processors
have other figures; what matters here is which of two kernels is the faster one.
`scripts/division_gain.py` tells whether savings come true.
"""

from math import prod
from types import MappingProxyType
from typing import NamedTuple

import onnx_ir as ir

from qbench.model.graph import constant, integer, is_constant, static_shape

_FEW_CHANNELS = 4
"""Up to as many input channels, a convolution is a network's first one."""

_VOLUME_RANK = 5
"""Rank of the weights of a convolution over volumes, [M, C/g, D, H, W]."""

_THIN = 16
"""Groups of fewer channels have no vectorized float kernel."""


class _Kernel(NamedTuple):
    """What a kernel takes.

    Attributes:
        mac: Nanoseconds for a thousand multiply-accumulates ...
        element: ... for an element of the largest tensor, or of the windows over a volume ...
        weight: ... for an element of the weights, which come from memory ...
        call: ... and microseconds for the call.
    """

    mac: float
    element: float
    weight: float
    call: float

    def microseconds(self, macs: int, elements: int, weights: int) -> float:
        return (
            1e-6 * macs * self.mac + 1e-3 * (elements * self.element + weights * self.weight)
        ) + self.call


class _Pair(NamedTuple):
    in_float: _Kernel
    in_int8: _Kernel


_CONVOLUTIONS = MappingProxyType(
    {
        "stem": _Pair(_Kernel(3.9, 0.15, 0, 7), _Kernel(2.4, 0.48, 0, 40)),
        "pointwise": _Pair(_Kernel(5.3, 0.036, 0.033, 9), _Kernel(1.4, 0.061, 0.033, 9)),
        "spatial": _Pair(_Kernel(4.4, 0.082, 0.103, 16), _Kernel(1.1, 0.166, 0.046, 14)),
        "depthwise": _Pair(_Kernel(0, 0.187, 0.31, 8), _Kernel(14.6, 0.088, 0, 13)),
        "grouped": _Pair(_Kernel(8.2, 0, 0.3, 0), _Kernel(10.8, 0, 0.22, 7)),
        "thin groups": _Pair(_Kernel(36, 0, 1.2, 0), _Kernel(31, 0, 1.8, 20)),
        "volume": _Pair(_Kernel(45, 0, 0, 10), _Kernel(2, 16, 0, 10)),
        "depthwise volume": _Pair(_Kernel(400, 0, 0, 10), _Kernel(80, 0, 0, 10)),
    }
)
_PRODUCT = _Pair(_Kernel(5.3, 0.036, 0.06, 9), _Kernel(1.4, 0.061, 0.022, 9))
_ELEMENTWISE = MappingProxyType(
    {
        "Add": _Pair(_Kernel(0, 0.13, 0, 9), _Kernel(0, 0.084, 0, 8)),
        "AveragePool": _Pair(_Kernel(0, 0.038, 0, 11), _Kernel(0, 0.05, 0, 11)),
        "Concat": _Pair(_Kernel(0, 0.16, 0, 8), _Kernel(0, 0.2, 0, 7)),
        "GlobalAveragePool": _Pair(_Kernel(0, 0.033, 0, 7), _Kernel(0, 0.058, 0, 5)),
        "LeakyRelu": _Pair(_Kernel(0, 0.1, 0, 9), _Kernel(0, 0.134, 0, 7)),
        "Mul": _Pair(_Kernel(0, 0.107, 0, 9), _Kernel(0, 0.128, 0, 9)),
        "Sigmoid": _Pair(_Kernel(0, 0.195, 0, 6), _Kernel(0, 0.134, 0, 7)),
    }
)
_SILU = _Kernel(0, 0.081, 0, 3)
"""Each of the two operators of a SiLU in float, which are one kernel together."""

_SILU_APART = _Kernel(0, 0.07, 0, 4)
"""What each of them takes longer where its input is dequantized, for each by itself."""

_QUANTIZE = _Kernel(0, 0.26, 0, 11)
_DEQUANTIZE = _Kernel(0, 0.3, 0, 7)
"""With a reordering of the channels, which float and integer convolutions keep in two ways."""


class NodeTime(NamedTuple):
    """Microseconds of one node in float and on integers."""

    in_float: float
    in_int8: float


def node_time(node: ir.Node, macs: int) -> NodeTime | None:
    """Return how long a node takes; None where it has no integer kernel or its shapes are unknown.

    Args:
        node: Of a graph with static shapes.
        macs: Its multiply-accumulates.
    """
    elements, pair = _elements(node), _pair(node)
    if pair is _CONVOLUTIONS["volume"]:
        elements = _window_elements(node, macs)
    if pair is None or elements is None:
        return None
    weight = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    work = (macs, elements, 0 if weight is None else weight.size)
    in_float = _SILU if is_silu(node) else pair.in_float
    return NodeTime(in_float.microseconds(*work), pair.in_int8.microseconds(*work))


def quantize_time(value: ir.Value) -> float:
    """Return the microseconds that quantizing a float tensor takes; 0 where its size is unknown."""
    return _time_of(_QUANTIZE, value)


def dequantize_time(value: ir.Value, reader: ir.Node) -> float:
    """Return the microseconds that a float reader of an integer tensor waits for its values."""
    lost = _time_of(_SILU_APART, value) if is_silu(reader) else 0.0
    return _time_of(_DEQUANTIZE, value) + lost


def is_silu(node: ir.Node) -> bool:
    """Return whether a Sigmoid, or the Mul behind it, is a part of x * sigmoid(x)."""
    if node.op_type == "Sigmoid":
        return any(_closes_silu(usage.node, node) for usage in node.outputs[0].uses())
    producers = [value.producer() for value in node.inputs if value is not None]
    return any(one is not None and _closes_silu(node, one) for one in producers)


def _closes_silu(node: ir.Node, gate: ir.Node) -> bool:
    return (
        node.op_type == "Mul"
        and gate.op_type == "Sigmoid"
        and {id(value) for value in node.inputs} == {id(gate.inputs[0]), id(gate.outputs[0])}
    )


def _time_of(kernel: _Kernel, value: ir.Value) -> float:
    shape = static_shape(value)
    return 0.0 if shape is None else kernel.microseconds(0, prod(shape), 0)


def _elements(node: ir.Node) -> int | None:
    values = [node.outputs[0]] if node.op_type == "Conv" else [*node.outputs, *node.inputs]
    shapes = [
        static_shape(value) for value in values if value is not None and not is_constant(value)
    ]
    known = [shape for shape in shapes if shape is not None]
    return max(prod(shape) for shape in known) if len(known) == len(shapes) and known else None


def _window_elements(node: ir.Node, macs: int) -> int:
    """Return the positions of a convolution's outputs times the size of its kernel and groups."""
    shape = static_shape(node.inputs[1])
    assert shape is not None  # or there would be no times
    return macs * integer(node, "group", 1) // (shape[0] * shape[1])


def _pair(node: ir.Node) -> _Pair | None:
    if node.op_type == "Conv":
        return _convolution(node)
    if node.op_type in {"Gemm", "MatMul"}:
        return _PRODUCT
    return _ELEMENTWISE.get(node.op_type)


def _convolution(node: ir.Node) -> _Pair | None:
    weight = node.inputs[1]
    shape = static_shape(weight)
    if shape is None:
        return None
    group, channels, kernel = integer(node, "group", 1), shape[1], prod(shape[2:])
    if len(shape) == _VOLUME_RANK:
        kind = "depthwise volume" if group > 1 and channels == 1 else "volume"
    elif group > 1:
        kind = "depthwise" if channels == 1 else "grouped" if channels >= _THIN else "thin groups"
    elif channels <= _FEW_CHANNELS:
        kind = "stem"
    else:
        kind = "pointwise" if kernel == 1 else "spatial"
    return _CONVOLUTIONS[kind]
