"""Change the float type of a whole graph."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import defs

from qbench.model.graph import add_initializer, constant

_FLOAT, _HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
_HALF_TYPE = "tensor(float16)"


class _Reader(Protocol):
    """One input of one node, as `ir.Value.uses` yields it."""

    @property
    def node(self) -> ir.Node: ...

    @property
    def idx(self) -> int: ...


def to_float16(model: ir.Model) -> ir.Model:
    """Return a copy of a prepared `model` that computes in FP16; its inputs and outputs stay FP32.

    Casts stand at the inputs and outputs, and around what the ONNX schemas know in FP32 only (the
    scales of Resize, NonMaxSuppression, ...). Nodes with subgraphs (If, Loop) and nodes of other
    domains stay FP32 as a whole. Weights beyond FP16's range saturate at +-65504.
    """
    copy = model.clone()
    _HalfWriter(copy).write()
    return copy


class _HalfWriter:
    def __init__(self, model: ir.Model) -> None:
        self._graph = model.graph
        self._opset = model.graph.opset_imports.get("", 1)

    def write(self) -> None:
        nodes = list(self._graph)
        for value in [v for v in self._graph.initializers.values() if v.dtype == _FLOAT]:
            self._convert_initializer(value)
        for value in list(self._graph.inputs):
            if value.dtype == _FLOAT:
                self._cast_readers(value, _HALF, [u for u in value.uses() if self._reads_half(u)])
        for node in nodes:
            self._convert_node(node)

    def _convert_node(self, node: ir.Node) -> None:
        for position, output in enumerate(node.outputs):
            if output.dtype != _FLOAT:
                continue
            if not self._writes_half(node, position):
                readers = [usage for usage in output.uses() if self._reads_half(usage)]
                self._cast_readers(output, _HALF, readers)
                continue
            _retarget(node)
            # A new type: clones share type objects, and setting `dtype` would change the source.
            output.type = ir.TensorType(_HALF)
            readers = [usage for usage in output.uses() if not self._reads_half(usage)]
            self._cast_readers(output, _FLOAT, readers)
            if output.is_graph_output():
                self._cast_graph_output(output)

    def _convert_initializer(self, value: ir.Value) -> None:
        readers = [usage for usage in value.uses() if self._reads_half(usage)]
        array = constant(value)
        if not readers or array is None:
            return
        half = add_initializer(self._graph, f"{value.name}_fp16", _saturated(array))
        for usage in readers:
            usage.node.replace_input_with(usage.idx, half)
        if not value.uses():
            del self._graph.initializers[value.name or ""]

    def _cast_readers(
        self, value: ir.Value, dtype: ir.DataType, readers: Sequence[_Reader]
    ) -> None:
        if not readers:
            return
        cast = self._cast(value, dtype, f"{value.name}_as_{dtype.name.lower()}")
        for usage in readers:
            usage.node.replace_input_with(usage.idx, cast)

    def _cast_graph_output(self, value: ir.Value) -> None:
        """Let the graph output be an FP32 cast of `value`, under the output's own name."""
        position = list(self._graph.outputs).index(value)
        name, value.name = value.name, f"{value.name}_half"
        self._graph.outputs[position] = self._cast(value, _FLOAT, name or "")

    def _cast(self, value: ir.Value, dtype: ir.DataType, name: str) -> ir.Value:
        output = ir.val(name, dtype, value.shape)
        node = ir.node("Cast", [value], {"to": dtype}, name=f"{name}_Cast", outputs=[output])
        producer = value.producer()
        if producer is None:
            self._graph.insert_before(self._graph[0], node)
        else:
            self._graph.insert_after(producer, node)
        return output

    def _reads_half(self, usage: _Reader) -> bool:
        """Return whether a node input takes FP16."""
        node = usage.node
        if node.graph is not self._graph or self._stays_float(node):
            return False
        formal = self._schema(node).inputs
        return _HALF_TYPE in formal[min(usage.idx, len(formal) - 1)].types

    def _writes_half(self, node: ir.Node, position: int) -> bool:
        """Return whether a node output becomes FP16."""
        if self._stays_float(node):
            return False
        formal = self._schema(node).outputs
        return _HALF_TYPE in formal[min(position, len(formal) - 1)].types

    def _stays_float(self, node: ir.Node) -> bool:
        has_subgraph = any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values())
        return has_subgraph or bool(node.domain) or "dtype" in node.attributes

    def _schema(self, node: ir.Node) -> defs.OpSchema:
        return defs.get_schema(node.op_type, self._opset, node.domain)


def _retarget(node: ir.Node) -> None:
    """Let a node whose attribute names its element type produce FP16."""
    if node.op_type == "Cast":
        node.attributes["to"] = ir.AttrInt64("to", _HALF)
    elif node.op_type == "ConstantOfShape":
        old = node.attributes.get("value")
        fill = np.zeros(1) if old is None else old.as_tensor().numpy()
        node.attributes["value"] = ir.AttrTensor("value", ir.tensor(fill.astype(np.float16)))


def _saturated(array: NDArray[Any]) -> NDArray[Any]:
    limit = np.finfo(np.float16).max
    clipped: NDArray[Any] = np.clip(array, -limit, limit)
    return clipped.astype(np.float16)
