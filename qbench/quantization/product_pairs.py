"""Pairs of 8-bit products that x86 without VNNI adds in 16 bits, and scales with room for them.

VPMADDUBSW multiplies uint8 by int8 and adds each two neighbours, which saturates: 255 x 128 fits
into int16, 255 x 129 does not. Codes of 7 bits are safe, and half as fine as those of 8. But only
the sum of two weights has to be small, and those of unlike signs always go together. Scales that
hold these sums leave 4.5 dB less noise than 7 bits, and 1.6 dB more than 8 (weights of
EfficientNet-lite0, YOLOX-nano and YOLOv8n).

Which products are neighbours was found by asking ONNX Runtime 1.31 on AVX2 for each two weights of
a layer: those of two channels under one tap of a kernel, as images lie there with channels last,
and those of two rows of a matrix. Depthwise kernels add in 32 bits. Kernels for AVX-512 take the
same order.
"""

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qbench.model.graph import integer
from qbench.quantization.numerics import row_blocks

MOST_OF_A_PAIR = 128
"""Magnitude of the sum of a pair's codes."""


def pair_sums(node: ir.Node, array: NDArray[Any]) -> NDArray[Any] | None:
    """Return the largest magnitude of a pair's sum for each output, [outputs].

    Codes whose scale is a 127th of it, or more, stay within `MOST_OF_A_PAIR`: rounding adds at most
    a half to each. None for a kernel that adds in 32 bits.

    Args:
        node: What multiplies by the weights, its second input.
        array: The weights.
    """
    if _adds_in_32_bits(node, array):
        return None
    even, odd = _pairs(node, array)
    blocks = (np.abs(even[some] + odd[some]).max(axis=1, initial=0) for some in row_blocks(even))
    sums = np.concatenate(list(blocks))
    is_stack = node.op_type == "MatMul" and array.ndim > 2
    return sums.reshape(-1, array.shape[-1]).max(axis=0) if is_stack else sums


def share_too_large(node: ir.Node, codes: NDArray[np.int8]) -> float:
    """Return the share of pairs of codes whose sum is beyond `MOST_OF_A_PAIR`; see `pair_sums`."""
    if _adds_in_32_bits(node, codes):
        return 0.0
    even, odd = _pairs(node, codes)
    sums = even.astype(np.int16) + odd
    return float((np.abs(sums) > MOST_OF_A_PAIR).mean()) if sums.size else 0.0


def partners(node: ir.Node, array: NDArray[Any]) -> NDArray[np.intp] | None:
    """Return which weight of an output each is paired with, [inputs]; itself if with none.

    Args:
        node: What multiplies by the weights, its second input.
        array: The weights; those of one output are counted as they lie there.
    """
    if _adds_in_32_bits(node, array):
        return None
    inputs = _in_order(node, array).shape[1]
    neighbours = np.arange(inputs) ^ 1
    if inputs % 2:
        neighbours[-1] = inputs - 1
    if node.op_type != "Conv":
        return neighbours
    places = np.arange(inputs).reshape(1, *array.shape[1:])
    order = _in_order(node, places)[0]
    found = np.empty(inputs, np.intp)
    found[order] = order[neighbours]
    return found


def _pairs(node: ir.Node, array: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the one and the other weight of each pair, [outputs, pairs] both."""
    rows = _in_order(node, array)
    return rows[:, : rows.shape[1] // 2 * 2 : 2], rows[:, 1::2]


def _in_order(node: ir.Node, array: NDArray[Any]) -> NDArray[Any]:
    """Return weights as [outputs, inputs], in which each two neighbours are a pair."""
    if node.op_type == "Conv":
        return np.moveaxis(array, 1, -1).reshape(len(array), -1)
    is_turned = node.op_type == "Gemm" and integer(node, "transB", 0)
    turned = array if is_turned or array.ndim < 2 else array.swapaxes(-1, -2)
    return turned.reshape(-1, turned.shape[-1])


def _adds_in_32_bits(node: ir.Node, array: NDArray[Any]) -> bool:
    """Return whether each channel of a Conv is read by one output and no more."""
    channels = integer(node, "group", 1)
    return node.op_type == "Conv" and array.shape[:2] == (channels, 1)
