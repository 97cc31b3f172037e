"""Ask ONNX Runtime what it really made of a quantized model."""

from pathlib import Path

import msgspec
import onnx_ir as ir

from qbench.placement.analysis import COMPUTE
from qbench.placement.plan import Plan
from qbench.runtimes.ort import optimized_graph

_INTEGER_KERNELS = ("QLinear", "QGemm", "MatMulInteger", "ConvInteger", "QAttention")


class KernelAudit(msgspec.Struct, frozen=True):
    """Which planned compute nodes run on integer kernels.

    Attributes:
        planned: Number of Conv, Gemm and MatMul nodes that the plan quantizes.
        integer: Number of them that ONNX Runtime fused into an integer kernel.
        unfused: Names of the others; they run in float between Q/DQ nodes.
    """

    planned: int
    integer: int
    unfused: tuple[str, ...]


def audit_cpu(quantized: Path, prepared: ir.Model, plan: Plan) -> KernelAudit:
    """Optimize the `quantized` file as the CPU provider would and look for the integer kernels.

    A fused kernel keeps the name of its node; nothing else keeps it for sure.

    Args:
        quantized: The ONNX file that `write_qdq` made from `plan`.
        prepared: The float graph that the plan was made for.
        plan: What was planned.
    """
    graph = optimized_graph(quantized)
    kernels = {node.name for node in graph if node.op_type.startswith(_INTEGER_KERNELS)}
    compute = {node.name for node in prepared.graph if node.op_type in COMPUTE}
    planned = [name for name in plan.quantized if name in compute]
    unfused = tuple(name for name in planned if name not in kernels)
    return KernelAudit(len(planned), len(planned) - len(unfused), unfused)
