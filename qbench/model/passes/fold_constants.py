"""Replace nodes whose result is known by an initializer."""

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from qbench.model.graph import constant, integer, replace_by_constant, static_shape

_RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}
_KEEP = {"QuantizeLinear", "DequantizeLinear"} | _RANDOM
_SIZE_LIMIT_BYTES = 1 << 20
"""A node that would expand a small constant beyond this stays a node."""


def fold_constants(model: ir.Model) -> int:
    """Fold nodes with constant inputs, and Shape of a static tensor; return how many.

    Postcondition: no node of the main graph has only constant inputs, except quantization nodes,
    random generators, nodes with subgraphs and nodes whose result is a sequence or exceeds 1 MiB.
    """
    folded = 0
    for node in list(model.graph):
        results = _evaluate(node, model.graph.opset_imports)
        if results is None or sum(result.nbytes for result in results) > _SIZE_LIMIT_BYTES:
            continue
        for output, result in zip(node.outputs, results, strict=True):
            replace_by_constant(model.graph, output, result)
        model.graph.remove(node, safe=True)
        folded += 1
    return folded


def _evaluate(node: ir.Node, opsets: dict[str, int]) -> list[NDArray[Any]] | None:
    """Return the node's outputs when they are known ahead of time, else None."""
    if node.domain or node.op_type in _KEEP or any(o.is_graph_output() for o in node.outputs):
        return None
    if any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values()):
        return None
    if node.op_type == "Shape" and node.inputs:
        return _known_shape(node)
    feeds = {value.name or "": constant(value) for value in node.inputs if value is not None}
    if not feeds or any(array is None for array in feeds.values()):
        return None
    evaluator = ReferenceEvaluator(ir.serde.serialize_node(node), opsets=opsets)
    results = evaluator.run(None, feeds)
    if any(isinstance(result, list) for result in results):
        return None  # a sequence is no initializer
    return [np.asarray(result) for result in results]


def _known_shape(node: ir.Node) -> list[NDArray[Any]] | None:
    shape = static_shape(node.inputs[0])
    if shape is None:
        return None
    first, last = integer(node, "start", 0), integer(node, "end", len(shape))
    return [np.array(shape[first:last], np.int64)]
