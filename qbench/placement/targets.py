"""The targets that placement knows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import onnx_ir as ir
from onnx_ir.passes import common

from qbench.errors import ModelError, UsageError
from qbench.formatting import first_names
from qbench.model.graph import OUTSIDE_SUBGRAPHS, subgraph_nodes, values_by_name
from qbench.model.load import Model
from qbench.model.passes.chain_pools import chain_pools, chained_pools
from qbench.model.passes.fuse_slices import fuse_slices, sliced_convolutions
from qbench.model.passes.split_concats import split_concats
from qbench.placement import cpu, tensorrt
from qbench.placement.analysis import COMPUTE, channel_axis, excluded_nodes
from qbench.placement.plan import FloatNode, Plan

TARGETS: dict[str, Callable[[ir.Graph, set[str]], Plan]] = {
    "cpu": cpu.place,
    "tensorrt": tensorrt.place,
}
"""Placement rules by target."""

_SAVES = "the same results in less time, which FP32 would save as well"
_UNSLICED = f"slices in front of {{}} became a part of it: {_SAVES}"
_SPLIT = f"float convolutions ({{}}) add up what was stacked for them: but for rounding, {_SAVES}"
_CHAINED = f"larger pools ({{}}) go on from smaller ones: {_SAVES}"

_ONNX_RUNTIME = "com.microsoft"
_HALF = {ir.DataType.FLOAT16: "fp16", ir.DataType.BFLOAT16: "bf16"}


def suited(model: Model, target: str) -> tuple[Model, tuple[str, ...]]:
    """Return a prepared model in the form that `target` is quickest with; it computes the same.

    ONNX Runtime's CPU kernel of Slice takes strided values one by one: in YOLOX-nano, slices of the
    image take a fifth of FP32's time, more than integers save anywhere. Its kernel of MaxPool takes
    each value of a window: large windows on top of smaller ones save a hundredth.

    Returns:
        The model, and remarks on what was changed.
    """
    if target != "cpu":
        return model, ()
    sliced, pools = sliced_convolutions(model.ir), chained_pools(model.ir)
    if not sliced and not pools:
        return model, ()
    changed = model.ir.clone()
    fuse_slices(changed)
    chain_pools(changed)
    remarks = tuple(map(_UNSLICED.format, sliced))
    remarks += (_CHAINED.format(first_names(pools)),) if pools else ()
    return replace(model, ir=common.RemoveUnusedNodesPass()(changed).model), remarks


def quicker_in_float(quantized: ir.Model, target: str) -> tuple[str, ...]:
    """Rewrite what a quantized graph computes in float for `target`; return remarks on it.

    Only now, since integers are quicker in other forms: of two sums, each would be rounded.
    """
    split = split_concats(quantized) if target == "cpu" else ()
    return (_SPLIT.format(first_names(split)),) if split else ()


def place(
    model: Model,
    target: str,
    exclude: Sequence[str] = (),
    float_nodes: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """Return the quantization plan of a prepared model for `target`.

    Args:
        model: The prepared model; see `qbench.model.prepare.prepare`.
        target: A key of `TARGETS`.
        exclude: Shell wildcards of node names that stay float.
        float_nodes: Names of more nodes that stay float, with the reason.

    Raises:
        UsageError: The target is unknown, or a pattern matches no node.
        ModelError: The model is quantized already, or has nothing to quantize.
    """
    plan = _plan(model, target, exclude, float_nodes)
    if not plan.quantized:
        raise _nothing_to_quantize(model, f"{target} could quantize", plan.floats)
    return plan


def observed_tensors(model: Model, targets: Sequence[str]) -> dict[str, int | None]:
    """Return the tensors whose statistics the plans of `targets` need, with their channel axes.

    Raises:
        UsageError: A target is unknown.
        ModelError: The model is quantized already, or has nothing that any target could quantize.
    """
    values = values_by_name(model.ir.graph)
    plans = [_plan(suited(model, target)[0], target) for target in targets]
    names = [name for plan in plans for name in plan.observed]
    if not names:
        floats = [node for plan in plans for node in plan.floats]
        raise _nothing_to_quantize(model, "could be quantized", floats)
    return {name: channel_axis(values[name]) for name in names}


def _plan(
    model: Model,
    target: str,
    exclude: Sequence[str] = (),
    float_nodes: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    if target not in TARGETS:
        raise UsageError(f"unknown target {target!r}; choose one of {', '.join(TARGETS)}")
    graph = model.ir.graph
    model.check_float()
    plan = TARGETS[target](graph, excluded_nodes(graph, exclude) | set(float_nodes))
    floats = (replace(node, reason=float_nodes.get(node.name, node.reason)) for node in plan.floats)
    return replace(plan, floats=tuple(floats))


def check_computes_in_float32(model: Model, *, alone: bool = True) -> None:
    """Make sure that a prepared model computes in FP32; in nothing but that where `alone`.

    Raises:
        ModelError: It computes in a half precision already, or in no FP32 at all.
    """
    dtypes = _compute_types(model)
    if dtypes and (ir.DataType.FLOAT not in dtypes or (alone and dtypes & _HALF.keys())):
        raise _other_precision(model, dtypes)


def half_precision(model: Model) -> str | None:
    """Return the half precision that a model computes in, `fp16` or `bf16`; None where in none."""
    dtypes = _compute_types(model)
    return next((name for dtype, name in _HALF.items() if dtype in dtypes), None)


def _nothing_to_quantize(model: Model, how: str, floats: Sequence[FloatNode]) -> ModelError:
    """Return the error that says so; a model in another precision needs another export."""
    dtypes = _compute_types(model)
    if dtypes - {ir.DataType.FLOAT}:
        return _other_precision(model, dtypes)
    nothing = f"{model.path} has no Conv, Gemm or MatMul that {how}"
    if any(node.op_type in COMPUTE for node in subgraph_nodes(model.ir)):
        nothing += f" {OUTSIDE_SUBGRAPHS}; export it without"
    elif optimized := [n.op_type for n in model.ir.graph if n.domain.startswith(_ONNX_RUNTIME)]:
        nothing += (
            f": {optimized[0]} is an operator that ONNX Runtime's optimizer writes; give the file "
            "as it was before"
        )
    elif known := [node for node in floats if node.op_type in COMPUTE]:
        nothing += f": {known[0].name} ({known[0].op_type}) {known[0].reason}"
    return ModelError(nothing)


def _compute_types(model: Model) -> set[ir.DataType]:
    compute = [node for node in model.ir.graph if node.op_type in COMPUTE]
    return {v.dtype for node in compute for v in node.inputs[:2] if v is not None and v.dtype}


def _other_precision(model: Model, dtypes: set[ir.DataType]) -> ModelError:
    others = sorted(dtype.name.lower() for dtype in dtypes - {ir.DataType.FLOAT})
    return ModelError(
        f"{model.path} computes in {' and '.join(others)}; export it in float32 to quantize it"
    )
