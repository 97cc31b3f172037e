"""Scales and zero-points in a Q/DQ model, whoever made it."""

from math import isfinite
from typing import Any

import msgspec
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qbench.model.graph import INTEGER_PREFIXES, constant, integer, is_constant


class Encoding(msgspec.Struct, frozen=True):
    """How a tensor is stored as integers.

    Attributes:
        tensor: Name of the float tensor; of the integers where the model stores those.
        role: `activation`, `weight`, or `bias` (int32).
        dtype: Type of the codes in ONNX's words (`INT8`).
        axis: Axis along which the scales change; None for one scale.
        scale: One value, or one for each index of `axis`; empty where it is computed at run time.
            Not-a-number and infinity, which JSON does not know, stand as None.
        zero_point: As many values; a single 0 where the model leaves it out.
    """

    tensor: str
    role: str
    dtype: str
    axis: int | None
    scale: tuple[float | None, ...]
    zero_point: tuple[int, ...]


def encodings(graph: ir.Graph) -> tuple[Encoding, ...]:
    """Return the encoding of each tensor that Q/DQ nodes quantize, each once, in graph order.

    The scales inside QLinearConv and its like are not among them.
    """
    found = (_encoding(node) for node in graph if is_quantize(node) or _dequantizes_constant(node))
    return tuple(dict.fromkeys(found))


def is_quantize(node: ir.Node | None) -> bool:
    """Return whether `node` is a QuantizeLinear."""
    return node is not None and node.op_type == "QuantizeLinear"


def is_dequantize(node: ir.Node | None) -> bool:
    """Return whether `node` is a DequantizeLinear."""
    return node is not None and node.op_type == "DequantizeLinear"


def is_qdq(node: ir.Node | None) -> bool:
    """Return whether `node` is a QuantizeLinear or a DequantizeLinear."""
    return is_quantize(node) or is_dequantize(node)


def is_integer_kernel(node: ir.Node) -> bool:
    """Return whether `node` computes with integers by itself, without Q/DQ nodes around it."""
    return node.op_type.startswith(INTEGER_PREFIXES)


def dequantizer(value: ir.Value | None) -> ir.Node | None:
    """Return the DequantizeLinear that makes `value`, or None where something else does."""
    producer = value.producer() if value is not None else None
    return producer if is_dequantize(producer) else None


def quantizers(value: ir.Value) -> list[ir.Node]:
    """Return the QuantizeLinear nodes that read `value`."""
    return [usage.node for usage in value.uses() if is_quantize(usage.node) and usage.idx == 0]


def only_dequantized(codes: ir.Value) -> bool:
    """Return whether all who read the output of a Q are DQ nodes."""
    readers = (usage.node for usage in codes.uses())
    return not codes.is_graph_output() and all(map(is_dequantize, readers))


def is_weight(node: ir.Node) -> bool:
    """Return whether a Q or DQ node works on a constant, stored as integers or as floats."""
    source = node.inputs[0]
    producer = source.producer() if source is not None and is_dequantize(node) else None
    origin = producer.inputs[0] if producer is not None and is_quantize(producer) else source
    return is_constant(origin)


def scale_of(node: ir.Node) -> NDArray[Any] | None:
    """Return the scale of a Q or DQ node, a scalar or [channels]; None where it is computed."""
    return constant(node.inputs[1])


def zero_point_of(node: ir.Node) -> NDArray[Any]:
    """Return the zero-point of a Q or DQ node; 0 where it has none, or none that is constant."""
    array = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    return np.zeros((), np.int64) if array is None else array


def code_type(node: ir.Node) -> ir.DataType:
    """Return the type of the codes that a Q node writes or a DQ node reads.

    Without a zero-point, `output_dtype` decides, and uint8 is the default of ONNX.
    """
    zero_point = node.inputs[2] if len(node.inputs) > 2 else None
    if zero_point is not None and zero_point.dtype is not None:
        return zero_point.dtype
    source = node.inputs[0]
    if is_dequantize(node) and source is not None:
        producer = source.producer()
        if producer is not None and is_quantize(producer):
            return code_type(producer)
        if source.dtype is not None:
            return source.dtype
    return ir.DataType(integer(node, "output_dtype", 0) or ir.DataType.UINT8)


def axis_of(node: ir.Node) -> int | None:
    """Return the axis along which the scale of a Q or DQ node changes, None for one scale.

    Negative axes are counted from the front where the rank is known.
    """
    scale, source = scale_of(node), node.inputs[0]
    if scale is None or scale.size == 1:
        return None
    axis = integer(node, "axis", 1)
    rank = len(source.shape) if source is not None and source.shape is not None else 0
    return axis + rank if axis < 0 else axis


def same_encoding(one: ir.Node, other: ir.Node) -> bool:
    """Return whether two Q or DQ nodes have equal scales, zero-points and types."""
    if code_type(one) != code_type(other):
        return False
    scale, other_scale = scale_of(one), scale_of(other)
    if scale is None or other_scale is None:
        return one.inputs[1] is other.inputs[1]
    return np.array_equal(scale, other_scale, equal_nan=True) and np.array_equal(
        zero_point_of(one), zero_point_of(other)
    )


def _dequantizes_constant(node: ir.Node) -> bool:
    return is_dequantize(node) and is_constant(node.inputs[0])


def _encoding(node: ir.Node) -> Encoding:
    source, scale, dtype = node.inputs[0], scale_of(node), code_type(node)
    assert source is not None  # ONNX asks for it
    role = "weight" if is_weight(node) else "activation"
    return Encoding(
        tensor=source.name or "",
        role="bias" if dtype == ir.DataType.INT32 else role,
        dtype=dtype.name,
        axis=axis_of(node),
        scale=() if scale is None else tuple(map(_finite, np.ravel(scale).tolist())),
        zero_point=tuple(np.ravel(zero_point_of(node)).tolist()),
    )


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
