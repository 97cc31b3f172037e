"""Bring Gemm with constant weights into one form: ``x @ weights + bias``.

Its attributes, and the shapes that its bias may have, allow for many, of which integer kernels and
the rules of quantization know one.
"""

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qbench.model.graph import add_initializer, constant, floating, integer

_DATA, _WEIGHT, _BIAS = range(3)
"""Positions of A, B and C among the inputs."""


def simplify_gemm(model: ir.Model) -> int:
    """Simplify each Gemm with constant float32 weights B; return how many were changed.

    Of ``alpha * A @ B + beta * C``, alpha goes into B and beta into C. A transposed A comes from a
    Transpose instead. A constant C that is the same in each row becomes [N]; any other is added by
    an Add behind the Gemm, which writes what the Gemm wrote.

    Postcondition: alpha and beta of these nodes are 1, transA is 0, and C is absent or a constant
    of [N]. transB stays.
    """
    changed = 0
    for node in list(model.graph):
        if node.op_type != "Gemm" or node.domain or _is_simple(node):
            continue
        _turn_data(model.graph, node)
        _scale_weight(model.graph, node)
        _scale_bias(model.graph, node)
        _shape_bias(model.graph, node)
        changed += 1
    return changed


def _is_simple(node: ir.Node) -> bool:
    """Return whether nothing is to be done, which nodes without constant weights count as."""
    weight, value = constant(node.inputs[_WEIGHT]), _bias_of(node)
    if weight is None or weight.dtype != np.float32:
        return True
    bias = constant(value)
    has_vector = value is None or (bias is not None and bias.shape == (_outputs_of(node),))
    factors = floating(node, "alpha", 1.0), floating(node, "beta", 1.0)
    return has_vector and factors == (1.0, 1.0) and not integer(node, "transA", 0)


def _turn_data(graph: ir.Graph, node: ir.Node) -> None:
    if not integer(node, "transA", 0):
        return
    del node.attributes["transA"]
    output = ir.val(f"{node.name}_transposed", ir.DataType.FLOAT)
    turn = ir.node(
        "Transpose", [node.inputs[_DATA]], {"perm": [1, 0]}, name=output.name, outputs=[output]
    )
    graph.insert_before(node, turn)
    node.replace_input_with(_DATA, output)


def _scale_weight(graph: ir.Graph, node: ir.Node) -> None:
    alpha = floating(node, "alpha", 1.0)
    node.attributes.pop("alpha", None)
    if alpha != 1.0:
        _scale(graph, node, _WEIGHT, alpha)


def _scale_bias(graph: ir.Graph, node: ir.Node) -> None:
    beta = floating(node, "beta", 1.0)
    node.attributes.pop("beta", None)
    if beta == 0.0:
        node.resize_inputs(_BIAS)
    elif beta != 1.0 and _bias_of(node) is not None:
        _scale(graph, node, _BIAS, beta)


def _scale(graph: ir.Graph, node: ir.Node, position: int, factor: float) -> None:
    """Multiply an input by `factor`, in a Mul where it is computed."""
    value = node.inputs[position]
    name = f"{node.name}_{'bias' if position == _BIAS else 'weight'}_scaled"
    array = constant(value)
    if array is not None:
        scaled = add_initializer(graph, name, np.float32(factor) * array)
    else:
        by = add_initializer(graph, f"{name}_by", np.array(factor, np.float32))
        scaled = ir.val(name, ir.DataType.FLOAT)
        graph.insert_before(node, ir.node("Mul", [value, by], name=name, outputs=[scaled]))
    node.replace_input_with(position, scaled)


def _shape_bias(graph: ir.Graph, node: ir.Node) -> None:
    value = _bias_of(node)
    if value is None:
        return
    bias, shape = constant(value), (_outputs_of(node),)
    if bias is None or (bias.ndim == 2 and bias.shape[0] > 1):
        node.resize_inputs(_BIAS)
        _add_behind(graph, node, value)
    elif bias.shape != shape:
        vector = np.broadcast_to(bias.reshape(-1), shape)
        node.replace_input_with(_BIAS, add_initializer(graph, f"{node.name}_bias", vector))


def _add_behind(graph: ir.Graph, node: ir.Node, term: ir.Value) -> None:
    """Add `term` to what a node writes, under the name of its output."""
    product = node.outputs[0]
    total = ir.val(product.name, ir.DataType.FLOAT, product.shape)
    product.replace_all_uses_with(total, replace_graph_outputs=True)
    product.name = f"{node.name}_product"
    adder = ir.node("Add", [product, term], name=f"{node.name}_bias_added", outputs=[total])
    graph.insert_after(node, adder)


def _bias_of(node: ir.Node) -> ir.Value | None:
    return node.inputs[_BIAS] if len(node.inputs) > _BIAS else None


def _outputs_of(node: ir.Node) -> int:
    weight: NDArray[Any] | None = constant(node.inputs[_WEIGHT])
    assert weight is not None  # _is_simple asked for it
    return int(weight.shape[0 if integer(node, "transB", 0) else 1])
