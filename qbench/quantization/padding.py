"""Let offsets reach images: zeros around them are added in front of the first convolutions.

An offset (see `offsets`) makes another value of the zeros that a convolution adds around its input.
So they are added before it, by a Pad. In front of first convolutions TensorRT for RTX computes
padding, offset and Q in one kernel, which Q needs there anyway; elsewhere a Pad would come between
kernels that are one. An image of 0 to 1 or 0 to 255 then has a code for each of its 256 levels,
where there was one for two of them.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from qbench.model.graph import (
    RECURRENT,
    add_initializer,
    ints,
    names_in,
    place_after,
    unused_name,
    values_by_name,
)
from qbench.placement.analysis import COMPUTE
from qbench.placement.plan import Plan


def padded_name(tensor: str) -> str:
    """Return the name that `tensor` has behind its padding; a number may follow."""
    return f"{tensor}_padded"


def pad_in_front(
    model: ir.Model, plan: Plan, wants_offset: Callable[[str], bool]
) -> tuple[ir.Model, frozenset[str]]:
    """Return a model that computes the same with padding in front, and the names of padded tensors.

    Args:
        model: The prepared float graph.
        plan: What is quantized in it.
        wants_offset: Whether an offset would make the steps of a tensor, by its name, smaller.
    """
    copy = model.clone()
    values = values_by_name(copy.graph)
    quantized = {weight.reader.node for weight in plan.weights}
    padded = set()
    for activation in plan.activations:
        value = values[activation.tensor]
        nodes = _first_convolutions(value, quantized)
        if nodes and wants_offset(activation.tensor):
            padded.add(_pad(copy.graph, value, nodes))
    return copy, frozenset(padded)


def _is_computed(value: ir.Value) -> bool:
    """Return whether something multiplied and accumulated on the way to `value`."""
    pending, seen = [value], {value}
    while pending:
        producer = pending.pop().producer()
        if producer is None:
            continue
        if producer.op_type in COMPUTE | RECURRENT:
            return True
        sources = {source for source in producer.inputs if source is not None} - seen
        seen |= sources
        pending += sources
    return False


def _first_convolutions(value: ir.Value, quantized: set[str]) -> list[ir.Node]:
    """Return the quantized nodes that read what may be an image.

    None where one of them is no convolution, or where they pad differently or not at all.
    """
    nodes = [use.node for use in value.uses() if use.node.name in quantized]
    paddings = {tuple(ints(node, "pads", [])) for node in nodes}
    is_alike = len(paddings) == 1 and any(next(iter(paddings)))
    is_plain = all(node.op_type == "Conv" and node.inputs[0] is value for node in nodes)
    return nodes if is_alike and is_plain and not _is_computed(value) else []


def _pad(graph: ir.Graph, value: ir.Value, nodes: list[ir.Node]) -> str:
    """Move the padding of `nodes` into a Pad; return the name of what they read now."""
    pads = ints(nodes[0], "pads", [])
    axes, taken = len(pads) // 2, names_in(graph)
    name = unused_name(padded_name(value.name or ""), taken)
    amounts = np.array([0, 0, *pads[:axes], 0, 0, *pads[axes:]], np.int64)
    output = ir.val(name, ir.DataType.FLOAT)
    inputs = [value, add_initializer(graph, unused_name(f"{name}_by", taken), amounts)]
    place_after(graph, value, [ir.node("Pad", inputs, name=name, outputs=[output])])
    for node in nodes:
        node.replace_input_with(0, output)
        del node.attributes["pads"]
    return name
