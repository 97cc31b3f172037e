"""Hand graphs to ONNX's own passes, which are written in C++, without their weights."""

from collections.abc import Callable
from copy import copy

import numpy as np
import onnx
import onnx_ir as ir

from qbench.model.graph import standing_in

_SMALL = 1 << 8
"""Constants of this many elements are always shown: shapes and axes decide what a pass does."""


def through_onnx(model: ir.Model, change: Callable[[onnx.ModelProto], onnx.ModelProto]) -> ir.Model:
    """Return what `change` makes of `model`, which stays as it is.

    Weights are neither read nor copied: `change` sees those above 256 elements as external data of
    files that do not exist, and the result holds the tensors of `model`. Smaller ones are read.
    """
    weights: dict[str, ir.TensorProtocol] = {}
    shown: dict[ir.Value, ir.TensorProtocol] = {}
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is None:
                continue
            if tensor.size > _SMALL and tensor.dtype != ir.DataType.STRING:
                shown[value] = _placeholder(tensor, f"{len(weights)}")
                weights[f"{len(weights)}"] = tensor
            elif isinstance(tensor, ir.ExternalTensor):
                shown[value] = _read(tensor)
    with standing_in(shown):
        proto = ir.to_proto(model)
    changed = ir.from_proto(change(proto))
    for graph in changed.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = weights[str(value.const_value.location)]
    return changed


def _read(tensor: ir.ExternalTensor) -> ir.TensorProtocol:
    array = np.array(copy(tensor).numpy())  # `tensor` itself would keep its file mapped
    return ir.Tensor(array, dtype=tensor.dtype, name=tensor.name)


def _placeholder(tensor: ir.TensorProtocol, key: str) -> ir.ExternalTensor:
    """Return a tensor of the same type and shape whose data is in no file."""
    return ir.ExternalTensor(
        key,
        offset=0,
        length=tensor.nbytes,
        dtype=tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=tensor.name or "",
    )
