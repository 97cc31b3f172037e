"""Change the float type of a whole graph to FP16 or BF16."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import defs

from qbench.model.graph import add_initializer, constant, names_in, place_after, unused_name
from qbench.model.passes.opset import raise_opset
from qbench.placement.plan import FloatNode
from qbench.quantization.numerics import row_blocks

_FLOAT = ir.DataType.FLOAT

TYPES = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
"""Element types by precision."""

_OPSETS = {ir.DataType.BFLOAT16: 22}
"""The opset in which all that networks use (Conv, pooling) got a type; FP16 was always there."""

_LARGEST = {
    ir.DataType.FLOAT16: 65504.0,
    ir.DataType.BFLOAT16: (2 - 2**-7) * 2.0**127,
}

_INNER = "nodes inside it stay FP32"
_DOMAIN = "it belongs to no ONNX domain that says which types it takes"
_OWN_TYPE = "it has an element type of its own"
_TYPED = {
    "BitCast",
    "BlackmanWindow",
    "Constant",
    "HammingWindow",
    "HannWindow",
    "MeanVarianceNormalization",
    "MelWeightMatrix",
    "RandomNormal",
    "RandomUniform",
}
"""Operators whose output has a type of its own, also where no attribute names it."""
_FAILING = {"GRU"}
"""ONNX Runtime 1.31 crashes while it loads one in FP16, and TensorRT refuses one in BF16."""

_FAILS = "runtimes fail on it in half precision"
_NO_TENSOR = "it reads or writes a sequence or an optional"


class _Reader(Protocol):
    """One input of one node, as `ir.Value.uses` yields it."""

    @property
    def node(self) -> ir.Node: ...

    @property
    def idx(self) -> int: ...


@dataclass(frozen=True)
class HalfOptions:
    """How to convert to FP16 or BF16.

    Attributes:
        keep_io: Inputs and outputs of the graph stay FP32.
        exclude: Shell wildcards of node names that stay FP32.
    """

    keep_io: bool = True
    exclude: Sequence[str] = ()


@dataclass(frozen=True)
class HalfGraph:
    """A graph in FP16 or BF16.

    Attributes:
        ir: The graph.
        floats: Nodes that stay FP32 as a whole, with the reason.
    """

    ir: ir.Model
    floats: tuple[FloatNode, ...]


def to_half(
    model: ir.Model,
    dtype: ir.DataType = TYPES["fp16"],
    *,
    keep_io: bool = True,
    wide: Mapping[str, str] = MappingProxyType({}),
) -> HalfGraph:
    """Return a copy of a prepared `model` that computes in `dtype`.

    Casts stand around what stays FP32: the inputs and outputs of the graph, if wanted; nodes that
    are named; what the ONNX schemas know in FP32 only (the scales of Resize, NonMaxSuppression);
    nodes with subgraphs (If, Loop), and nodes of other domains.

    Args:
        model: The prepared graph.
        dtype: FLOAT16 or BFLOAT16; the latter raises the opset to 22.
        keep_io: Inputs and outputs of the graph stay FP32.
        wide: Names of nodes that stay FP32, with the reason; see `half_range.wide_nodes`.

    Raises:
        ModelError: The opset cannot be raised.
    """
    raised = raise_opset(model, _OPSETS.get(dtype, 0))
    writer = _HalfWriter(raised.clone(), dtype, wide, keep_io=keep_io)
    return HalfGraph(writer.write(), writer.floats())


class _HalfWriter:
    def __init__(
        self, model: ir.Model, dtype: ir.DataType, wide: Mapping[str, str], *, keep_io: bool
    ) -> None:
        self._model = model
        self._graph = model.graph
        self._dtype = dtype
        self._formal = f"tensor({dtype.name.lower()})"
        self._wide = wide
        self._keep_io = keep_io
        self._opset = model.graph.opset_imports.get("", 1)
        self._taken = names_in(model.graph)

    def write(self) -> ir.Model:
        nodes = list(self._graph)
        for value in filter(_is_float, list(self._graph.initializers.values())):
            self._convert_initializer(value)
        for value in filter(_is_float, list(self._graph.inputs)):
            self._convert_input(value)
        for node in nodes:
            self._convert_node(node)
        return self._model

    def floats(self) -> tuple[FloatNode, ...]:
        """Return the nodes that stay FP32 as a whole."""
        reasons = ((node, self._float_reason(node)) for node in self._graph)
        return tuple(
            FloatNode(node.name or node.outputs[0].name or "", node.op_type, reason)
            for node, reason in reasons
            if reason and (reason != _OWN_TYPE or any(map(_is_float, node.outputs)))
        )

    def _convert_input(self, value: ir.Value) -> None:
        if self._keep_io:
            readers = [usage for usage in value.uses() if self._reads_half(usage)]
            self._cast_readers(value, self._dtype, readers)
        else:
            readers = [usage for usage in value.uses() if not self._reads_half(usage)]
            value.type = ir.TensorType(self._dtype)
            self._cast_readers(value, _FLOAT, readers)

    def _convert_node(self, node: ir.Node) -> None:
        for position, output in enumerate(node.outputs):
            if not _is_float(output):
                continue
            if not self._writes_half(node, position):
                readers = [usage for usage in output.uses() if self._reads_half(usage)]
                self._cast_readers(output, self._dtype, readers)
                if output.is_graph_output() and not self._keep_io:
                    self._cast_graph_output(output, self._dtype)
                continue
            self._retarget(node)
            # A new type: clones share type objects, and setting `dtype` would change the source.
            output.type = ir.TensorType(self._dtype)
            readers = [usage for usage in output.uses() if not self._reads_half(usage)]
            self._cast_readers(output, _FLOAT, readers)
            if output.is_graph_output() and self._keep_io:
                self._cast_graph_output(output, _FLOAT)

    def _convert_initializer(self, value: ir.Value) -> None:
        if value.is_graph_output() and not self._keep_io:
            self._cast_graph_output(value, self._dtype)
        readers = [usage for usage in value.uses() if self._reads_half(usage)]
        array = constant(value)
        if not readers or array is None:
            return
        name = self._new_name(f"{value.name}_{self._dtype.name.lower()}")
        half = add_initializer(self._graph, name, _saturated(array, self._dtype))
        for usage in readers:
            usage.node.replace_input_with(usage.idx, half)
        if not value.uses() and not value.is_graph_output():
            del self._graph.initializers[value.name or ""]

    def _cast_readers(
        self, value: ir.Value, dtype: ir.DataType, readers: Sequence[_Reader]
    ) -> None:
        if not readers:
            return
        cast = self._cast(value, dtype, self._new_name(f"{value.name}_as_{dtype.name.lower()}"))
        for usage in readers:
            usage.node.replace_input_with(usage.idx, cast)

    def _cast_graph_output(self, value: ir.Value, dtype: ir.DataType) -> None:
        """Let the graph output be a cast of `value`, under the output's own name."""
        position = list(self._graph.outputs).index(value)
        name, value.name = value.name, self._new_name(f"{value.name}_uncast")
        self._graph.outputs[position] = self._cast(value, dtype, name or "")

    def _cast(self, value: ir.Value, dtype: ir.DataType, name: str) -> ir.Value:
        output = ir.val(name, dtype, value.shape)
        node_name = self._new_name(f"{name}_Cast")
        node = ir.node("Cast", [value], {"to": dtype}, name=node_name, outputs=[output])
        place_after(self._graph, value, [node])
        return output

    def _new_name(self, name: str) -> str:
        new = unused_name(name, self._taken)
        self._taken.add(new)
        return new

    def _reads_half(self, usage: _Reader) -> bool:
        """Return whether a node input takes the new type."""
        node = usage.node
        if node.graph is not self._graph or self._float_reason(node):
            return False
        formal = self._schema(node).inputs
        return self._formal in formal[min(usage.idx, len(formal) - 1)].types

    def _writes_half(self, node: ir.Node, position: int) -> bool:
        """Return whether a node output gets the new type."""
        if self._float_reason(node):
            return False
        if node.op_type == "LayerNormalization" and position:
            return False  # `stash_type` names the type of mean and deviation
        formal = self._schema(node).outputs
        return self._formal in formal[min(position, len(formal) - 1)].types

    def _float_reason(self, node: ir.Node) -> str:
        """Return why a node stays FP32 as a whole; nothing where it does not."""
        if (node.name or "") in self._wide:
            return self._wide[node.name or ""]
        if any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values()):
            return _INNER
        if node.domain:
            return _DOMAIN
        if not all(map(_is_tensor, (*node.inputs, *node.outputs))):
            return _NO_TENSOR
        if node.op_type in _FAILING:
            return _FAILS
        return _OWN_TYPE if node.op_type in _TYPED or "dtype" in node.attributes else ""

    def _schema(self, node: ir.Node) -> defs.OpSchema:
        return defs.get_schema(node.op_type, self._opset, node.domain)

    def _retarget(self, node: ir.Node) -> None:
        """Let a node whose attribute names its element type produce the new one."""
        if node.op_type == "Cast":
            node.attributes["to"] = ir.AttrInt64("to", self._dtype)
        elif node.op_type == "ConstantOfShape":
            old = node.attributes.get("value")
            fill = np.zeros(1) if old is None else old.as_tensor().numpy()
            tensor = ir.tensor(_saturated(fill, self._dtype))
            node.attributes["value"] = ir.AttrTensor("value", tensor)


def _is_tensor(value: ir.Value | None) -> bool:
    return value is None or value.type is None or isinstance(value.type, ir.TensorType)


def _is_float(value: ir.Value) -> bool:
    return _is_tensor(value) and value.dtype == _FLOAT


def _saturated(array: NDArray[Any], dtype: ir.DataType) -> NDArray[Any]:
    limit, half = _LARGEST[dtype], np.empty(array.shape, dtype.numpy())
    values, out = np.atleast_1d(array), np.atleast_1d(half)
    for rows in row_blocks(values):
        out[rows] = np.clip(values[rows], -limit, limit)
    return half
