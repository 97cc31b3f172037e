"""Types, ranks and roles of tensors that TensorRT does not have, or that it is not built with."""

from collections.abc import Callable, Iterator

import onnx_ir as ir

from qbench.model.graph import is_constant
from qbench.quantization.encodings import is_qdq
from qbench.quantization.linting.finding import ERROR, WARNING, Place, Rule

MISSING = frozenset(
    {
        ir.DataType.COMPLEX64,
        ir.DataType.COMPLEX128,
        ir.DataType.FLOAT8E4M3FNUZ,
        ir.DataType.FLOAT8E5M2,
        ir.DataType.FLOAT8E5M2FNUZ,
        ir.DataType.INT16,
        ir.DataType.STRING,
        ir.DataType.UINT16,
        ir.DataType.UINT32,
        ir.DataType.UINT4,
        ir.DataType.UINT64,
    }
)
"""Types of ONNX without a `DataType` in TensorRT 10.0 to 11.4 and RTX 1.7."""

MOST_DIMENSIONS = 8
"""`Dims.MAX_DIMS`."""

_NO_INT8_CONSTANTS = frozenset(
    {
        "Add",
        "Cast",
        "Div",
        "Equal",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "Mul",
        "Sub",
    }
)

_SHAPES = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (2, 3),
    "Slice": (1, 2, 3, 4),
    "Tile": (1,),
    "TopK": (1,),
}
"""The inputs, by place, whose values decide over shapes."""

_INTEGERS = frozenset({ir.DataType.INT32, ir.DataType.INT64})


def _tensors(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.Value]]:
    """Yield each tensor once, with the node that makes it, or else the first that reads it.

    Not those of Q/DQ nodes, for which there are other rules.
    """
    seen: set[ir.Value] = set()
    for node in graph.all_nodes():
        for value in (*node.inputs, *node.outputs):
            if value is not None and value not in seen and not is_qdq(node):
                seen.add(value)
                yield node, value


def _beginnings(
    graph: ir.Graph, is_such: Callable[[ir.Value], bool]
) -> Iterator[tuple[ir.Node, ir.Value]]:
    """Yield the tensors that are such, though nothing is that they are made from."""
    for node, value in _tensors(graph):
        source = value.producer()
        origins = source.inputs if source is not None else ()
        if is_such(value) and not any(other is not None and is_such(other) for other in origins):
            yield node, value


def _missing_types(graph: ir.Graph) -> Iterator[Place]:
    for node, value in _beginnings(graph, lambda value: value.dtype in MISSING):
        yield Place(node, value, f"{value.name!r} is {_type_name(value)}")


def _ranks(graph: ir.Graph) -> Iterator[Place]:
    for node, value in _beginnings(graph, lambda value: _rank(value) > MOST_DIMENSIONS):
        yield Place(node, value, f"{value.name!r} has {_rank(value)} dimensions")


def _doubles(graph: ir.Graph) -> Iterator[Place]:
    for node, value in _beginnings(graph, lambda value: value.dtype == ir.DataType.DOUBLE):
        yield Place(node, value, f"{value.name!r} is double")


def _shape_inputs(graph: ir.Graph) -> Iterator[Place]:
    for value in graph.inputs:
        node = _shaped_by(value) if value.dtype in _INTEGERS else None
        if node is not None:
            reason = f"the values of input {value.name!r} decide over the shape of its output"
            yield Place(node, value, reason)


def _shaped_by(value: ir.Value) -> ir.Node | None:
    """Return a node that takes `value`, or integers computed from it, for a shape."""
    waiting, seen = [value], {value}
    while waiting:
        current = waiting.pop()
        for node, index in ((usage.node, usage.idx) for usage in current.uses()):
            if index in _SHAPES.get(node.op_type, ()):
                return node
            if node.op_type not in {"Shape", "Size"}:  # which read no values
                found = {output for output in node.outputs if output.dtype in _INTEGERS} - seen
                seen |= found
                waiting += found
    return None


def _rank(value: ir.Value) -> int:
    """Return the number of dimensions, 0 where it is unknown."""
    return 0 if value.shape is None else len(value.shape)


def _type_name(value: ir.Value) -> str:
    return "untyped" if value.dtype is None else value.dtype.name.lower()


def _inner_bytes(graph: ir.Graph) -> Iterator[Place]:
    for node in graph.all_nodes():
        output = node.outputs[0]
        is_cast = node.op_type == "Cast" and output.dtype == ir.DataType.UINT8
        if is_cast and not output.is_graph_output():
            yield Place(node, output, "TensorRT takes uint8 as input and output of a model only")


def _int8_constants(graph: ir.Graph) -> Iterator[Place]:
    for node, value in _tensors(graph):
        is_int8 = value.dtype == ir.DataType.INT8 and node.op_type in _NO_INT8_CONSTANTS
        if is_int8 and is_constant(value):
            yield Place(node, value, f"{node.op_type} reads the int8 constant {value.name!r}")


RULES = (
    Rule("type", ERROR, _missing_types, "cast it to float32, int32 or int64 in the export"),
    Rule("rank", ERROR, _ranks, f"reshape it to {MOST_DIMENSIONS} dimensions at most"),
    Rule("inner-uint8", ERROR, _inner_bytes, "cast to int32 in place of uint8"),
    Rule("int8-constant", ERROR, _int8_constants, "store it as int32"),
    Rule(
        "shape-input",
        ERROR,
        _shape_inputs,
        "make it a constant in the export, since qbench builds for ranges of shapes, not of values",
    ),
    Rule("double", WARNING, _doubles, "export in float32, since TensorRT computes it in float32"),
)
