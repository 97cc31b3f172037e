"""Forms of known operators that TensorRT does not build; tried on TensorRT for RTX 1.7."""

from collections.abc import Iterator

import onnx_ir as ir

from qbench.model.graph import constant, integer
from qbench.quantization.linting.finding import ERROR, Place, Rule

_ONE_OUTPUT = frozenset({"LayerNormalization", "MaxPool"})
_SCATTERS = frozenset({"ScatterElements", "ScatterND"})
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
_MOST_SPATIAL = 3
_MOST_TOP = 3840


def _extra_outputs(graph: ir.Graph) -> Iterator[Place]:
    for node in graph.all_nodes():
        if node.op_type in _ONE_OUTPUT and len(node.outputs) > 1:
            reason = f"TensorRT gives only the first output of {node.op_type}"
            yield Place(node, node.outputs[1], reason)


def _reductions(graph: ir.Graph) -> Iterator[Place]:
    for node in graph.all_nodes():
        attribute = node.attributes.get("reduction") if node.op_type in _SCATTERS else None
        if attribute is not None and attribute.as_string() != "none":
            reason = f"TensorRT for RTX has no {node.op_type} with {attribute.as_string()!r}"
            yield Place(node, None, reason)


def _training(graph: ir.Graph) -> Iterator[Place]:
    for node in graph.all_nodes():
        if node.op_type == "BatchNormalization" and integer(node, "training_mode", 0):
            yield Place(node, None, "it is in training mode")


def _norms(graph: ir.Graph) -> Iterator[Place]:
    for node in graph.all_nodes():
        if node.op_type == "LpPool" and (p := integer(node, "p", 2)) not in {1, 2}:
            yield Place(node, None, f"TensorRT has LpPool with p of 1 or 2, not {p}")


def _large_top(graph: ir.Graph) -> Iterator[Place]:
    for node in graph.all_nodes():
        count = constant(node.inputs[1]) if node.op_type == "TopK" else None
        if count is not None and count.max(initial=0) > _MOST_TOP:
            yield Place(
                node, node.inputs[1], f"TopK gives {_MOST_TOP} at most, not {int(count.max())}"
            )


def _spatial_ranks(graph: ir.Graph) -> Iterator[Place]:
    for node in graph.all_nodes():
        source = node.inputs[0] if node.op_type in _CONVOLUTIONS else None
        if source is not None and source.shape is not None:
            rank = len(source.shape) - 2
            if rank > _MOST_SPATIAL:
                reason = f"it convolves over {rank} dimensions, and {_MOST_SPATIAL} are the most"
                yield Place(node, source, reason)


RULES = (
    Rule("extra-output", ERROR, _extra_outputs, "compute what the other outputs give otherwise"),
    Rule("reduction", ERROR, _reductions, "use reduction 'none', or --backend tensorrt"),
    Rule("training", ERROR, _training, "export the model in evaluation mode"),
    Rule("norm", ERROR, _norms, "write it as Pow, AveragePool and Pow"),
    Rule("large-top", ERROR, _large_top, f"take {_MOST_TOP} or fewer"),
    Rule("spatial-rank", ERROR, _spatial_ranks, "fold a dimension into the batch"),
)
