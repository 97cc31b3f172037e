"""Where ONNX Runtime's CPU provider wants Q/DQ: uint8 with a zero-point, on both sides of a node.

Its fusion replaces ``DQ -> op -> Q`` by one integer kernel, so a node whose output has no Q runs in
float. Relu and Clip vanish into the Q of a convolution, since their zero is the lowest code. Pure
data movement runs on integers where input and output share one scale.

Elementwise operators run on integers wherever an integer node reads what they write. Between two
integer nodes, SiLU as QLinearSigmoid and QLinearMul takes 0.42 ns an element, and 0.57 in float
between DQ and Q (ONNX Runtime 1.31, two cores with VNNI), since each reader gets a DQ of its own,
which also keeps the runtime from fusing SiLU. Whether integer nodes pay at all is asked in `cut`.
Where float nodes alone read the result, speed does not change and the float operator rounds less.

Of MatMul and Add the runtime makes one Gemm before it looks for Q/DQ, and a Gemm with a float bias
runs in float. So the biases of both are planned as int32: a vision transformer of width 192 is 2.0
times as fast as FP32 with them, and 0.87 times without. A Gemm whose Relu or Clip has no Q behind
it runs in float as well, so it gets one, as a convolution does.
"""

from collections.abc import Set
from dataclasses import dataclass, field

import onnx_ir as ir

from qbench.model.graph import only_user
from qbench.placement.analysis import (
    COMPUTE,
    DATA_MOVEMENT,
    bias_place,
    compute_nodes,
    float_reasons,
    is_float,
    is_gelu_gate,
    tail_nodes,
    weight_array_rank,
    weight_axis,
)
from qbench.placement.float_residuals import float_residuals
from qbench.placement.plan import Activation, Bias, FloatNode, Plan, Reader, Weight

ELEMENTWISE = {
    "Add",
    "AveragePool",
    "Concat",
    "GlobalAveragePool",
    "LeakyRelu",
    "Mul",
    "Sigmoid",
}
"""Other operators with integer kernels."""

NEED_OUTPUT = {"Conv"} | ELEMENTWISE
"""Operators whose integer kernel writes integers; those of MatMul and Gemm may write floats."""

MOVES = DATA_MOVEMENT | {"Resize", "Split"}
"""Operators that run on integers where input and output share one scale; see `moves`."""

_ABSORBED = {"Relu", "Clip"}
_NO_KERNEL = {"ConvTranspose"}


@dataclass
class _Mark:
    scale_from: str
    readers: list[Reader] = field(default_factory=list)
    feeds_output: bool = False


def place(graph: ir.Graph, excluded: set[str]) -> Plan:
    """Return the plan for the prepared `graph`; nodes named in `excluded` stay float."""
    tail = tail_nodes(graph, compute_nodes(graph))
    floats = float_reasons(graph, excluded, lambda node: _refusal(node, tail))
    products, adds = float_residuals(graph)
    able = {node for node in graph if _runs_on_integers(node, tail, excluded, floats)} - adds
    integer = _without_float_readers(graph, able)
    marks = _marks(graph, integer, tail, products)
    weights = [weight for node in integer if node.op_type in COMPUTE for weight in _weight(node)]
    return Plan(
        target="cpu",
        symmetric=False,
        activations=tuple(
            Activation(value.name or "", mark.scale_from, tuple(mark.readers), mark.feeds_output)
            for value, mark in marks.items()
        ),
        weights=tuple(weights),
        quantized=tuple(node.name or "" for node in integer),
        floats=tuple(FloatNode(n.name or "", n.op_type, why) for n, why in floats.items()),
        biases=tuple(bias for node in integer for bias in _bias(node, marks)),
        products=tuple(node.name or "" for node in integer if node in products),
    )


def _refusal(node: ir.Node, tail: set[ir.Node]) -> str | None:
    if node.op_type in _NO_KERNEL:
        return f"ONNX Runtime has no integer {node.op_type}"
    if _needs_output(node) and _ends_in_tail(final_output(node), tail):
        return "feeds the model's output, which its integer kernel would round to 8 bits"
    return None


def _runs_on_integers(
    node: ir.Node, tail: set[ir.Node], excluded: set[str], floats: dict[ir.Node, str]
) -> bool:
    if node.domain or node.name in excluded or node in floats:
        return False
    if node.op_type in COMPUTE:
        return True
    if node.op_type not in ELEMENTWISE or node in tail or is_gelu_gate(node):
        return False
    return all(is_float(value) for value in node.inputs)


def _without_float_readers(graph: ir.Graph, able: set[ir.Node]) -> list[ir.Node]:
    """Return the nodes of `able` but elementwise ones that only float nodes read, in graph order.

    What reads them through data movement counts, too.
    """
    kept: list[ir.Node] = []
    wanted: set[ir.Value | None] = set()
    for node in reversed(graph):
        if node in able and (node.op_type in COMPUTE or final_output(node) in wanted):
            kept.append(node)
            wanted.update(node.inputs)
        elif moves(node) and not wanted.isdisjoint(node.outputs):
            wanted.add(node.inputs[0])
    return kept[::-1]


def moves(node: ir.Node) -> bool:
    """Return whether the values that a node writes lie within those that it reads."""
    return node.op_type in MOVES and not overshoots(node)


def overshoots(node: ir.Node) -> bool:
    """Return whether a node is a cubic Resize: behind a ReLU, it writes negative values, too."""
    mode = node.attributes.get("mode")
    return node.op_type == "Resize" and mode is not None and mode.as_string() == "cubic"


def _needs_output(node: ir.Node) -> bool:
    """Return whether a node runs in float without a Q behind it, as a Gemm does before a Relu."""
    is_linear = node.op_type in {"Gemm", "MatMul"} and bias_place(node) is not None
    return node.op_type in NEED_OUTPUT or (is_linear and final_output(node) is not node.outputs[0])


def final_output(node: ir.Node) -> ir.Value:
    """Return the tensor that a node's integer kernel writes, past an absorbed activation.

    Past the Add of a bias, too, where an activation follows: ONNX Runtime makes one Gemm of both.
    """
    place = bias_place(node) if node.op_type == "MatMul" else None
    total = node if place is None else place.node
    user = only_user(total.outputs[0])
    if user is not None and user.op_type in _ABSORBED:
        return user.outputs[0]
    return node.outputs[0]


def _ends_in_tail(value: ir.Value, tail: set[ir.Node]) -> bool:
    return all(usage.node in tail for usage in value.uses())


def _marks(
    graph: ir.Graph, integer: list[ir.Node], tail: set[ir.Node], products: Set[ir.Node]
) -> dict[ir.Value, _Mark]:
    """Return what to quantize: inputs and outputs of integer nodes, and what moves those.

    What the `products` write stays float.
    """
    marks: dict[ir.Value, _Mark] = {}
    chosen = set(integer)
    for node in graph:
        if node in chosen:
            for index, value in enumerate(node.inputs):
                if is_float(value) and value is not None:
                    _mark_reader(marks, value, Reader(node.name or "", index))
            if _needs_output(node) and node not in products:
                output = final_output(node)
                marks[output] = _all_readers(output, output.name or "")
        elif moves(node) and node not in tail and node.inputs[0] in marks:
            source = marks[node.inputs[0]]
            for output in node.outputs:
                if is_float(output):
                    marks[output] = _all_readers(output, source.scale_from)
    return marks


def _mark_reader(marks: dict[ir.Value, _Mark], value: ir.Value, reader: Reader) -> None:
    mark = marks.setdefault(value, _Mark(value.name or ""))
    if reader not in mark.readers:
        mark.readers.append(reader)


def _all_readers(value: ir.Value, scale_from: str) -> _Mark:
    readers = [Reader(usage.node.name or "", usage.idx) for usage in value.uses()]
    return _Mark(scale_from, readers, value.is_graph_output())


def _weight(node: ir.Node) -> list[Weight]:
    """Return the weight of a node: QLinearMatMul takes one scale for a stack of matrices."""
    value, rank = node.inputs[1], weight_array_rank(node)
    if value is None or rank is None:
        return []
    axis = None if node.op_type == "MatMul" and rank > 2 else weight_axis(node)
    return [Weight(value.name or "", Reader(node.name or "", 1), axis)]


def _bias(node: ir.Node, marks: dict[ir.Value, _Mark]) -> list[Bias]:
    """Return the bias of a Gemm or MatMul: unlike QLinearConv, QGemm takes no float bias.

    ONNX Runtime makes one Gemm of a MatMul and an Add of [N] behind it before it looks for Q/DQ.
    """
    place = bias_place(node) if node.op_type in {"Gemm", "MatMul"} else None
    if place is None or (place.array is not None and place.array.ndim != 1):
        return []
    data, weights = node.inputs[0], _weight(node)
    if data is None or weights[0].axis is None:
        return []
    reader = Reader(place.node.name or "", place.position)
    bias = None if place.array is None else place.node.inputs[place.position]
    name = f"{reader.node}_bias" if bias is None else bias.name
    return [Bias(name or "", reader, marks[data].scale_from, weights[0])]
