"""Fuse BatchNormalization into the convolution before it."""

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qbench.model.graph import add_initializer, constant, floating, integer, is_constant, only_user

_DEFAULT_EPSILON = 1e-5


def fuse_batchnorm(model: ir.Model) -> int:
    """Fuse Conv -> BatchNormalization where nothing else reads the Conv; return how many.

    With gamma, beta, mean and variance per output channel, ``s = gamma / sqrt(variance +
    epsilon)``: the weights become ``w * s``, the bias ``(b - mean) * s + beta``. Computed in
    float64.

    Postcondition: no BatchNormalization of constant parameters directly follows a Conv that it
    alone reads.
    """
    fused = 0
    for norm in list(model.graph):
        conv = _foldable_conv(norm)
        if conv is not None:
            _fuse(model.graph, conv, norm)
            fused += 1
    return fused


def _foldable_conv(norm: ir.Node) -> ir.Node | None:
    if norm.domain or norm.op_type != "BatchNormalization" or norm.inputs[0] is None:
        return None
    if integer(norm, "training_mode", 0):
        return None  # it normalizes by the batch
    conv = norm.inputs[0].producer()
    if conv is None or conv.domain or conv.op_type != "Conv":
        return None
    if only_user(conv.outputs[0]) is not norm:
        return None
    parameters = filter(None, (*conv.inputs[1:], *norm.inputs[1:]))  # a bias may be left out
    return conv if all(is_constant(value) for value in parameters) else None


def _fuse(graph: ir.Graph, conv: ir.Node, norm: ir.Node) -> None:
    gamma, beta, mean, variance = (_float64(value) for value in norm.inputs[1:5])
    scale = gamma / np.sqrt(variance + floating(norm, "epsilon", _DEFAULT_EPSILON))
    weight = _float64(conv.inputs[1])
    has_bias = len(conv.inputs) > 2 and conv.inputs[2] is not None
    bias = _float64(conv.inputs[2]) if has_bias else np.zeros_like(mean)
    per_channel = scale.reshape(-1, *[1] * (weight.ndim - 1))
    dtype = _array(conv.inputs[1]).dtype
    fused_weight = add_initializer(
        graph, f"{conv.name}_weight_fused", (weight * per_channel).astype(dtype)
    )
    fused_bias = add_initializer(
        graph, f"{conv.name}_bias_fused", ((bias - mean) * scale + beta).astype(dtype)
    )
    conv.resize_inputs(3)
    conv.replace_input_with(1, fused_weight)
    conv.replace_input_with(2, fused_bias)
    _take_over_output(graph, conv, norm)


def _take_over_output(graph: ir.Graph, conv: ir.Node, norm: ir.Node) -> None:
    """Let `conv` produce the value that `norm` produced, under its name."""
    old, new = norm.outputs[0], conv.outputs[0]
    name, old.name = old.name, f"{old.name}_before_fusion"
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(norm, safe=True)
    new.name = name


def _float64(value: ir.Value | None) -> NDArray[Any]:
    return _array(value).astype(np.float64)


def _array(value: ir.Value | None) -> NDArray[Any]:
    array = constant(value)
    assert array is not None  # _foldable_conv asked for constants
    return array
