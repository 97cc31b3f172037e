"""Ask ONNX Runtime what it really made of a quantized model."""

from contextlib import nullcontext
from pathlib import Path

import msgspec
import onnx_ir as ir

from qbench.model.graph import integer
from qbench.model.load import read_graph
from qbench.model.save import on_disk
from qbench.placement.analysis import COMPUTE
from qbench.placement.plan import FloatNode, Plan
from qbench.quantization.encodings import code_type, is_integer_kernel
from qbench.quantization.linting.common import weight_dequantizer
from qbench.quantization.linting.cpu_fusion import is_quantized, wanted_nodes
from qbench.quantization.linting.lint import blocking_reasons, tidied
from qbench.runtimes.ort.graphs import optimized_graph

_PRODUCTS = ("Conv", "Gemm", "MatMul")
_OWN = "ONNX Runtime has a reason of its own"
_PACKED = "MatMulNBits"
_ROUNDS = 4
"""The `accuracy_level` from which MatMulNBits may multiply in INT8."""


class KernelAudit(msgspec.Struct, frozen=True):
    """Which planned nodes run on integer kernels.

    Attributes:
        planned: Number of Conv, Gemm and MatMul nodes that the plan quantizes.
        integer: Number of them that ONNX Runtime fused into an integer kernel.
        unfused: Planned nodes of any operator that run in float between Q/DQ nodes, and why.
    """

    planned: int
    integer: int
    unfused: tuple[FloatNode, ...]


def audit_cpu(quantized: Path, plan: Plan | None = None) -> KernelAudit:
    """Optimize the `quantized` file as the CPU provider would and look for the integer kernels.

    A fused kernel keeps the name of its node, to which a MatMul that takes in the Add of its bias
    adds a word of its own; nothing else keeps it for sure.

    Args:
        quantized: An ONNX file with Q/DQ nodes or integer operators.
        plan: What was planned; None takes every compute node, and the others that read
            dequantized inputs.

    Raises:
        ModelError: ONNX Runtime refuses the model.
    """
    original = read_graph(quantized)
    model = tidied(original)
    nodes = {node.name or "": node for node in model.graph}
    planned = _wanted(model.graph) if plan is None else plan.quantized
    with nullcontext(quantized) if _tells_apart(original.graph) else on_disk(model) as path:
        optimized = list(optimized_graph(path))
    kernels = {
        (node.name or "").removesuffix("/MatMulAddFusion")
        for node in optimized
        if is_integer_kernel(node)
    }
    packed = {node.name: _packed_reason(node) for node in optimized if node.op_type == _PACKED}
    reasons = packed | blocking_reasons(model, "cpu")
    unfused = [name for name in planned if name not in kernels]
    return KernelAudit(
        planned=sum(is_compute(nodes[name]) for name in planned),
        integer=sum(is_compute(nodes[name]) for name in planned if name in kernels),
        unfused=tuple(
            FloatNode(name, nodes[name].op_type, reasons.get(name) or _likely_reason(nodes[name]))
            for name in unfused
        ),
    )


def _packed_reason(node: ir.Node) -> str:
    """Say what a MatMulNBits does, which has weights of a few bits and no scale for its input."""
    does = f"{_PACKED} takes and gives floats, with weights of {integer(node, 'bits', 4)} bits"
    rounds = integer(node, "accuracy_level", 0) >= _ROUNDS
    return f"{does}; it may round its input to INT8 by itself" if rounds else does


def _likely_reason(node: ir.Node) -> str:
    """Say why a node that no rule tells of stays float, as far as its inputs show."""
    second = node.inputs[1] if len(node.inputs) > 1 else None
    weights = weight_dequantizer(second)
    if is_quantized(node.inputs[0]):
        is_float = node.op_type in COMPUTE and not is_quantized(second)
        return f"its input {second.name!r} is float" if second and is_float else _OWN
    if weights is None:
        return "its inputs are not quantized"
    held = code_type(weights).name.title()
    return f"its weights are {held}, which are dequantized when it runs; its input is not quantized"


def _tells_apart(graph: ir.Graph) -> bool:
    """Return whether every node has a name of its own."""
    names = [node.name for node in graph]
    return all(names) and len(set(names)) == len(names)


def is_compute(node: ir.Node) -> bool:
    """Return whether a node multiplies and accumulates, on floats or on integers."""
    is_integer = is_integer_kernel(node) and any(word in node.op_type for word in _PRODUCTS)
    return node.op_type in COMPUTE or is_integer or node.op_type == _PACKED


def _wanted(graph: ir.Graph) -> tuple[str, ...]:
    wanted = {node.name for node in wanted_nodes(graph)}
    return tuple(n.name or "" for n in graph if is_compute(n) or n.name in wanted)
