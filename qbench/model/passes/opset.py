"""Raise the opset to what a precision needs."""

import re
from functools import partial

import onnx
import onnx_ir as ir

from qbench.errors import ModelError
from qbench.model.passes.infer_shapes import infer_shapes
from qbench.model.through_onnx import through_onnx

MINIMUM_OPSET = 13
"""First opset whose DequantizeLinear takes one scale per channel."""

_MINIMUM_IR_VERSION = 8

_REFUSALS = (
    RuntimeError,
    ValueError,
    onnx.shape_inference.InferenceError,
    onnx.version_converter.ConvertError,
)

_SOURCE = re.compile(r"^\S+:\d+: .*? failed: ")
"""Where in the converter's own source a check failed."""


def raise_opset(model: ir.Model, minimum: int) -> ir.Model:
    """Return `model` with its default-domain opset at `minimum` or above.

    Weights stay where they are, in memory or in external data.

    Raises:
        ModelError: ONNX's version converter refuses the graph.
    """
    version = model.graph.opset_imports.get("")
    if version is None:  # all nodes are of other domains
        model = model.clone()
        model.graph.opset_imports[""] = version = minimum
    if version >= minimum:
        return model
    raised = through_onnx(model, partial(_raised, version=version, minimum=minimum))
    infer_shapes(raised)  # the converter forgets sequences, and says nothing of the nodes it adds
    return raised


def _raised(original: onnx.ModelProto, version: int, minimum: int) -> onnx.ModelProto:
    # Below 4, the converter knows no constants but those that are inputs, too.
    original.ir_version = max(original.ir_version, _MINIMUM_IR_VERSION)
    try:
        proto = onnx.version_converter.convert_version(original, minimum)
    except _REFUSALS as error:
        reason = _reason(error)
        raise ModelError(
            f"opset {version} cannot be raised to {minimum} "
            f"({_culprit(original, minimum, reason)}{reason}); "
            f"export the model again with opset {minimum} or later"
        ) from error
    needed = onnx.helper.find_min_ir_version_for(list(proto.opset_import), ignore_unknown=True)
    proto.ir_version = max(original.ir_version, needed)
    return proto


def _reason(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return _SOURCE.sub("", text.splitlines()[0])


def _culprit(model: onnx.ModelProto, minimum: int, reason: str) -> str:
    """Return the node that is refused for `reason` by itself, which the converter does not name."""
    for node in model.graph.node:
        try:
            onnx.version_converter.convert_version(_alone(model, node), minimum)
        except _REFUSALS as error:
            if _reason(error) == reason:
                return f"node {node.name!r}, {node.op_type}: "
    return ""


def _alone(model: onnx.ModelProto, node: onnx.NodeProto) -> onnx.ModelProto:
    """Return a model of one node, which reads constants as inputs."""
    graph, helper = model.graph, onnx.helper
    infos = {info.name: info for info in (*graph.input, *graph.value_info)}
    for constant in graph.initializer:
        info = helper.make_tensor_value_info(constant.name, constant.data_type, constant.dims)
        infos[constant.name] = info
    inputs = [infos.get(name, onnx.ValueInfoProto(name=name)) for name in node.input if name]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    alone = helper.make_graph([node], "alone", inputs, outputs)
    return helper.make_model(alone, opset_imports=model.opset_import, ir_version=model.ir_version)
