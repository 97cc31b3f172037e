"""Write a quantized pointwise convolution as a MatMul, whose integer kernel may write floats.

    codes -> DQ -> Conv          codes -> Transpose -> DQ -> MatMul -> Transpose -> Add

ONNX Runtime keeps the channels last around its integer convolutions, so that the first Transpose
meets its own opposite and vanishes; and so do those at both ends of a residual stream. The bias is
added behind the second, since of a MatMul and an Add right behind it the runtime makes one Gemm,
which runs in float for the sake of a float bias.
"""

import onnx_ir as ir

from qbench.model.graph import add_initializer, constant
from qbench.quantization.encodings import dequantizer

_CHANNELS_LAST = [0, 2, 3, 1]
_CHANNELS_FIRST = [0, 3, 1, 2]


def write_as_matmul(graph: ir.Graph, conv: ir.Node) -> None:
    """Replace a convolution by a MatMul of its name, whose result has the name of the old one.

    Args:
        graph: A graph with Q/DQ nodes.
        conv: Pointwise, over images, without pads; its input and its constant weights are
            dequantized.
    """
    data, weight = dequantizer(conv.inputs[0]), dequantizer(conv.inputs[1])
    assert data is not None  # the plan quantizes what it reads ...
    assert weight is not None  # ... and what it multiplies that with
    name = conv.name or ""
    codes = _transposed(data.inputs[0], _CHANNELS_LAST, f"{name}_channels_last")
    factors = _dequantized(codes.outputs[0], data), _transposed_weight(graph, weight)
    product = ir.node("MatMul", [node.outputs[0] for node in factors], name=name)
    new = [codes, *factors, product]
    new.append(_transposed(product.outputs[0], _CHANNELS_FIRST, f"{name}_channels_first"))
    if (bias := constant(conv.inputs[2]) if len(conv.inputs) > 2 else None) is not None:
        term = add_initializer(graph, f"{name}_bias", bias.reshape(-1, 1, 1))
        new.append(ir.node("Add", [new[-1].outputs[0], term], name=f"{name}_biased"))
    ir.convenience.replace_nodes_and_values(graph, conv, [conv], new, conv.outputs, new[-1].outputs)
    for old in (data, weight):
        if not old.outputs[0].uses() and not old.outputs[0].is_graph_output():
            graph.remove(old, safe=True)


def _transposed(value: ir.Value | None, order: list[int], name: str) -> ir.Node:
    assert value is not None
    return ir.node("Transpose", [value], {"perm": order}, name=name, outputs=[ir.val(name)])


def _dequantized(codes: ir.Value, like: ir.Node) -> ir.Node:
    """Return a DequantizeLinear of the scale and zero-point that another one has."""
    name = f"{codes.name}_dequantized"
    inputs = [codes, *like.inputs[1:]]
    return ir.node(
        "DequantizeLinear", inputs, name=f"{codes.name}_DequantizeLinear", outputs=[ir.val(name)]
    )


def _transposed_weight(graph: ir.Graph, weight: ir.Node) -> ir.Node:
    """Return a DequantizeLinear over codes [C, M], for one over [M, C, 1, 1]."""
    source = weight.inputs[0]
    array = constant(source)
    assert source is not None
    assert array is not None
    codes = add_initializer(graph, f"{source.name}_transposed", array[:, :, 0, 0].T)
    node = _dequantized(codes, weight)
    node.attributes.add(ir.AttrInt64("axis", 1))
    return node
