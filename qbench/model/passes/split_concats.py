"""Let convolutions add up the parts of a Concat instead of reading them stacked.

CSP blocks (YOLOv5 to YOLOX), and necks that bring levels together, stack tensors for a convolution.
ONNX Runtime's CPU kernel of Conv adds to what is there already, so that it can go over one part
after the other, and copying the parts falls away: YOLOX-nano takes 0.96 of its time.
"""

from typing import NamedTuple

import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass

from qbench.model.graph import (
    add_initializer,
    constant,
    drop_unused_initializers,
    integer,
    is_constant,
    static_shape,
)

_IMAGE_RANK = 4
"""ONNX Runtime computes in blocks of channels over images alone."""

_BLOCK = 16
"""Most channels of a block; parts of other sizes would be put in order first."""


class _Stack(NamedTuple):
    """A Concat that convolutions alone read.

    Attributes:
        concat: The Concat.
        sizes: Channels of its inputs.
        readers: The convolutions.
    """

    concat: ir.Node
    sizes: list[int]
    readers: list[ir.Node]


def split_concats(model: ir.Model) -> tuple[str, ...]:
    """Split convolutions that read a Concat; return their names.

    ``conv(concat(x, y); w) = conv(x; w[:, :c]) + conv(y; w[:, c:])``, up to the order of the sums.
    Each further part costs reading and writing all outputs once more, and the Concat the same for
    its channels; so only what has no more of the former is split.

    Postcondition: a Concat of images by whole blocks of channels that only ungrouped Conv of
    constant weights read has fewer channels than these would write once more.
    """
    stacks = [stack for node in model.graph if (stack := _stack_of(node)) is not None]
    for stack in stacks:
        for conv in stack.readers:
            _split(model.graph, conv, stack)
        model.graph.remove(stack.concat, safe=True)
    if stacks:
        drop_unused_initializers(model.graph)
        NameFixPass()(model)
    return tuple(conv.name or "" for stack in stacks for conv in stack.readers)


def _stack_of(node: ir.Node) -> _Stack | None:
    if node.domain or node.op_type != "Concat" or node.outputs[0].is_graph_output():
        return None
    if integer(node, "axis", 0) not in {1, 1 - _IMAGE_RANK}:
        return None
    readers = [usage.node for usage in node.outputs[0].uses()]
    if not readers or not all(_adds_up(conv, node) for conv in readers):
        return None
    sizes = [_channels(value) for value in node.inputs]
    outputs = sum(_outputs(conv) for conv in readers)
    is_in_blocks = all(size and size % _BLOCK == 0 for size in sizes)
    pays = (len(sizes) - 1) * outputs <= sum(sizes)
    return _Stack(node, sizes, readers) if is_in_blocks and pays else None


def _adds_up(conv: ir.Node, concat: ir.Node) -> bool:
    """Return whether a reader of a Concat is a convolution that can be split by its parts."""
    if conv.domain or conv.op_type != "Conv" or conv.graph is not concat.graph:
        return False
    shape = static_shape(conv.inputs[1])
    is_over_images = shape is not None and len(shape) == _IMAGE_RANK
    return is_over_images and is_constant(conv.inputs[1]) and integer(conv, "group", 1) == 1


def _channels(value: ir.Value | None) -> int:
    """Return the number of channels of a tensor; 0 where it is unknown."""
    size = value.shape[1] if value is not None and value.shape is not None else None
    return size if isinstance(size, int) else 0


def _outputs(conv: ir.Node) -> int:
    shape = static_shape(conv.inputs[1])
    assert shape is not None  # or it would not be split
    return shape[0]


def _split(graph: ir.Graph, conv: ir.Node, stack: _Stack) -> None:
    """Replace a convolution by one for each part of a stack, and their sum."""
    terms = _terms(graph, conv, stack)
    nodes = terms[:1]
    for number, term in enumerate(terms[1:], 1):
        values = [nodes[-1].outputs[0], term.outputs[0]]
        nodes += [term, ir.node("Add", values, name=f"{conv.name}_sum{number}")]
    for node in nodes:
        node.metadata_props.update(conv.metadata_props)
    ir.convenience.replace_nodes_and_values(
        graph, conv, [conv], nodes, conv.outputs, nodes[-1].outputs
    )


def _terms(graph: ir.Graph, conv: ir.Node, stack: _Stack) -> list[ir.Node]:
    """Return a convolution for each part of a stack; the first one adds the bias."""
    weight, bias = constant(conv.inputs[1]), conv.inputs[2:]
    assert weight is not None  # or it would not be split
    terms = []
    for number, part in enumerate(stack.concat.inputs):
        name = f"{conv.name}_part{number}"
        start = sum(stack.sizes[:number])
        own = weight[:, start : start + stack.sizes[number]]
        inputs = [part, add_initializer(graph, f"{name}_weight", own)]
        inputs += [] if number else bias
        terms.append(ir.node("Conv", inputs, conv.attributes, name=name))
    return terms
