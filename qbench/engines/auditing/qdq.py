"""Why a Q or DQ node was left in a layer of its own, as far as its neighbours tell."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import onnx_ir as ir

from qbench.model.graph import is_constant
from qbench.quantization.encodings import is_qdq


class Neighbours(NamedTuple):
    """What stands around a Q or DQ node, past other Q and DQ nodes.

    Attributes:
        maker: The node whose output it works on; None for a constant or an input of the model.
        is_constant: Whether it works on a constant.
        readers: The nodes that read what it gives.
        is_output: Whether an output of the model reads it.
    """

    maker: str | None
    is_constant: bool
    readers: tuple[str, ...]
    is_output: bool


def node_name(name: str | None, first_output: str) -> str:
    """Return the name by which TensorRT's parser knows a node, which may have none of its own."""
    return name or f"node_of_{first_output}"


def neighbours_of(graph: ir.Graph) -> dict[str, Neighbours]:
    """Return what stands around each Q and DQ node, by the name that `node_name` gives."""
    return {_name(node): _neighbours(node) for node in graph if is_qdq(node)}


def likely_reason(
    around: Neighbours | None, ops: Mapping[str, str], floats: Mapping[str, str]
) -> str:
    """Say why no other layer took a Q or DQ node in.

    Args:
        around: What stands around it; None where that is unknown.
        ops: Operator of each node, by name.
        floats: Type of each compute node that does not run in a narrow one.
    """
    if around is None:
        return "unknown"
    for reader in around.readers:
        if reader in floats:
            what = "its weights are for" if around.is_constant else "it feeds"
            return f"{what} {reader} ({ops.get(reader)}), which runs in {floats[reader]}"
    if around.is_output:
        return "its values are an output of the model"
    if around.maker is None:
        return "it works on an input of the model, which no layer makes"
    return f"neither {_title(around.maker, ops)} nor what reads it takes it in"


def _neighbours(node: ir.Node) -> Neighbours:
    origin = _origin(node)
    maker = origin.producer() if origin is not None else None
    values = list(_given(node))
    uses = (usage.node for value in values for usage in value.uses())
    readers = dict.fromkeys(_name(user) for user in uses if not is_qdq(user))
    return Neighbours(
        maker=None if maker is None else _name(maker),
        is_constant=is_constant(origin),
        readers=tuple(readers),
        is_output=any(value.is_graph_output() for value in values),
    )


def _origin(node: ir.Node) -> ir.Value | None:
    """Return the tensor that a chain of Q and DQ nodes begins with."""
    value = node.inputs[0]
    producer = value.producer() if value is not None else None
    return _origin(producer) if producer is not None and is_qdq(producer) else value


def _given(node: ir.Node) -> Iterator[ir.Value]:
    """Yield the outputs of a Q or DQ node, and of those behind it."""
    yield node.outputs[0]
    for usage in node.outputs[0].uses():
        if is_qdq(usage.node):
            yield from _given(usage.node)


def _name(node: ir.Node) -> str:
    return node_name(node.name, node.outputs[0].name or "")


def _title(name: str, ops: Mapping[str, str]) -> str:
    return f"{name} ({ops[name]})" if name in ops else name
