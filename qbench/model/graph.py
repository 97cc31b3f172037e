"""Small questions to, and edits of, an `onnx_ir` graph that several stages share."""

from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from itertools import chain, count
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qbench.formatting import counted

RECURRENT = {"LSTM", "GRU", "RNN"}

INTEGER_PREFIXES = (
    "ConvInteger",
    "DynamicQuantizeLSTM",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "QAttention",
    "QGemm",
    "QLinear",
)
"""How the names of operators begin that compute with integers."""


def constant(value: ir.Value | None) -> NDArray[Any] | None:
    """Return the array of a constant value, or None where the value is absent or computed."""
    tensor = _const_tensor(value)
    if isinstance(tensor, ir.ExternalTensor):
        tensor = copy(tensor)  # whose file is mapped no longer than the array lives
    return None if tensor is None else tensor.numpy()


def is_constant(value: ir.Value | None) -> bool:
    """Return whether `value` is known before the model runs; its data are not read."""
    return _const_tensor(value) is not None


def _const_tensor(value: ir.Value | None) -> ir.TensorProtocol | None:
    if value is None or value.is_graph_input():
        return None
    return ir.convenience.get_const_tensor(value)


def add_initializer(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    """Register `array` as a new initializer and return its value.

    Where the graph has an input or initializer called `name` already, a number is added to it.
    """
    name = unused_name(name, graph.initializers, {value.name for value in graph.inputs})
    tensor = ir.Tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
    value = ir.val(name, tensor.dtype, tensor.shape, const_value=tensor)
    graph.register_initializer(value)
    return value


@contextmanager
def standing_in(tensors: Mapping[ir.Value, ir.TensorProtocol]) -> Iterator[None]:
    """Let initializers hold other `tensors` for a while; a copy of the graph would cost more."""
    own = {value: value.const_value for value in tensors}
    try:
        for value, tensor in tensors.items():
            value.const_value = tensor
        yield
    finally:
        for value, before in own.items():
            value.const_value = before


def drop_unused_initializers(graph: ir.Graph) -> None:
    """Remove the initializers that nothing reads."""
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]


def place_after(graph: ir.Graph, value: ir.Value, nodes: Sequence[ir.Node]) -> None:
    """Insert nodes that read `value` behind what writes it, or first of all."""
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], nodes)
    else:
        graph.insert_after(producer, nodes)


def unused_name(name: str, *taken: Container[str | None]) -> str:
    """Return `name`, with the first number that makes it differ from those in `taken`."""
    numbered = (f"{name}_{number}" for number in count(1))
    return next(one for one in chain([name], numbered) if not any(one in names for names in taken))


def values_by_name(graph: ir.Graph) -> dict[str, ir.Value]:
    """Return the inputs of a graph and what its nodes write; constants are not among them."""
    values = chain(graph.inputs, (value for node in graph for value in node.outputs))
    return {value.name or "": value for value in values}


def names_in(graph: ir.Graph) -> set[str | None]:
    """Return the names of all nodes and values of a graph, and of those in its subgraphs."""
    graphs, nodes = (graph, *graph.subgraphs()), list(graph.all_nodes())
    given = (value for one in graphs for value in (*one.inputs, *one.initializers.values()))
    written = (value for node in nodes for value in node.outputs)
    return {value.name for value in (*given, *written)} | {node.name for node in nodes}


def replace_by_constant(graph: ir.Graph, output: ir.Value, array: NDArray[Any]) -> None:
    """Let all users of `output` read a new initializer that holds `array`."""
    name = output.name or "constant"
    output.name = f"{name}_folded_away"
    output.replace_all_uses_with(add_initializer(graph, name, array))


def only_user(value: ir.Value) -> ir.Node | None:
    """Return the one node that reads `value`.

    None where others, the caller or a subgraph read it, too.
    """
    users = {usage.node for usage in value.uses()}
    if len(users) != 1 or value.is_graph_output():
        return None
    user = next(iter(users))
    return user if user.graph is value.graph else None


def ints(node: ir.Node, name: str, default: list[int]) -> list[int]:
    """Return an integer-list attribute."""
    attribute = node.attributes.get(name)
    return default if attribute is None else list(attribute.as_ints())


def integer(node: ir.Node, name: str, default: int) -> int:
    """Return an integer attribute."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def floating(node: ir.Node, name: str, default: float) -> float:
    """Return a float attribute."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_float()


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """Return the shape of `value` where every dimension is known, else None."""
    if value is None or value.shape is None:
        return None
    dims = [dim for dim in value.shape if isinstance(dim, int)]
    return tuple(dims) if len(dims) == len(value.shape) else None


def subgraph_nodes(model: ir.Model) -> Iterator[ir.Node]:
    """Yield the nodes that live inside If, Loop or Scan; they are never quantized."""
    for subgraph in model.graph.subgraphs():
        yield from subgraph


OUTSIDE_SUBGRAPHS = "outside If, Loop and Scan, inside which all stays float"
"""Where there is nothing to quantize in a model that computes inside of them only."""


def subgraph_notes(model: ir.Model) -> tuple[str, ...]:
    """Return a line that says how many nodes stay float inside subgraphs, if there are any."""
    inner = sum(1 for _ in subgraph_nodes(model))
    return (f"kept in float: {counted(inner, 'node')} inside If, Loop or Scan",) if inner else ()


def recurrent_notes(model: ir.Model) -> tuple[str, ...]:
    """Return a line that names the recurrent layers, if any; no target quantizes them."""
    names = [f"{n.name} ({n.op_type})" for n in model.graph if n.op_type in RECURRENT]
    return (f"recurrent layers stay float: {', '.join(names)}",) if names else ()
