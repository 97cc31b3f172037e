"""Operators of ONNX Runtime's own domain, in those of ONNX that write the same shapes."""

from collections.abc import Callable, Sequence

import onnx
from onnx import TensorProto, helper

DOMAIN = "com.microsoft"

_Pick = Callable[[Sequence[str]], Sequence[str]]

_SAME_SHAPE: dict[str, tuple[str, _Pick]] = {
    "DequantizeLinear": ("DequantizeLinear", lambda names: names),
    "DynamicQuantizeMatMul": ("MatMul", lambda names: names[:2]),
    "MatMulNBits": ("MatMul", lambda names: names[:2]),
    "QGemm": ("Gemm", lambda names: names[:4:3]),
    "QLinearAdd": ("Add", lambda names: names[:4:3]),
    "QLinearAveragePool": ("AveragePool", lambda names: names[:1]),
    "QLinearConcat": ("Concat", lambda names: names[2::3]),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", lambda names: names[:1]),
    "QLinearLeakyRelu": ("Identity", lambda names: names[:1]),
    "QLinearMul": ("Mul", lambda names: names[:4:3]),
    "QLinearSigmoid": ("Identity", lambda names: names[:1]),
    "QLinearSoftmax": ("Identity", lambda names: names[:1]),
    "QLinearWhere": ("Where", lambda names: (*names[:2], *names[4:5])),
    "QuantizeLinear": ("QuantizeLinear", lambda names: names),
}
"""Operator of ONNX and the inputs it takes, by operator of `DOMAIN`."""

_INPUTS_FOR_CODES = 8
"""Inputs of a QGemm with a scale for its output; with fewer it writes floats."""


def to_onnx_operators(graph: onnx.GraphProto) -> None:
    """Replace operators of ONNX Runtime's domain by ones of ONNX with the same shapes and types.

    What they compute is another matter: shapes may be inferred of the result, and nothing else.
    """
    for node in graph.node:
        if node.domain == DOMAIN and node.op_type in _SAME_SHAPE and _follows_input(node):
            if node.op_type == "MatMulNBits":
                _unpack_weight(graph, node)
            _replace(node)


def _follows_input(node: onnx.NodeProto) -> bool:
    """Return whether layout and type of what `node` writes are those of its first input."""
    if node.op_type == "QGemm":
        return len(node.input) >= _INPUTS_FOR_CODES
    return not any(a.name == "channels_last" and a.i for a in node.attribute)


def _unpack_weight(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    """Let a MatMulNBits read a weight of [K, N], which no one gives."""
    sizes = {attribute.name: attribute.i for attribute in node.attribute}
    name = f"unpacked weight of {node.output[0]}"  # which no exporter would write
    shape = [sizes.get("K", 0), sizes.get("N", 0)]
    graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    del node.input[1:]
    node.input.append(name)


def _replace(node: onnx.NodeProto) -> None:
    node.op_type, pick = _SAME_SHAPE[node.op_type]
    names = list(pick(node.input))
    del node.input[:]
    node.input.extend(names)
    node.domain = ""
