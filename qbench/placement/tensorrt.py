"""Where TensorRT (10, 11 and RTX) wants Q/DQ: int8, symmetric, in front of compute.

TensorRT moves a Q backwards over data movement (Concat, MaxPool, Reshape, ...) into the producer's
epilogue, and it fuses a DQ forwards into the convolution. So one pair stands before every compute
input, shared by all who compute with that tensor, and none between a convolution and its
activation. Biases stay float. A residual Add reads the pair that its skip has anyway: then only
int8 is stored, while a pair of its own would add a rounding and keep the float tensor alive.

TensorRT takes no zero-point, which wastes half of the codes on what Relu and SiLU write. Where all
who compute with a tensor have constant weights and no padding, a constant may be added to it, and
what that adds to their outputs goes into their biases; see `quantization.offsets`.

One pair stands where nobody computes: behind a projection whose output is cut up and transposed, as
that of queries, keys and values in one. Without it the cut is moved in front of the product,
whose weights are then dequantized and cut at run time, and it is computed in float.

Read off the build log of TensorRT for RTX 1.7; it takes every Conv, Gemm and MatMul placed like
this, and the additions become part of the kernel that writes the tensor.
"""

import onnx_ir as ir

from qbench.model.graph import ints, is_constant, only_user
from qbench.placement.analysis import (
    COMPUTE,
    bias_place,
    float_reasons,
    is_float,
    weight_array_rank,
    weight_axis,
)
from qbench.placement.plan import Activation, FloatNode, Plan, Reader, Weight

_FLOAT_ONLY = {"ConvTranspose"}
_PROJECTIONS = {"Gemm", "MatMul"}
_SAME_VALUES = {"Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
_CUTTERS = {"Gather", "Slice", "Split"}


def place(graph: ir.Graph, excluded: set[str]) -> Plan:
    """Return the plan for the prepared `graph`; nodes named in `excluded` stay float."""
    floats = float_reasons(graph, excluded, _refusal)
    compute = [node for node in graph if node.op_type in COMPUTE and node not in floats]
    chosen = set(compute)
    readers: dict[ir.Value, list[Reader]] = {}
    weights = []
    for node in compute:
        weights += _weights(node)
        for position, value in enumerate(node.inputs[:2]):
            if value is not None and is_float(value):
                readers.setdefault(value, []).append(Reader(node.name or "", position))
        if (joint := _cut_up_output(node)) is not None:
            readers[joint] = [Reader(use.node.name or "", use.idx) for use in joint.uses()]
    for node in graph:
        if node.op_type == "Add" and node.name not in excluded:
            _share_pairs(node, readers)
    return Plan(
        target="tensorrt",
        symmetric=True,
        activations=tuple(_activation(value, found, chosen) for value, found in readers.items()),
        weights=tuple(weights),
        quantized=tuple(node.name or "" for node in compute),
        floats=tuple(FloatNode(n.name or "", n.op_type, why) for n, why in floats.items()),
    )


def _activation(value: ir.Value, readers: list[Reader], chosen: set[ir.Node]) -> Activation:
    name = value.name or ""
    computing = [usage for usage in value.uses() if usage.node in chosen]
    takes_offset = all(u.idx == 0 and _makes_up_for_offset(u.node) for u in computing)
    takes_offset &= bool(computing)  # nobody else could make up for it
    return Activation(name, name, tuple(readers), takes_offset=takes_offset)


def _cut_up_output(node: ir.Node) -> ir.Value | None:
    """Return what a projection writes, bias and all, if it is cut up and all parts transposed."""
    if node.op_type not in _PROJECTIONS or weight_array_rank(node) is None:
        return None
    place = bias_place(node)
    written = (node if place is None else place.node).outputs[0]
    value, is_transposed = _carried_on(written)
    cutters = {usage.node for usage in value.uses()}
    parts = [part for cutter in cutters for part in cutter.outputs]
    is_cut = len(parts) > 1 and all(cutter.op_type in _CUTTERS for cutter in cutters)
    is_transposed = is_transposed or all(_carried_on(part)[1] for part in parts)
    return written if is_cut and is_transposed else None


def _carried_on(value: ir.Value) -> tuple[ir.Value, bool]:
    """Return what `value` becomes by moving its data, and whether it is transposed on the way."""
    is_transposed = False
    while (reader := only_user(value)) is not None and reader.op_type in _SAME_VALUES:
        is_transposed |= reader.op_type == "Transpose"
        value = reader.outputs[0]
    return value, is_transposed


def _makes_up_for_offset(node: ir.Node) -> bool:
    """Return whether a constant added to all that a node reads adds one per channel it writes."""
    rank = weight_array_rank(node)
    if rank is None or rank < 2 or bias_place(node) is None:
        return False
    if node.op_type == "Conv":
        auto_pad = node.attributes.get_string("auto_pad", "NOTSET")
        return auto_pad in {"NOTSET", "VALID"} and not any(ints(node, "pads", []))
    return rank == 2


def _weights(node: ir.Node) -> list[Weight]:
    weight = node.inputs[1]
    if not is_constant(weight) or weight is None:
        return []
    return [Weight(weight.name or "", Reader(node.name or "", 1), weight_axis(node))]


def _share_pairs(add: ir.Node, readers: dict[ir.Value, list[Reader]]) -> None:
    """Let a residual Add read the dequantized value of an input that compute nodes read, too."""
    for position, value in enumerate(add.inputs):
        if value in readers:
            readers[value].append(Reader(add.name or "", position))


def _refusal(node: ir.Node) -> str | None:
    is_refused = node.op_type in _FLOAT_ONLY
    return f"TensorRT for RTX has no INT8 {node.op_type}" if is_refused else None
