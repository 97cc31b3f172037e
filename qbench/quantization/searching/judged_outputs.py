"""What is judged of a model: its outputs, or what it selects them from.

A TopK or NonMaxSuppression at the end of a detector puts boxes in the order of their scores, which
the least noise changes: place by place nothing is alike any more, and INT8 seems to ruin what it
hardly touches. An ArgMax leaves no floats to compare. So of such models, what the selection and all
behind it read of the network is judged.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir
from onnx_ir.passes import common

from qbench.placement.plan import Plan, Reader

_SELECTING = {"TopK", "NonMaxSuppression", "ArgMax", "ArgMin"}

_OF_SIZES = {"Shape", "Size"}
"""What these write depends on no value."""


@dataclass(frozen=True)
class JudgedOutputs:
    """The tensors that are judged.

    Attributes:
        selecting: Names of the nodes that select; without any, the model's outputs are judged.
        own: Names of the model's outputs that no selection has a part in.
        readers: By the name of each other tensor, an input that reads it.
    """

    selecting: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    readers: Mapping[str, Reader] = field(default_factory=dict)

    def of(self, model: ir.Model) -> ir.Model:
        """Return the model itself, or a copy that computes what is judged.

        Args:
            model: The prepared model, or what quantization makes of it.
        """
        if not self.selecting:
            return model
        copy = model.clone()
        nodes = {node.name: node for node in copy.graph}
        outputs = [value for value in copy.graph.outputs if value.name in self.own]
        for tensor, reader in self.readers.items():
            # Under a name of its own: where the reader reads what was rounded, that has another.
            output = ir.val(f"{tensor} (judged)", ir.DataType.FLOAT)
            read = nodes[reader.node].inputs[reader.position]
            copy.graph.append(ir.node("Identity", [read], outputs=[output]))
            outputs.append(output)
        copy.graph.outputs[:] = outputs
        return common.RemoveUnusedNodesPass()(copy).model


def judged_outputs(graph: ir.Graph, plan: Plan) -> JudgedOutputs:
    """Return what to judge of a prepared graph: what it selects from, if it ends by that.

    Where a planned node works on what was selected, as the decoder of an RT-DETR does, these are
    the model's outputs: nothing else tells of that node. So it is where it selects from no floats.
    """
    depending = _depending(graph)
    selecting = [n for n in depending if n.op_type in _SELECTING and _is_written(n, 0, depending)]
    behind = _behind(graph, selecting)
    if {node.name for node in behind} & set(plan.quantized):
        return JudgedOutputs()
    readers: dict[str, Reader] = {}
    for node in behind:
        for position, value in enumerate(node.inputs):
            if value is None or value.dtype != ir.DataType.FLOAT or value.producer() in behind:
                continue
            if _is_written(node, position, depending):
                readers.setdefault(value.name or "", Reader(node.name or "", position))
    if not readers:
        return JudgedOutputs()
    own = [value.name or "" for value in graph.outputs if value.producer() not in behind]
    return JudgedOutputs(tuple(node.name or "" for node in selecting), tuple(own), readers)


def _depending(graph: ir.Graph) -> dict[ir.Node, None]:
    """Return the nodes whose results depend on the values of the model's inputs, in order."""
    found: dict[ir.Node, None] = {}
    for node in graph:
        reads = any(_is_written(node, position, found) for position in range(len(node.inputs)))
        if reads and node.op_type not in _OF_SIZES:
            found[node] = None
    return found


def _is_written(node: ir.Node, position: int, by: Mapping[ir.Node, None]) -> bool:
    """Return whether a node reads there what is an input of the model, or written by some nodes."""
    value = node.inputs[position]
    return value is not None and (value.is_graph_input() or value.producer() in by)


def _behind(graph: ir.Graph, selecting: list[ir.Node]) -> dict[ir.Node, None]:
    """Return the nodes that select and those that read of what they write, in order."""
    found: dict[ir.Node, None] = {}
    for node in graph:
        reads = any(value is not None and value.producer() in found for value in node.inputs)
        if reads or node in selecting:
            found[node] = None
    return found
