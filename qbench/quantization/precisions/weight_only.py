"""Keep weights as integers and compute in float: smaller files, no calibration."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from qbench.errors import QuantizationError, UsageError
from qbench.model.graph import integer, static_shape
from qbench.model.passes.opset import raise_opset
from qbench.placement.analysis import (
    COMPUTE,
    excluded_nodes,
    is_expectation,
    weight_array_rank,
    weight_axis,
)
from qbench.placement.plan import FloatNode, Plan, Reader, Weight
from qbench.quantization.numerics import QuantizationParameters, per_block_int4
from qbench.quantization.precisions.matmul_nbits import write_matmul_nbits
from qbench.quantization.qdq import write_qdq
from qbench.quantization.weights import WeightCoding

BLOCKS = (32, 128)
"""Numbers of int4 weights that may share a scale."""

_INT4_OPSET = 21


@dataclass(frozen=True)
class WeightOptions:
    """How to store weights as integers.

    Attributes:
        block: Number of int4 weights that share a scale, one of `BLOCKS`; None takes the first.
        exclude: Shell wildcards of node names that keep float weights.
    """

    block: int | None = None
    exclude: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Check the block.

        Raises:
            UsageError: It is unknown.
        """
        if self.block not in {None, *BLOCKS}:
            choices = " or ".join(map(str, BLOCKS))
            raise UsageError(f"--block {self.block} is not possible; choose {choices}")


Obstacle = Callable[[ir.Node], str]
"""Says why a compute node keeps float weights; nothing where it need not."""


def to_weight_only(model: ir.Model, target: str, exclude: Sequence[str]) -> tuple[ir.Model, Plan]:
    """Return a copy of a prepared `model` with int8 weights by output channel, and its plan.

    Weights of Conv, ConvTranspose, Gemm and MatMul stand behind a DequantizeLinear.

    Raises:
        QuantizationError: There are no such weights.
        UsageError: A pattern in `exclude` matches no node.
    """
    plan = _plan(model.graph, target, exclude, _no_weights, weight_axis)
    if not plan.weights:
        raise QuantizationError("the model has no Conv, Gemm or MatMul with constant weights")
    return write_qdq(model.clone(), plan, {}), plan


def to_int4(
    model: ir.Model, target: str, block: int, exclude: Sequence[str]
) -> tuple[ir.Model, Plan]:
    """Return a copy of a prepared `model` with int4 weights in MatMul and Gemm, and its plan.

    Every `block` weights along the summed axis share a scale. For `tensorrt` they stand behind a
    DequantizeLinear of opset 21, which asks for whole blocks; for `cpu` they go into ONNX Runtime's
    MatMulNBits, which fills up the last one.

    Raises:
        QuantizationError: There are no such weights.
        UsageError: A pattern in `exclude` matches no node.
    """
    on_cpu = target == "cpu"
    model = model if on_cpu else raise_opset(model, _INT4_OPSET)

    def obstacle(node: ir.Node) -> str:
        return _no_matrix(node) or ("" if on_cpu else _torn(node, block))

    plan = _plan(model.graph, target, exclude, obstacle, _summed_axis)
    if not plan.weights:
        raise QuantizationError(
            "the model has no MatMul or Gemm with constant weights that --int4 could hold; "
            "use --weight-only or --int8"
        )
    if on_cpu:
        return write_matmul_nbits(model, plan, block), plan
    coding = WeightCoding(partial(_in_blocks, block=block))
    coded = coding.encode_all(model.graph, plan.weights)
    return write_qdq(model.clone(), plan, {}, coded), plan


def _in_blocks(array: NDArray[Any], axis: int | None, block: int) -> QuantizationParameters:
    """Return scales for blocks, at least two: TensorRT for RTX fuses no DQ of a single block."""
    assert axis is not None  # the plan names the summed axis
    return per_block_int4(array, axis, min(block, array.shape[axis] // 2))


def _plan(
    graph: ir.Graph,
    target: str,
    exclude: Sequence[str],
    obstacle: Obstacle,
    axis_of: Callable[[ir.Node], int | None],
) -> Plan:
    excluded = excluded_nodes(graph, exclude)
    weights, floats = [], []
    for node in graph:
        if node.op_type not in COMPUTE or node.domain:
            continue
        name, value = node.name or "", node.inputs[1]
        reason = "excluded by name" if name in excluded else obstacle(node)
        if reason or value is None:
            floats.append(FloatNode(name, node.op_type, reason))
        else:
            weights.append(Weight(value.name or "", Reader(name, 1), axis_of(node)))
    return Plan(
        target=target,
        symmetric=True,
        activations=(),
        weights=tuple(weights),
        quantized=tuple(weight.reader.node for weight in weights),
        floats=tuple(floats),
    )


def _no_weights(node: ir.Node) -> str:
    if (weight_array_rank(node) or 0) < 2:
        return "it multiplies no constant weights"
    return "decodes a Softmax into coordinates" if is_expectation(node) else ""


def _no_matrix(node: ir.Node) -> str:
    if node.op_type not in {"MatMul", "Gemm"}:
        return "INT4 is for MatMul and Gemm only"
    is_matrix = weight_array_rank(node) == 2
    return _no_weights(node) or ("" if is_matrix else "its weights are no matrix")


def _torn(node: ir.Node, block: int) -> str:
    shape = static_shape(node.inputs[1])
    assert shape is not None  # a constant has a shape
    summed = shape[_summed_axis(node)]
    return f"its {summed} inputs are no multiple of the block of {block}" if summed % block else ""


def _summed_axis(node: ir.Node) -> int:
    """Return the axis of a weight matrix along which products are summed up."""
    return integer(node, "transB", 0)
