"""What TensorRT (10, 11 and RTX) asks of a Q/DQ model.

Read in its headers and tried on TensorRT for RTX 1.7. Its parser refuses what breaks a rule with
severity error, or takes it for something else.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
import onnx_ir as ir

from qbench.placement.analysis import DATA_MOVEMENT
from qbench.quantization.encodings import (
    axis_of,
    code_type,
    dequantizer,
    is_dequantize,
    is_integer_kernel,
    is_quantize,
    is_weight,
    only_dequantized,
    quantizers,
    same_encoding,
    scale_of,
    zero_point_of,
)
from qbench.quantization.linting import common
from qbench.quantization.linting.finding import ERROR, WARNING, Place, Rule

_MINIMUM_OPSETS = {
    "INT8": 10,
    "FLOAT8E4M3FN": 19,
    "INT4": 21,
    "FLOAT4E2M1": 23,
}
"""The types that TensorRT quantizes to, with the opset from which ONNX has them."""

_WEIGHT_AXES = {"Conv": 0, "ConvTranspose": 1}
_ACTIVATIONS = {
    "Clip",
    "Elu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "PRelu",
    "Relu",
    "Sigmoid",
    "Tanh",
}


def _integer_biases(graph: ir.Graph) -> Iterator[Place]:
    for node in graph:
        for value in node.inputs:
            source = dequantizer(value)
            if source is not None and code_type(source) == ir.DataType.INT32:
                yield Place(node, value, "its bias is int32 behind a DequantizeLinear")


def _zero_points(graph: ir.Graph) -> Iterator[Place]:
    for node in common.encoders(graph):
        zero_point = zero_point_of(node)
        if np.any(zero_point.astype(np.float32)):
            value = np.ravel(zero_point)[np.flatnonzero(zero_point)[0]]
            yield Place(node, node.inputs[0], f"its zero-point is {value}, not 0")


def _unsigned(graph: ir.Graph) -> Iterator[Place]:
    for node in common.encoders(graph):
        if code_type(node) == ir.DataType.UINT8:
            told = len(node.inputs) > 2
            why = "its codes are uint8" if told else "without a zero-point its codes are uint8"
            yield Place(node, node.inputs[0], f"{why}, which TensorRT takes for int8 or refuses")


def _unknown_types(graph: ir.Graph) -> Iterator[Place]:
    """Yield Q/DQ nodes of types that TensorRT lacks, but for those that have rules of their own."""
    for node in common.encoders(graph):
        dtype = code_type(node).name
        if dtype not in {"UINT8", "INT32", *_MINIMUM_OPSETS}:
            yield Place(node, node.inputs[0], f"TensorRT does not quantize to {dtype}")


def _early_types(graph: ir.Graph) -> Iterator[Place]:
    opset = graph.opset_imports.get("", 0)
    for node in common.encoders(graph):
        dtype = code_type(node).name
        needed = _MINIMUM_OPSETS.get(dtype, 0)
        if opset < needed:
            yield Place(node, node.inputs[0], f"{dtype} needs opset {needed}, this is {opset}")


def _computed_scales(graph: ir.Graph) -> Iterator[Place]:
    for node in common.encoders(graph):
        if scale_of(node) is None:
            yield Place(node, node.inputs[1], "its scale is computed, not constant")


def _integer_operators(graph: ir.Graph) -> Iterator[Place]:
    for node in graph:
        if is_integer_kernel(node) or node.op_type == "DynamicQuantizeLinear":
            yield Place(node, None, f"TensorRT has no {node.op_type}")


def _inputs_only(graph: ir.Graph) -> Iterator[Place]:
    for node in common.multiplying_nodes(graph):
        if common.activation_dequantizer(node.inputs[0]) and not _is_quantized(node.inputs[1]):
            yield Place(node, node.inputs[1], "its input is quantized, but its weights are not")


def _weight_axes(graph: ir.Graph) -> Iterator[Place]:
    for node in common.multiplying_nodes(graph):
        source, wanted = common.weight_dequantizer(node.inputs[1]), _WEIGHT_AXES.get(node.op_type)
        axis = axis_of(source) if source is not None else None
        if axis is not None and wanted is not None and axis != wanted:
            yield Place(
                node, node.inputs[1], f"its weights have scales along axis {axis}, not {wanted}"
            )


def _weights_only(graph: ir.Graph) -> Iterator[Place]:
    if not common.quantizes_activations(graph):
        return
    for node in common.multiplying_nodes(graph):
        if common.weight_dequantizer(node.inputs[1]) and not _is_quantized(node.inputs[0]):
            yield Place(node, node.inputs[0], "its weights are quantized, but its input is not")


def _is_quantized(value: ir.Value | None) -> bool:
    """Return whether a DQ makes `value`, past data movement, padding and concatenation."""
    source = common.source_before(value, DATA_MOVEMENT | {"Pad"})
    if source is not None and source.op_type == "Concat":
        return all(_is_quantized(part) for part in source.inputs)
    return is_dequantize(source)


def _unequal_concats(graph: ir.Graph) -> Iterator[Place]:
    """Yield compute nodes that read a concatenation of unequal scales with no Q/DQ behind it."""
    for node in common.multiplying_nodes(graph):
        concat = common.source_before(node.inputs[0], DATA_MOVEMENT)
        if concat is None or concat.op_type != "Concat":
            continue
        sources = [source for value in concat.inputs if (source := dequantizer(value))]
        if any(not same_encoding(sources[0], other) for other in sources[1:]):
            reason = f"it reads {concat.name!r}, which concatenates tensors of unequal scales"
            yield Place(node, concat.outputs[0], reason)


def _split_activations(graph: ir.Graph) -> Iterator[Place]:
    """Yield compute nodes with a Q/DQ pair between them and their activation function."""
    for node in common.multiplying_nodes(graph):
        pairs = [use.node for q in quantizers(node.outputs[0]) for use in q.outputs[0].uses()]
        readers = [use.node for dq in pairs for use in dq.outputs[0].uses()]
        activation = next((reader for reader in readers if reader.op_type in _ACTIVATIONS), None)
        if activation is not None:
            yield Place(
                node, node.outputs[0], f"a Q/DQ pair parts it from its {activation.op_type}"
            )


def _unpaired(graph: ir.Graph) -> Iterator[Place]:
    for node in graph:
        if not is_quantize(node) or is_weight(node) or only_dequantized(node.outputs[0]):
            continue
        if not any(is_integer_kernel(usage.node) for usage in node.outputs[0].uses()):
            reason = "its integers are read without a DequantizeLinear"
            yield Place(node, node.outputs[0], reason)


_REQUANTIZE = "quantize to int8 with zero-point 0: `qbench quantize --target tensorrt`"

RULES = (
    Rule(
        "integer-operator",
        ERROR,
        _integer_operators,
        "export Q/DQ nodes in place of QOperator or dynamic quantization",
    ),
    Rule(
        "integer-bias",
        ERROR,
        _integer_biases,
        "keep biases in float (ONNX Runtime's quantizer: QuantizeBias=False)",
    ),
    Rule("zero-point", ERROR, _zero_points, _REQUANTIZE),
    Rule("unsigned", ERROR, _unsigned, _REQUANTIZE),
    Rule("type", ERROR, _unknown_types, "use int8"),
    Rule("type", ERROR, _early_types, "use int8, or raise the opset"),
    Rule("computed-scale", ERROR, _computed_scales, "fold the scale into a constant"),
    Rule(
        "impossible-scale",
        ERROR,
        partial(common.impossible_scales, signed={ir.DataType.INT4}),
        "calibrate again; scales of weights must be positive, too",
    ),
    Rule("early-axis", WARNING, common.early_axes, "export with opset 13 or later"),
    Rule(
        "weights-only",
        WARNING,
        _weights_only,
        "put a Q/DQ pair in front of its input",
        blocks=True,
    ),
    Rule("inputs-only", WARNING, _inputs_only, "quantize its weights", blocks=True),
    Rule(
        "channel-activation",
        WARNING,
        common.channel_activations,
        "give activations one scale",
        blocks=True,
    ),
    Rule(
        "weight-axis",
        WARNING,
        _weight_axes,
        "let the scales follow the output channels",
        blocks=True,
    ),
    Rule(
        "concat-scales",
        WARNING,
        _unequal_concats,
        "give its inputs one scale, or quantize behind it",
        blocks=True,
    ),
    Rule(
        "split-activation",
        WARNING,
        _split_activations,
        "move the Q/DQ pair behind the activation function",
    ),
    Rule("unpaired", WARNING, _unpaired, "follow each QuantizeLinear by a DequantizeLinear"),
    Rule("unlike-pair", WARNING, common.unlike_pairs, "give both nodes of a pair one encoding"),
    Rule("default-scale", WARNING, common.default_scales, "calibrate it"),
)
"""What `lint` checks for target `tensorrt`, worst first."""
