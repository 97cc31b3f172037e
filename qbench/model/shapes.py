"""Bind dynamic dimensions, and count multiply-accumulates."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from qbench.errors import ModelError
from qbench.model.graph import (
    RECURRENT,
    constant,
    integer,
    static_shape,
    subgraph_nodes,
    values_by_name,
)
from qbench.model.load import Model
from qbench.model.passes.fold_constants import fold_constants
from qbench.model.passes.infer_shapes import infer_shapes
from qbench.model.spec import TensorSpec, is_image, with_image_size

Shapes = Mapping[str, tuple[int, ...]]
"""Input shapes by input name."""

_MULTIPLIES = re.compile("Attention|Conv|Einsum|Gemm|GRU|LSTM|MatMul|RNN")
"""What the names of operators hold that multiply and accumulate, such as QLinearConv."""

_WEIGHT_INPUT = {
    "Conv": 1,
    "ConvInteger": 1,
    "ConvTranspose": 1,
    "DynamicQuantizeMatMul": 1,
    "Gemm": 1,
    "MatMul": 1,
    "MatMulInteger": 1,
    "MatMulNBits": 1,
    "QGemm": 3,
    "QLinearConv": 3,
    "QLinearMatMul": 3,
    **dict.fromkeys(RECURRENT, 1),
}
"""Where the weight stands, or the second factor, by operator whose products are counted."""


def example_shapes(model: Model, image_size: tuple[int, int] | None = None) -> Shapes:
    """Return a full shape for every input: dynamic dimensions become 1, or the image's size.

    Args:
        model: Any model.
        image_size: Height and width of images; see `with_image_size`.

    Raises:
        ModelError: The size of an image is dynamic and not given, or so are its channels.
    """
    return {spec.name: _example(spec, image_size) for spec in model.inputs}


def _example(spec: TensorSpec, image_size: tuple[int, int] | None) -> tuple[int, ...]:
    sized = with_image_size(spec.shape, image_size)
    shape = tuple(
        dim if isinstance(dim, int) or (axis and is_image(sized)) else 1
        for axis, dim in enumerate(sized)
    )
    fixed = tuple(dim for dim in shape if isinstance(dim, int))
    if len(fixed) == len(shape):
        return fixed
    dynamic = f"input {spec.name!r} has a dynamic size {list(spec.shape)}"
    if image_size is None:
        raise ModelError(f"{dynamic}; give --size, as in --size 640")
    raise ModelError(f"{dynamic} and dynamic channels; fix its channels in the export")


def bind_shapes(model: ir.Model, shapes: Shapes) -> ir.Model:
    """Return a copy of a prepared `model` whose inputs have the given static shapes."""
    bound = model.clone()
    for value in bound.graph.inputs:
        if (shape := shapes.get(value.name or "")) is not None:
            value.shape = ir.Shape(shape)
    for node in bound.graph:
        for output in node.outputs:
            output.shape = None
    infer_shapes(bound)
    while fold_constants(bound, infers=True):
        infer_shapes(bound)
    return bound


def elements_by_name(bound: ir.Model | None) -> dict[str, int]:
    """Return the number of elements of inputs and of what nodes write, where it is known.

    Args:
        bound: A model with static input shapes; see `bind_shapes`. Of None, nothing is known.
    """
    if bound is None:
        return {}
    shapes = ((name, static_shape(value)) for name, value in values_by_name(bound.graph).items())
    return {name: prod(shape) for name, shape in shapes if shape is not None}


@dataclass(frozen=True)
class Macs:
    """The multiply-accumulates of a model.

    Attributes:
        by_node: By node name; see `macs_by_node`.
        uncounted: Nodes that multiply too, but how often is not known, as in `att (Attention)`.
    """

    by_node: Mapping[str, int]
    uncounted: tuple[str, ...] = ()


def macs_by_node(bound: ir.Model) -> dict[str, int]:
    """Return multiply-accumulates by node name.

    - Conv: output elements x kernel elements x input channels per group.
    - ConvTranspose: the same with input elements and output channels.
    - Gemm and MatMul: output elements x inner dimension.
    - QLinearConv, MatMulInteger, MatMulNBits and their like: as the operator of floats.
    - LSTM, GRU, RNN: steps x batch x directions x gates x hidden size x (input + hidden size), with
      4, 3 and 1 gates.

    Nodes whose shapes stay unknown, and those in subgraphs, are left out.

    Args:
        bound: A model with static input shapes; see `bind_shapes`.
    """
    counts = {}
    for node in bound.graph:
        macs = _macs(node)
        if macs is not None:
            counts[node.name or ""] = macs
    return counts


def bound_to_one(prepared: Model, image_size: tuple[int, int] | None) -> ir.Model | None:
    """Return a prepared model with the shapes of one sample; None where the image size is open."""
    try:
        return bind_shapes(prepared.ir, example_shapes(prepared, image_size))
    except ModelError:
        return None


def macs_of(prepared: Model, bound: ir.Model | None) -> Macs | None:
    """Return the multiply-accumulates of one sample; None where there is no `bound` model."""
    if bound is None:
        return None
    counts = macs_by_node(bound)
    nodes = (*prepared.ir.graph, *subgraph_nodes(prepared.ir))
    multiplying = (node for node in nodes if _MULTIPLIES.search(node.op_type))
    uncounted = (f"{n.name} ({n.op_type})" for n in multiplying if n.name not in counts)
    return Macs(counts, tuple(uncounted))


def _macs(node: ir.Node) -> int | None:
    if node.op_type not in _WEIGHT_INPUT:
        return None
    data, factor = static_shape(node.inputs[0]), node.inputs[_WEIGHT_INPUT[node.op_type]]
    weight = static_shape(factor) or _constant_shape(factor)
    if node.op_type in RECURRENT:
        recurrent = static_shape(node.inputs[2]) or _constant_shape(node.inputs[2])
        if data is None or weight is None or recurrent is None:
            return None
        return prod(data[:2]) * (prod(weight) + prod(recurrent))
    output = static_shape(node.outputs[0])
    if data is None or weight is None or output is None:
        return None
    if node.op_type in {"Conv", "ConvInteger", "QLinearConv"}:
        return prod(output) * prod(weight[1:])
    if node.op_type == "ConvTranspose":
        return prod(data) * prod(weight[1:])
    inner = data[0] if integer(node, "transA", 0) else data[-1]
    return prod(output) * inner


def _constant_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    array = constant(value)
    return None if array is None else array.shape
