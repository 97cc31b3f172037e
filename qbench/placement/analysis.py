"""Questions about a graph that the placement rules of several targets ask."""

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import onnx_ir as ir
from numpy.typing import NDArray

from qbench.errors import UsageError
from qbench.model.graph import constant, is_constant, only_user

COMPUTE = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
"""Operators that multiply and accumulate; quantization pays here."""

DATA_MOVEMENT = {
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "MaxPool",
    "Reshape",
    "Slice",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
}
"""Operators whose output values are a subset of their first input's."""

_GATES = {"Erf", "Tanh"}


def is_float(value: ir.Value | None) -> bool:
    """Return whether `value` is a float32 tensor that the graph computes."""
    return value is not None and value.dtype == ir.DataType.FLOAT and not is_constant(value)


def weight_array_rank(node: ir.Node) -> int | None:
    """Return the rank of a compute node's constant float weight, or None where it has none."""
    if node.op_type not in COMPUTE or len(node.inputs) < 2:
        return None
    weight = node.inputs[1]
    if weight is None or not is_constant(weight) or weight.dtype != ir.DataType.FLOAT:
        return None
    return len(weight.shape) if weight.shape is not None else None


def weight_axis(node: ir.Node) -> int | None:
    """Return the output-channel axis of a compute node's constant weight.

    0 for Conv [M, C/g, ...], 1 for ConvTranspose [C, M/g, ...]; for Gemm [K, N] it is 1, or 0 when
    transposed; for MatMul [K, N] the last. None where one scale must do: grouped ConvTranspose, a
    vector.
    """
    rank = weight_array_rank(node)
    if rank is None or rank < 2:
        return None
    match node.op_type:
        case "Conv":
            return 0
        case "ConvTranspose":
            group = node.attributes.get("group")
            return 1 if group is None or group.as_int() == 1 else None
        case "Gemm":
            transposed = node.attributes.get("transB")
            return 0 if transposed is not None and transposed.as_int() else 1
        case _:
            return rank - 1


class BiasPlace(NamedTuple):
    """Where the bias of a compute node stands.

    Attributes:
        node: What adds it: the node itself, or the Add behind a MatMul.
        position: Among the inputs of `node`.
        array: A value for each output channel; None where there is no bias yet.
    """

    node: ir.Node
    position: int
    array: NDArray[Any] | None


def bias_place(node: ir.Node) -> BiasPlace | None:
    """Return the bias of a compute node with constant weights in a prepared graph.

    A Conv or Gemm may have none yet. A MatMul's is the vector that an Add behind it adds. None
    where nothing of the kind follows, or where the bias is computed.
    """
    weight = constant(node.inputs[1])
    if weight is None:
        return None
    if node.op_type != "MatMul":
        value = node.inputs[2] if len(node.inputs) > 2 else None
        bias = constant(value)
        return BiasPlace(node, 2, bias) if value is None or bias is not None else None
    product, adder = node.outputs[0], only_user(node.outputs[0])
    if adder is None or adder.op_type != "Add":
        return None
    position = 1 - adder.inputs.index(product)
    bias = constant(adder.inputs[position])
    if bias is None or bias.shape[-1:] != weight.shape[-1:] or bias.size != weight.shape[-1]:
        return None
    return BiasPlace(adder, position, bias)


def is_expectation(node: ir.Node) -> bool:
    """Return whether a constant-weight node averages the output of a Softmax.

    That is how detectors decode a distribution over offsets into a coordinate (distribution focal
    loss). Its few multiplications gain nothing, and eight bits would move every box.
    """
    if weight_array_rank(node) is None:
        return False
    value = node.inputs[0]
    while value is not None and (producer := value.producer()) is not None:
        if producer.op_type == "Softmax":
            return True
        if producer.op_type not in DATA_MOVEMENT - {"MaxPool"}:
            return False
        value = producer.inputs[0]
    return False


def is_gelu_gate(node: ir.Node) -> bool:
    """Return whether a node multiplies by 1 + Erf or 1 + Tanh, as a GELU in parts does.

    Runtimes fuse the parts into one kernel where no Q/DQ stands between them.
    """
    adders = [value.producer() for value in node.inputs if value is not None]
    sums = [adder for adder in adders if adder is not None and adder.op_type == "Add"]
    terms = [term.producer() for adder in sums for term in adder.inputs if term is not None]
    return node.op_type == "Mul" and any(t is not None and t.op_type in _GATES for t in terms)


def compute_nodes(graph: ir.Graph) -> list[ir.Node]:
    """Return the nodes whose multiplications are worth quantizing, in graph order."""
    return [
        node
        for node in graph
        if node.op_type in COMPUTE
        and not node.domain
        and all(is_float(value) or is_constant(value) for value in node.inputs[:2])
        and is_float(node.inputs[0])
        and not is_expectation(node)
    ]


def float_reasons(
    graph: ir.Graph, excluded: set[str], refusal: Callable[[ir.Node], str | None]
) -> dict[ir.Node, str]:
    """Return the nodes of COMPUTE that stay float, with the reason, in graph order.

    Args:
        graph: The graph.
        excluded: Names of nodes that shall stay float.
        refusal: Tells why the target leaves a node float that others may quantize; None if not.
    """
    able = set(compute_nodes(graph))
    reasons: dict[ir.Node, str] = {}
    for node in graph:
        if node.op_type not in COMPUTE:
            continue
        if node.name in excluded:
            reasons[node] = "excluded by name"
        elif is_expectation(node):
            reasons[node] = "decodes a Softmax into coordinates"
        elif node not in able:
            reasons[node] = "its inputs are not float32 activations"
        elif (reason := refusal(node)) is not None:
            reasons[node] = reason
    return reasons


def tail_nodes(graph: ir.Graph, compute: Iterable[ir.Node]) -> set[ir.Node]:
    """Return the nodes after which no node of `compute` comes: decoding, scaling, concatenation.

    They stay float. One scale over boxes, logits and scores would round the small ones to zero, and
    there is little work to save.
    """
    before: set[ir.Node] = set()
    pending = list(compute)
    while pending:
        node = pending.pop()
        for value in node.inputs:
            producer = value.producer() if value is not None else None
            if producer is not None and producer not in before:
                before.add(producer)
                pending.append(producer)
    wanted = set(compute)
    return {node for node in graph if node not in before and node not in wanted}


def channel_axis(value: ir.Value) -> int | None:
    """Return the channel axis of a tensor as those who weigh it see it.

    1 for a convolution, the last for Gemm and MatMul; None where none do, or where they disagree.
    The product of two activations has no weights for its channels, and their number may follow the
    number of tokens.
    """
    uses = [usage for usage in value.uses() if usage.idx == 0]
    readers = {use.node.op_type for use in uses if weight_array_rank(use.node) is not None}
    axes = {1 if reader in {"Conv", "ConvTranspose"} else -1 for reader in readers}
    return axes.pop() if len(axes) == 1 else None


def saturating_reader(value: ir.Value) -> str | None:
    """Return `sigmoid` or `silu` where nothing else reads `value`, else None."""
    readers = {usage.node for usage in value.uses()}
    sigmoids = [node for node in readers if node.op_type == "Sigmoid"]
    if len(sigmoids) != 1 or value.is_graph_output():
        return None
    others = readers - set(sigmoids)
    if not others:
        return "sigmoid"
    gate = sigmoids[0].outputs[0]
    is_silu = all(node.op_type == "Mul" and gate in node.inputs for node in others)
    return "silu" if is_silu and len(others) == 1 else None


def excluded_nodes(graph: ir.Graph, patterns: Sequence[str]) -> set[str]:
    """Return the names of nodes that match any of `patterns` (shell wildcards; case counts).

    Raises:
        UsageError: A pattern matches no node.
    """
    names = [node.name or "" for node in graph]
    found: set[str] = set()
    for pattern in patterns:
        matches = {name for name in names if fnmatchcase(name, pattern)}
        if not matches:
            examples = [node.name for node in graph if node.op_type in COMPUTE] or names
            raise UsageError(
                f"--exclude {pattern!r} matches no node; names look like {examples[0]!r} "
                f"or {examples[-1]!r}"
            )
        found |= matches
    return found
