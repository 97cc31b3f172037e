"""Graphs that compute chosen tensors, whole or in parts that run one after the other."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import onnx_ir as ir
from onnx_ir.passes import common

from qbench.errors import CalibrationError
from qbench.model.graph import subgraph_nodes, values_by_name

_MOST_PARTS = 16

_FEWEST_ELEMENTS = 1 << 20
"""Of the tensors that a part is asked for: with fewer, its call costs more than it spares."""

_NEVER = 1 << 62
"""Elements that stand for what cannot be handed from part to part."""


@dataclass(frozen=True)
class Part:
    """A part of a model.

    Attributes:
        model: Its inputs are inputs of the whole and outputs of parts before, by their names.
        asked: The tensors that were asked for among its inputs and outputs.
    """

    model: ir.Model
    asked: tuple[str, ...]


def with_outputs(model: ir.Model, tensors: Iterable[str]) -> ir.Model:
    """Return a copy of `model` that computes `tensors` and nothing else.

    Raises:
        CalibrationError: A tensor is not in the graph.
    """
    copy = model.clone()
    values = values_by_name(copy.graph)
    missing = [name for name in tensors if name not in values]
    if missing:
        raise CalibrationError(
            f"tensor {missing[0]!r} is not in the graph; prepare the model first"
        )
    copy.graph.outputs[:] = [values[name] for name in tensors]
    return common.RemoveUnusedNodesPass()(copy).model


def in_parts(model: ir.Model, tensors: Iterable[str], sizes: Mapping[str, int]) -> list[Part]:
    """Return parts that together compute `tensors`, each about as many of their elements.

    They are cut where as little as possible passes that is not asked for anyway. Models that
    compute in branches or loops are one part. The last bits of a tensor may depend on where the
    cuts are, since ONNX Runtime optimizes the nodes of a part together.

    Args:
        model: A prepared model.
        tensors: Names of tensors that inputs or nodes hold.
        sizes: Elements of one sample's tensors by name, as far as they are known; see
            `elements_by_name`. Without any, there is one part.

    Raises:
        CalibrationError: A tensor is not in the graph.
    """
    asked = dict.fromkeys(tensors)
    whole = with_outputs(model, asked)
    nodes = list(whole.graph)
    ends = [] if any(subgraph_nodes(whole)) else _ends(nodes, sizes, asked)
    if not ends:
        return [Part(whole, tuple(asked))]
    bounds = pairwise([0, *(end + 1 for end in ends), len(nodes)])
    first, *others = (_part(whole, nodes[start:end], asked) for start, end in bounds)
    inputs = tuple(name for name in _names(whole.graph.inputs) if name in asked)
    return [replace(first, asked=(*inputs, *first.asked)), *others]


def _ends(nodes: Sequence[ir.Node], sizes: Mapping[str, int], asked: Container[str]) -> list[int]:
    """Return the indices of the nodes behind which to cut."""
    own = ((name for name in _names(node.outputs) if name in asked) for node in nodes)
    held = list(accumulate(sum(sizes.get(name, 0) for name in names) for names in own))
    count = min(_MOST_PARTS, held[-1] // _FEWEST_ELEMENTS) if held else 0
    passing = _passing(nodes, sizes, asked)
    ends = []
    for part in range(1, count):
        middle, around = part * held[-1] / count, held[-1] / count / 2
        distances = ((abs(size - middle), at) for at, size in enumerate(held[:-1]))
        near = ((passing[at], distance, at) for distance, at in distances if distance < around)
        lost, _, best = min(near, default=(_NEVER, 0, 0))
        if lost < _NEVER:
            ends.append(best)
    return ends


def _passing(
    nodes: Sequence[ir.Node], sizes: Mapping[str, int], asked: Container[str]
) -> list[int]:
    """Return how many elements that are not asked for pass behind each node to others."""
    index = {node: at for at, node in enumerate(nodes)}
    changes = [0] * len(nodes)
    for at, node in enumerate(nodes):
        for value in node.outputs:
            name = value.name or ""
            size = 0 if name in asked else sizes.get(name, 0)
            size = size if isinstance(value.type, ir.TensorType) else _NEVER
            last = max((index[usage.node] for usage in value.uses()), default=at)
            changes[at] += size
            changes[last] -= size
    return list(accumulate(changes))


def _part(whole: ir.Model, nodes: Sequence[ir.Node], asked: Container[str]) -> Part:
    """Return the part of some nodes of a graph, all of which something outside needs."""
    own = set(nodes)
    written = [value for node in nodes for value in node.outputs]
    read = dict.fromkeys(value for node in nodes for value in node.inputs if value is not None)
    entering = [v for v in read if not v.is_initializer() and v.producer() not in own]
    leaving = [v for v in written if v.name in asked or any(u.node not in own for u in v.uses())]
    graph = ir.convenience.extract(whole.graph, entering, leaving)
    for inner, outer in zip(graph.inputs, entering, strict=True):
        if outer.producer() is not None and inner.shape is not None:
            # Of a file's own shapes that do not hold, ONNX Runtime only warns within a graph.
            inner.shape = ir.Shape([None] * len(inner.shape))
    own_asked = tuple(name for name in _names(leaving) if name in asked)
    return Part(ir.Model(graph, ir_version=whole.ir_version), own_asked)


def _names(values: Iterable[ir.Value]) -> list[str]:
    return [value.name or "" for value in values]
