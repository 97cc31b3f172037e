"""INT8 with scales found at run time, for transformers on ONNX Runtime's CPU provider."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass

from qbench.errors import QuantizationError
from qbench.model.graph import (
    OUTSIDE_SUBGRAPHS,
    RECURRENT,
    add_initializer,
    drop_unused_initializers,
    integer,
    is_constant,
    place_after,
    subgraph_nodes,
)
from qbench.placement.analysis import COMPUTE, weight_axis
from qbench.placement.plan import Reader, Weight
from qbench.quantization.weights import CodedWeight, WeightCoding


def to_dynamic_int8(model: ir.Model, *, saturates: bool) -> ir.Model:
    """Return a copy of a prepared `model` whose MatMul and Gemm with constant weights use integers.

    DynamicQuantizeLinear finds each input's range while the model runs, so no calibration is
    needed; the weights have a scale for each output. Convolutions are left out: ConvInteger is
    slower than a float Conv.

    Args:
        model: The prepared model.
        saturates: Whether products are added in 16 bits (x86 without VNNI).

    Raises:
        QuantizationError: The model has no MatMul or Gemm with constant weights.
    """
    copy = model.clone()
    nodes = {node.name or "": node for node in copy.graph if _is_linear(node)}
    if not nodes:
        raise _nothing_to_quantize(copy)
    weights = [_weight(node) for node in nodes.values()]
    coded = WeightCoding(saturates=saturates).encode_all(copy.graph, weights)
    writer = _Writer(copy.graph)
    for weight in weights:
        writer.turn(nodes[weight.reader.node], weight, coded[weight.tensor, weight.axis])
    drop_unused_initializers(copy.graph)
    NameFixPass()(copy)  # a tensor of the model may be called like a new one
    return copy


def multiplying(graph: ir.Graph) -> dict[str, str]:
    """Return the operators of the nodes that multiply in float, by node name."""
    ops = COMPUTE | RECURRENT
    return {node.name or "": node.op_type for node in graph if node.op_type in ops}


def float_remarks(prepared: ir.Graph, kept: Mapping[str, str]) -> tuple[str, ...]:
    """Return a line that counts what stays FP32, if any: `kept`, the `multiplying` of a result."""
    if not kept:
        return ()
    floats = ", ".join(f"{count} {op_type}" for op_type, count in Counter(kept.values()).items())
    return (
        f"of {len(multiplying(prepared))} nodes that multiply these stay FP32: {floats}; with "
        "scales found at run time only MatMul and Gemm with constant weights are INT8",
    )


def _nothing_to_quantize(model: ir.Model) -> QuantizationError:
    """Return the error that says so; --int8 quantizes convolutions, but none in a subgraph."""
    nothing = "the model has no MatMul or Gemm with constant weights"
    if any(node.op_type in COMPUTE for node in subgraph_nodes(model)):
        nothing = f"{nothing} {OUTSIDE_SUBGRAPHS}"
        if not any(node.op_type in COMPUTE for node in model.graph):
            return QuantizationError(f"{nothing}; export it without")
    return QuantizationError(f"{nothing}; use --int8 for convolutions")


def _is_linear(node: ir.Node) -> bool:
    """Whether a node multiplies by constant weights with a scale for each output."""
    return (
        node.op_type in {"MatMul", "Gemm"}
        and not node.domain
        and is_constant(node.inputs[1])
        and weight_axis(node) is not None
    )


def _weight(node: ir.Node) -> Weight:
    value = node.inputs[1]
    assert value is not None  # it is constant
    return Weight(value.name or "", Reader(node.name or "", 1), weight_axis(node))


class _Writer:
    """Turns nodes into integer products; tensors and weights that several read are shared."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._inputs: dict[ir.Value, tuple[ir.Value, ...]] = {}
        self._weights: dict[tuple[str, int | None], tuple[ir.Value, ir.Value]] = {}

    def turn(self, node: ir.Node, weight: Weight, coded: CodedWeight) -> None:
        """Let `node` be the last step of an integer product, Mul by the scales or Add of a bias.

        The steps are those of which ONNX Runtime makes one kernel, DynamicQuantizeMatMul.
        """
        x, bias = node.inputs[0], node.inputs[2] if len(node.inputs) > 2 else None
        assert x is not None  # MatMul and Gemm need it
        codes, scale, zero_point = self._quantized(x)
        weight_codes, weight_scale = self._stored(node, weight, coded)
        product = self._before(node, "MatMulInteger", codes, weight_codes, zero_point)
        product = self._before(node, "Cast", product, to=ir.DataType.FLOAT)
        scales = self._before(node, "Mul", scale, weight_scale, suffix="scales")
        terms = (product, scales)
        if bias is not None:
            terms = self._before(node, "Mul", *terms), bias
        node.op_type = "Mul" if bias is None else "Add"
        node.attributes.clear()
        node.resize_inputs(2)
        for position, term in enumerate(terms):
            node.replace_input_with(position, term)

    def _quantized(self, x: ir.Value) -> tuple[ir.Value, ...]:
        """Return the uint8 codes of a tensor, their scale and zero-point."""
        if x not in self._inputs:
            kinds = (ir.DataType.UINT8, ir.DataType.FLOAT, ir.DataType.UINT8)
            names = ("codes", "scale", "zero_point")
            node = ir.node(
                "DynamicQuantizeLinear",
                [x],
                name=f"{x.name}_DynamicQuantizeLinear",
                outputs=[ir.val(f"{x.name}_{n}", k) for n, k in zip(names, kinds, strict=True)],
            )
            place_after(self._graph, x, [node])
            self._inputs[x] = tuple(node.outputs)
        return self._inputs[x]

    def _stored(
        self, node: ir.Node, weight: Weight, coded: CodedWeight
    ) -> tuple[ir.Value, ir.Value]:
        """Return the codes of a weight as [inputs, outputs], and their scales."""
        key = (weight.tensor, weight.axis)
        if key not in self._weights:
            is_turned = node.op_type == "Gemm" and integer(node, "transB", 0)
            codes = np.ascontiguousarray(coded.codes.T) if is_turned else coded.codes
            name = f"{weight.tensor}_axis{weight.axis}"
            self._weights[key] = (
                add_initializer(self._graph, f"{name}_codes", codes),
                add_initializer(self._graph, f"{name}_scale", coded.parameters.scale),
            )
        return self._weights[key]

    def _before(
        self, node: ir.Node, op_type: str, *inputs: ir.Value, suffix: str = "", **attributes: Any
    ) -> ir.Value:
        """Return the output of a new node in front of `node`."""
        name = f"{node.name}_{suffix or op_type}"
        new = ir.node(op_type, inputs, attributes, name=name, outputs=[ir.val(name)])
        self._graph.insert_before(node, new)
        return new.outputs[0]
