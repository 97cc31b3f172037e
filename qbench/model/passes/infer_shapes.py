"""Infer the types and shapes of all tensors."""

import logging
from functools import partial

import onnx
import onnx_ir as ir
from onnx.shape_inference import InferenceError

from qbench.model.through_onnx import through_onnx

logger = logging.getLogger(__name__)

_infer = partial(onnx.shape_inference.infer_shapes, data_prop=True)


def infer_shapes(model: ir.Model) -> None:
    """Give each tensor of `model` the type and shape that follow from its inputs, where they do.

    What does not follow stays as it is. Sequences and optionals get types of their own, which
    `onnx_ir`'s pass of this name takes for tensors.
    """
    for value in model.graph.initializers.values():
        if value.shape is None and value.const_value is not None:  # an output without a shape
            value.shape = ir.Shape(value.const_value.shape.numpy())
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
