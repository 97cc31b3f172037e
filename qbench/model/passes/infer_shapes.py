"""Infer the types and shapes of all tensors."""

import logging
import re
from collections.abc import Mapping
from math import prod

import onnx
import onnx_ir as ir
from onnx.shape_inference import InferenceError

from qbench.model.graph import constant, static_shape
from qbench.model.ort_operators import to_onnx_operators
from qbench.model.through_onnx import through_onnx

logger = logging.getLogger(__name__)

_MADE_UP = re.compile("unk__[0-9]+$")
"""Names that ONNX gives to sizes that do not follow."""

_SMALL = 1 << 8
"""Elements of constants whose values may decide over shapes."""


def _infer(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Infer shapes in `proto`, in which operators of ONNX Runtime's domain become ONNX's."""
    to_onnx_operators(proto.graph)
    return onnx.shape_inference.infer_shapes(proto, data_prop=True)


def infer_shapes(model: ir.Model) -> None:
    """Give each tensor of `model` the type and shape that follow from its inputs, where they do.

    What does not follow stays as it is. Sequences and optionals get types of their own, which
    `onnx_ir`'s pass of this name takes for tensors.
    """
    for value in model.graph.initializers.values():
        if value.shape is None and value.const_value is not None:  # an output without a shape
            value.shape = ir.Shape(value.const_value.shape.numpy())
    _forget_made_up_names(model)
    try:
        inferred = through_onnx(model, _infer)
    except InferenceError as error:
        logger.warning("shapes cannot be inferred: %s", " ".join(str(error).split()))
        return
    for graph, found in zip(model.graphs(), inferred.graphs(), strict=True):
        values = ir.convenience.create_value_mapping(graph)
        for name, value in ir.convenience.create_value_mapping(found).items():
            if name in values:
                values[name].type = value.type or values[name].type
                values[name].shape = values[name].shape if value.shape is None else value.shape


def _forget_made_up_names(model: ir.Model) -> None:
    """Make sizes unknown again whose names another inference made up; they may have real ones now.

    Behind a Pad, say, that has since become a part of a convolution.
    """
    for node in model.graph:
        for output in node.outputs:
            sizes = output.shape or ()
            if any(_MADE_UP.match(str(size)) for size in sizes):
                output.shape = ir.Shape(None if _MADE_UP.match(str(s)) else s for s in sizes)


def infer_outputs(node: ir.Node, opsets: Mapping[str, int]) -> None:
    """Give what one node writes the type and shape that follow from its inputs alone, if static.

    Nothing is asked of nodes with subgraphs, nor of operators that are not ONNX's.
    """
    values = {value.name or "": value for value in node.inputs if value is not None}
    has_subgraph = any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values())
    is_told = all(value.type and value.shape is not None for value in values.values())
    is_known = all(static_shape(output) is not None for output in node.outputs)
    if node.domain or has_subgraph or is_known or not is_told:
        return
    opset = opsets[""]
    constants = {name: _small_constant(value) for name, value in values.items()}
    try:
        found = onnx.shape_inference.infer_node_outputs(
            onnx.defs.get_schema(node.op_type, opset, ""),
            ir.serde.serialize_node(node),
            {name: ir.serde.serialize_value(value).type for name, value in values.items()},
            {name: proto for name, proto in constants.items() if proto is not None},
            opset_imports=[onnx.helper.make_opsetid("", opset)],
        )
    except (InferenceError, onnx.checker.ValidationError, onnx.defs.SchemaError) as error:
        logger.debug("shapes behind %r cannot be inferred: %s", node.name, error)
        return
    for output in node.outputs:
        told = found.get(output.name or "", onnx.TypeProto())
        shape = ir.serde.deserialize_type_proto_for_shape(told)
        if shape is not None and shape.is_static():
            output.type = output.type or ir.serde.deserialize_type_proto_for_type(told)
            output.shape = shape


def _small_constant(value: ir.Value) -> onnx.TensorProto | None:
    shape = static_shape(value)
    if shape is None or prod(shape) > _SMALL or value.dtype == ir.DataType.STRING:
        return None
    array = constant(value)
    return None if array is None else ir.serde.serialize_tensor(ir.Tensor(array, dtype=value.dtype))
