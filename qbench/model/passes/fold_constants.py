"""Replace nodes whose result is known by an initializer."""

import logging
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from qbench.model.graph import constant, integer, replace_by_constant, static_shape
from qbench.model.passes.infer_shapes import infer_outputs

logger = logging.getLogger(__name__)

_RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}
_KEEP = {"QuantizeLinear", "DequantizeLinear"} | _RANDOM
_SMALL_BYTES = 1 << 20
_GROWTH = 4
"""What a Cast of 8-bit weights to FP32 makes of their size."""
_UNSIZED = {None, ir.DataType.STRING, ir.DataType.UNDEFINED}


def fold_constants(model: ir.Model, *, infers: bool = False) -> int:
    """Fold nodes with constant inputs, and Shape of a static tensor; return how many.

    Args:
        model: Changed in place.
        infers: Infer the shapes of what other nodes write meanwhile, so that a Shape behind one
            that is folded is folded at once, and not in a further pass.

    Postcondition: no node of the main graph has only constant inputs, except quantization nodes,
    random generators (a Dropout that trains is one), nodes with subgraphs, nodes that make outputs
    of the model, those that ONNX's reference implementation cannot run, and those whose result is
    a sequence, or exceeds both 1 MiB and four times the inputs.
    """
    folded = 0
    for node in list(model.graph):
        results = _evaluate(node, model.graph.opset_imports)
        if results is None:
            if infers:
                infer_outputs(node, model.graph.opset_imports)
            continue
        for output, result in zip(node.outputs, results, strict=True):
            replace_by_constant(model.graph, output, result)
        model.graph.remove(node, safe=True)
        folded += 1
    return folded


def _evaluate(node: ir.Node, opsets: dict[str, int]) -> list[NDArray[Any]] | None:
    """Return the node's outputs when they are known ahead of time and may be stored, else None."""
    if node.domain or _must_stay(node):
        return None
    if node.op_type == "Shape" and node.inputs:
        return _known_shape(node)
    feeds = _constants(node)
    if not feeds:
        return None
    limit = max(_SMALL_BYTES, _GROWTH * sum(array.nbytes for array in feeds.values()))
    if sum(map(_inferred_bytes, node.outputs)) > limit:
        return None
    results = _run(node, opsets, feeds)
    return None if results is None or sum(r.nbytes for r in results) > limit else results


def _must_stay(node: ir.Node) -> bool:
    if node.op_type in _KEEP or any(output.is_graph_output() for output in node.outputs):
        return True
    if node.op_type == "Dropout" and len(node.inputs) > 2 and np.any(constant(node.inputs[2])):
        return True
    return any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values())


def _constants(node: ir.Node) -> dict[str, NDArray[Any]] | None:
    """Return the inputs by name; None where one is computed."""
    arrays = {}
    for value in filter(None, node.inputs):
        array = constant(value)
        if array is None:
            return None
        arrays[value.name or ""] = array
    return arrays


def _inferred_bytes(value: ir.Value) -> float:
    """Return the size of a value; 0 where it is not known ahead of time."""
    shape = static_shape(value)
    if shape is None or value.dtype in _UNSIZED:
        return 0
    assert value.dtype is not None  # which _UNSIZED holds
    return prod(shape) * value.dtype.itemsize


def _run(
    node: ir.Node, opsets: dict[str, int], feeds: dict[str, NDArray[Any]]
) -> list[NDArray[Any]] | None:
    try:
        evaluator = ReferenceEvaluator(ir.serde.serialize_node(node), opsets=opsets)
        with np.errstate(all="ignore"):
            results = evaluator.run(None, feeds)
    # Operators are written in Python, some are missing, and each fails in its own way.
    except Exception as error:  # noqa: BLE001
        logger.debug("%s %r is not folded: %s", node.op_type, node.name, error)
        return None
    if any(isinstance(result, list) for result in results):
        return None  # a sequence is no initializer
    return [np.asarray(result) for result in results]


def _known_shape(node: ir.Node) -> list[NDArray[Any]] | None:
    shape = static_shape(node.inputs[0])
    if shape is None:
        return None
    first, last = integer(node, "start", 0), integer(node, "end", len(shape))
    return [np.array(shape[first:last], np.int64)]
