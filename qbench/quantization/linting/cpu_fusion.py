"""How ONNX Runtime's CPU provider makes integer kernels: ``DQ -> op -> Q`` becomes one of them.

Tried on ONNX Runtime 1.31, x86.
"""

from collections.abc import Iterator

import onnx_ir as ir

from qbench.model.graph import integer, only_user
from qbench.placement import cpu
from qbench.placement.analysis import COMPUTE
from qbench.placement.cpu import final_output
from qbench.quantization.encodings import (
    axis_of,
    code_type,
    dequantizer,
    is_dequantize,
    is_qdq,
    quantizers,
)
from qbench.quantization.linting import common

NEED_OUTPUT = cpu.NEED_OUTPUT | {"Softmax"}
"""Those that placement quantizes, and what it leaves float although there is a kernel."""

KERNELS = NEED_OUTPUT | {"Gemm", "MatMul"}
"""Operators with integer kernels, but for those in `MOVES`."""

MOVES = cpu.MOVES | {"ReduceMax", "ReduceMin"}
"""Operators that move codes as they are, where the encoding stays the same."""

PASSED = {"MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
"""Over these, ONNX Runtime moves a Q back and a DQ forth to where they fuse."""

_PAIRED = MOVES | PASSED | {"Clip", "DequantizeLinear", "QuantizeLinear", "Relu"}
"""What may stand between an integer kernel and a node that reads what it has written."""


def merge_equal_pairs(graph: ir.Graph) -> None:
    """Let those who read a tensor through Q/DQ nodes of the very same inputs share one pair.

    ONNX Runtime does so before it fuses, also where each reader was given a pair of its own; but
    not where equal scales have two names.
    """
    known: dict[tuple[object, ...], ir.Value] = {}
    for node in list(graph):
        output = node.outputs[0] if is_qdq(node) else None
        if output is None or output.is_graph_output():
            continue
        kind = node.op_type, code_type(node), axis_of(node), integer(node, "block_size", 0)
        twin = known.setdefault((*kind, *node.inputs), output)
        if twin is not output:
            output.replace_all_uses_with(twin)
            graph.remove(node, safe=True)


def quantized_nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    """Yield the nodes that a Q/DQ model wants on integers.

    Their first input is dequantized, and so is the second, or the output is quantized. Not so where
    these pairs are what integer kernels on both sides of a float node need.
    """
    for node in graph:
        if is_qdq(node) or not node.inputs or not is_quantized(node.inputs[0]) or _adds_bias(node):
            continue
        if _is_between_others(node):
            continue
        is_fed = node.op_type in COMPUTE and is_quantized(node.inputs[1])
        if is_fed or any(quantizers(output) for output in ends(node)):
            yield node


def _adds_bias(node: ir.Node) -> bool:
    """Return whether an Add brings the int32 bias of the MatMul in front of it."""
    sources = filter(None, map(dequantizer, node.inputs))
    return node.op_type == "Add" and any(code_type(s) == ir.DataType.INT32 for s in sources)


def _is_between_others(node: ir.Node) -> bool:
    """Return whether integer kernels write what a node without one reads, and read what it writes.

    They need the Q/DQ pairs around it, which are a loss for none.
    """
    if node.op_type in KERNELS | MOVES | COMPUTE:
        return False
    writer = common.source_before(node.inputs[0], _PAIRED)
    if writer is None or writer.op_type not in KERNELS:
        return False
    pairs = [quantize for output in ends(node) for quantize in quantizers(output)]
    codes = [usage.node for quantize in pairs for usage in quantize.outputs[0].uses()]
    readers = [usage.node for one in codes for usage in one.outputs[0].uses()]
    return any(reader.op_type in KERNELS | MOVES for reader in readers)


def wanted_nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    """Yield those of `quantized_nodes` that do more than to move data."""
    return (node for node in quantized_nodes(graph) if node.op_type not in MOVES)


def is_quantized(value: ir.Value | None) -> bool:
    """Return whether a DQ makes `value`, past what ONNX Runtime passes over."""
    return is_dequantize(common.source_before(value, PASSED))


def ends(node: ir.Node) -> Iterator[ir.Value]:
    """Yield what a node's kernel would write, past what ONNX Runtime absorbs or passes over."""
    yield past_movement(final_output(node))
    yield from node.outputs[1:]


def past_movement(value: ir.Value) -> ir.Value:
    """Return what becomes of `value` over operators in `PASSED` that alone read it."""
    user = only_user(value)
    while user is not None and user.op_type in PASSED:
        value = user.outputs[0]
        user = only_user(value)
    return value
