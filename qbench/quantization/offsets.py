"""Do without a zero-point: add a constant to a tensor, and take it off again behind its readers.

TensorRT's zero-points are 0, so that codes for a range [0, high] would be half wasted. With
``x' = x + zero_point * scale`` the codes of x' around 0 are those of x around the zero-point, and
what the addition does to the output of a layer without padding is the same everywhere: it goes into
the bias. The addition itself becomes part of the kernel that writes x.
"""

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qbench.model.graph import add_initializer
from qbench.placement.analysis import bias_place
from qbench.quantization.numerics import QuantizationParameters


def offset_name(tensor: str) -> str:
    """Return the name that `tensor` has with its offset."""
    return f"{tensor}_offset"


def offset_of(parameters: QuantizationParameters) -> float:
    """Return what must be added to a tensor for its zero-point to be 0."""
    return float(parameters.zero_point.astype(np.float32) * parameters.scale)


def without_zero_point(parameters: QuantizationParameters) -> QuantizationParameters:
    """Return the parameters of a tensor to which the offset was added."""
    return QuantizationParameters(parameters.scale, np.zeros_like(parameters.zero_point))


def offset_at_output(
    codes: NDArray[Any], parameters: QuantizationParameters, axis: int, offset: float
) -> NDArray[np.float32]:
    """Return what a constant added to all that a layer reads adds to its output, [channels].

    Args:
        codes: Of the layer's weights, with zero-point 0.
        parameters: Of these, by channel.
        axis: Their axis of output channels.
        offset: The constant.
    """
    others = tuple(i for i in range(codes.ndim) if i != axis)
    total = codes.sum(axis=others, dtype=np.float64) * parameters.scale
    return np.asarray(offset * total, np.float32)


def add_to_bias(graph: ir.Graph, node: ir.Node, shift: NDArray[Any]) -> None:
    """Add `shift`, [output channels], to a node's bias; a Conv or Gemm without gets one."""
    place = bias_place(node)
    assert place is not None  # the plan takes no offset in front of others
    holder, position, old = place
    bias = shift if old is None else old + shift
    holder.resize_inputs(max(len(holder.inputs), position + 1))
    value = add_initializer(graph, f"{node.name}_bias_corrected", bias)
    holder.replace_input_with(position, value)
