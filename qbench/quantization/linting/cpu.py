"""What ONNX Runtime's CPU provider asks of a Q/DQ model.

What it cannot fuse runs in float between its Q/DQ nodes.
"""

from collections.abc import Iterator
from functools import partial

import onnx_ir as ir

from qbench.model.graph import floating
from qbench.placement.cpu import final_output
from qbench.quantization.encodings import (
    code_type,
    dequantizer,
    is_quantize,
    only_dequantized,
    quantizers,
)
from qbench.quantization.linting import common
from qbench.quantization.linting.cpu_fusion import (
    KERNELS,
    MOVES,
    NEED_OUTPUT,
    ends,
    is_quantized,
    past_movement,
    quantized_nodes,
)
from qbench.quantization.linting.cpu_numbers import (
    bias_scales,
    lost_biases,
    mid_range_activations,
    saturating_weights,
    unequal_moves,
    wrong_axes,
)
from qbench.quantization.linting.finding import ERROR, WARNING, Place, Rule

_JOINS = {"Add", "Concat", "Mul"}
_WIDE = {"INT16", "UINT16"}


def _float_inputs(graph: ir.Graph) -> Iterator[Place]:
    if not common.quantizes_activations(graph):
        return
    for node in common.multiplying_nodes(graph):
        if common.weight_dequantizer(node.inputs[1]) and not is_quantized(node.inputs[0]):
            yield Place(node, node.inputs[0], "its weights are quantized, but its input is not")
    for node in quantized_nodes(graph):
        others = node.inputs[1:] if node.op_type in _JOINS else ()
        plain = next((value for value in others if not is_quantized(value)), None)
        if plain is not None:
            yield Place(node, plain, f"its input {plain.name!r} is float")


def _gemm_forms(graph: ir.Graph) -> Iterator[Place]:
    for node in quantized_nodes(graph):
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if node.op_type != "Gemm" or bias is None:
            continue
        if floating(node, "beta", 1.0) != 1.0:
            yield Place(node, None, "its beta is not 1")
        if not dequantizer(bias) and not any(map(quantizers, ends(node))):
            yield Place(node, bias, "its bias is float, and so is its output")


def _wide_types(graph: ir.Graph) -> Iterator[Place]:
    for node in quantized_nodes(graph):
        source = dequantizer(node.inputs[0])
        if source is not None and node.op_type in KERNELS and code_type(source).name in _WIDE:
            reason = f"there is no integer kernel for {code_type(source).name}"
            yield Place(node, node.inputs[0], reason)


def _no_kernels(graph: ir.Graph) -> Iterator[Place]:
    for node in quantized_nodes(graph):
        if node.op_type in KERNELS | MOVES:
            continue
        yield Place(node, None, f"ONNX Runtime has no integer {node.op_type}")


def _signed(graph: ir.Graph) -> Iterator[Place]:
    """Yield nodes with int8 activations that ONNX Runtime does not turn into uint8.

    x86 has kernels for uint8 only; a Q/DQ pair that one node reads is turned into it.
    """
    for node in quantized_nodes(graph):
        for value in (*node.inputs, final_output(node)) if node.op_type in KERNELS else ():
            if value is not None and any(map(_stays_signed, _encoders_of(value))):
                reason = "is int8, without a Q/DQ pair that one node alone reads; equal ones merge"
                yield Place(node, value, f"{value.name!r} {reason}")


def _encoders_of(value: ir.Value) -> list[ir.Node]:
    source = common.activation_dequantizer(value)
    return quantizers(value) if source is None else [source]


def _stays_signed(node: ir.Node) -> bool:
    codes = node.outputs[0] if is_quantize(node) else node.inputs[0]
    if code_type(node) != ir.DataType.INT8 or codes is None:
        return False
    readers = [usage.node for usage in codes.uses()]
    if not is_quantize(codes.producer()) or not only_dequantized(codes) or len(readers) != 1:
        return True
    value = readers[0].outputs[0]
    return len(value.uses()) + value.is_graph_output() > 1


def _float_outputs(graph: ir.Graph) -> Iterator[Place]:
    for node in quantized_nodes(graph):
        if node.op_type not in NEED_OUTPUT:
            continue
        output = past_movement(final_output(node))
        if reason := _float_reader(output):
            yield Place(node, output, reason)


def _float_reader(output: ir.Value) -> str | None:
    """Say why `output` does not end in exactly one Q; None where it does."""
    if output.is_graph_output():
        return "its float output is an output of the model"
    users = list(dict.fromkeys(usage.node for usage in output.uses()))
    other = next((user for user in users if not is_quantize(user)), None)
    if other is not None:
        return f"its output is read in float by {other.name!r} ({other.op_type})"
    return "its output is quantized more than once" if len(users) > 1 else None


_IN_SCALE = "store the bias in steps of input scale x weight scale"

RULES = (
    Rule(
        "impossible-scale",
        ERROR,
        partial(common.impossible_scales, signed=frozenset(ir.DataType)),
        "calibrate again",
    ),
    Rule("early-axis", ERROR, common.early_axes, "export with opset 13 or later"),
    Rule(
        "weight-axis",
        ERROR,
        wrong_axes,
        "let the scales follow the output channels",
        blocks=True,
    ),
    Rule("bias-scale", ERROR, partial(bias_scales, "Gemm"), f"{_IN_SCALE}; it is taken as such"),
    Rule(
        "lost-bias",
        ERROR,
        lost_biases,
        "let no scale of weights or activations be so small, or leave the node float",
    ),
    Rule(
        "channel-activation",
        ERROR,
        common.channel_activations,
        "give activations one scale; ONNX Runtime fails when it runs",
        blocks=True,
    ),
    Rule(
        "float-input",
        WARNING,
        _float_inputs,
        "put a Q/DQ pair in front of that input",
        blocks=True,
    ),
    Rule("no-kernel", WARNING, _no_kernels, "leave it and its Q/DQ pairs out", blocks=True),
    Rule("wide-type", WARNING, _wide_types, "quantize to uint8", blocks=True),
    Rule(
        "gemm-form",
        WARNING,
        _gemm_forms,
        "let beta be 1, and quantize its bias or its output",
        blocks=True,
    ),
    Rule(
        "float-output",
        WARNING,
        _float_outputs,
        "end it in one Q/DQ pair that all readers share",
        blocks=True,
    ),
    Rule(
        "mid-range",
        WARNING,
        mid_range_activations,
        "quantize its output to uint8 over the range of the activation function",
        blocks=True,
    ),
    Rule("bias-scale", WARNING, partial(bias_scales, "Conv"), _IN_SCALE, blocks=True),
    Rule(
        "signed",
        WARNING,
        _signed,
        "quantize to uint8, for which x86 has kernels",
        blocks=True,
    ),
    Rule(
        "moved-scale",
        WARNING,
        unequal_moves,
        "give its output the scale of its input",
        blocks=True,
    ),
    Rule("unlike-pair", WARNING, common.unlike_pairs, "give both nodes of a pair one encoding"),
    Rule("default-scale", WARNING, common.default_scales, "calibrate it"),
)
"""What `lint` checks for target `cpu`, worst first."""

SATURATION = Rule(
    "saturation",
    WARNING,
    saturating_weights,
    "quantize with `qbench quantize`, or with 7-bit weights (ONNX Runtime's reduce_range)",
)
"""Checked besides where the CPU adds products in 16 bits."""
