"""Rules of the CPU provider about scales, zero-points and codes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qbench.model.graph import constant, floating, integer
from qbench.placement.cpu import final_output, overshoots
from qbench.quantization.encodings import (
    axis_of,
    code_type,
    dequantizer,
    quantizers,
    same_encoding,
    scale_of,
    zero_point_of,
)
from qbench.quantization.linting import common
from qbench.quantization.linting.cpu_fusion import MOVES, ends, past_movement, quantized_nodes
from qbench.quantization.linting.finding import Place
from qbench.quantization.product_pairs import share_too_large

_LARGEST_BIAS = np.iinfo(np.int32).max


def wrong_axes(graph: ir.Graph) -> Iterator[Place]:
    """Yield compute nodes whose weight scales do not follow the output channels."""
    for node in quantized_nodes(graph):
        axis, wanted = _weight_axes(node)
        if axis is not None and axis != wanted:
            yield Place(
                node,
                node.inputs[1],
                f"its weights have scales along axis {axis}, which its kernel takes for {wanted}",
            )


def _weight_axes(node: ir.Node) -> tuple[int | None, int]:
    """Return the axis of a compute node's weight scales, and the axis that its kernel assumes."""
    source = common.weight_dequantizer(node.inputs[1]) if len(node.inputs) > 1 else None
    codes = source.inputs[0] if source is not None else None
    if source is None or codes is None or node.op_type not in {"Conv", "Gemm", "MatMul"}:
        return None, 0
    rank = len(codes.shape) if codes.shape is not None else 0
    last = {"Conv": 0, "Gemm": 0 if integer(node, "transB", 0) else 1}
    return axis_of(source), last.get(node.op_type, rank - 1)


def bias_scales(op_type: str, graph: ir.Graph) -> Iterator[Place]:
    """Yield `op_type` nodes with an int32 bias in other steps than input scale x weight scale."""
    for node in quantized_nodes(graph):
        sources = [found for value in node.inputs[:3] if (found := dequantizer(value))]
        if node.op_type != op_type or len(sources) < 3:
            continue
        data, weight, bias = map(scale_of, sources)
        if data is None or weight is None or bias is None or data.size != 1:
            continue  # several scales of an activation are told of by themselves
        if bias.size not in {1, weight.size} or not np.allclose(bias, data * weight, 1e-3, 0):
            reason = "the scale of its int32 bias is not that of input times weight"
            yield Place(node, node.inputs[2], reason)


def lost_biases(graph: ir.Graph) -> Iterator[Place]:
    """Yield convolutions with a float bias that does not fit into int32.

    ONNX Runtime makes one of it, in steps of input scale x weight scale, and does not saturate.
    """
    for node in quantized_nodes(graph):
        bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        if node.op_type != "Conv" or bias is None or not any(map(quantizers, ends(node))):
            continue
        data, weight = (
            scale_of(source) if (source := dequantizer(value)) else None
            for value in node.inputs[:2]
        )
        if data is None or weight is None or data.size != 1 or weight.size not in {1, bias.size}:
            continue
        steps = np.abs(bias.astype(np.float64)) / (float(data.item()) * np.ravel(weight))
        if (steps > _LARGEST_BIAS).any():
            reason = "its bias does not fit into int32, in steps of input scale x weight scale"
            yield Place(node, node.inputs[2], reason)


def mid_range_activations(graph: ir.Graph) -> Iterator[Place]:
    """Yield convolutions whose Relu or Clip does not vanish into the Q behind it."""
    for node in quantized_nodes(graph):
        output = final_output(node)
        pairs = quantizers(past_movement(output))
        activation = output.producer()
        if node.op_type != "Conv" or activation is node or activation is None or len(pairs) != 1:
            continue
        if not _absorbs(pairs[0], activation):
            what = activation.op_type
            yield Place(node, output, f"its quantized range is wider than what its {what} lets by")


def _absorbs(quantize: ir.Node, activation: ir.Node) -> bool:
    """Return whether the clipping of a Q does all that a Relu or Clip does."""
    scale, limits = scale_of(quantize), code_type(quantize)
    if scale is None or limits not in {ir.DataType.INT8, ir.DataType.UINT8}:
        return False
    codes = np.array([[np.iinfo(limits.numpy()).min], [np.iinfo(limits.numpy()).max]], np.float64)
    low, high = (codes - np.ravel(zero_point_of(quantize))) * np.ravel(scale).astype(np.float64)
    least, most = (0.0, np.inf) if activation.op_type == "Relu" else _clip_limits(activation)
    slack = 1e-6 * (high - low)
    return bool(np.all(low >= least - slack) and np.all(high <= most + slack))


def _clip_limits(node: ir.Node) -> tuple[float, float]:
    given = [constant(value) for value in node.inputs[1:3]]
    least, most = (*given, None, None)[:2]
    return (
        floating(node, "min", -np.inf) if least is None else float(least),
        floating(node, "max", np.inf) if most is None else float(most),
    )


def unequal_moves(graph: ir.Graph) -> Iterator[Place]:
    """Yield data movement between unequal encodings."""
    for node in quantized_nodes(graph):
        source = dequantizer(node.inputs[0])
        if node.op_type not in MOVES or overshoots(node) or source is None:
            continue
        for output in node.outputs:
            if any(not same_encoding(source, quantize) for quantize in quantizers(output)):
                yield Place(node, output, "it only moves data, yet its scales differ")


def saturating_weights(graph: ir.Graph) -> Iterator[Place]:
    """Yield nodes in which two products could exceed 16 bits, with the share of such pairs.

    They do where inputs reach 255.
    """
    for node in quantized_nodes(graph):
        codes = _weight_codes(node)
        share = share_too_large(node, codes) if codes is not None else 0
        if share:
            reason = f"{100 * share:.2g} % of its weight pairs may exceed 16 bits"
            yield Place(node, node.inputs[1], reason)


def _weight_codes(node: ir.Node) -> NDArray[Any] | None:
    """Return the int8 weight codes of a node that multiplies by them, or None."""
    source = common.weight_dequantizer(node.inputs[1]) if len(node.inputs) > 1 else None
    codes = constant(source.inputs[0]) if source is not None else None
    if codes is None or codes.dtype != np.int8 or node.op_type not in {"Conv", "Gemm", "MatMul"}:
        return None
    return codes if codes.ndim > 1 else None  # a broken Conv, or a vector
