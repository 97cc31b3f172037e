"""Write a plan into a graph as QuantizeLinear and DequantizeLinear nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import NameFixPass

from qbench.errors import QuantizationError
from qbench.model.graph import (
    add_initializer,
    constant,
    drop_unused_initializers,
    place_after,
    values_by_name,
)
from qbench.placement.plan import FLOAT_REASON, Activation, Bias, Plan, Weight
from qbench.quantization.channels_last import write_as_matmul
from qbench.quantization.float_weights import keep_weights_float
from qbench.quantization.numerics import QuantizationParameters
from qbench.quantization.offsets import (
    add_to_bias,
    offset_at_output,
    offset_name,
    offset_of,
    without_zero_point,
)
from qbench.quantization.weights import CodedWeight, CodedWeights, WeightCoding


def write_qdq(
    model: ir.Model,
    plan: Plan,
    parameters: Mapping[str, QuantizationParameters],
    coded: CodedWeights | None = None,
    bias_shifts: Mapping[str, NDArray[Any]] | None = None,
) -> ir.Model:
    """Write the plan's Q/DQ pairs and the codes of its weights into `model`, and return it.

    Args:
        model: The prepared graph that the plan was made for.
        plan: What to quantize.
        parameters: Scale and zero-point by the name of each activation's `scale_from`.
        coded: The plan's weights as codes; int8 by channel if left out.
        bias_shifts: What to add to the bias of Conv and Gemm nodes, [output channels], by name.

    Raises:
        QuantizationError: The plan names a tensor that the graph lacks.
    """
    if coded is None:
        coded = WeightCoding().encode_all(model.graph, plan.weights)
    writer = _Writer(model, plan, coded)
    for name, shift in (bias_shifts or {}).items():
        writer.shift_bias(name, shift)
    return writer.write(parameters)


class _Writer:
    def __init__(self, model: ir.Model, plan: Plan, coded: CodedWeights) -> None:
        self._coded = coded
        self._model = model
        self._graph = model.graph
        self._plan = plan
        # Nodes inside If or Loop stay float, yet may read a tensor from outside.
        self._nodes = {node.name: node for node in self._graph.all_nodes()}
        self._values = values_by_name(self._graph)
        self._computing = {weight.reader.node for weight in plan.weights}
        self._offsets: dict[str, float] = {}
        self._dequantized: dict[tuple[str, int | None], ir.Value] = {}

    def write(self, parameters: Mapping[str, QuantizationParameters]) -> ir.Model:
        for activation in self._plan.activations:
            self._insert(activation, parameters[activation.scale_from])
        for weight in self._plan.weights:
            self._replace_weight(weight)
        for bias in self._plan.biases:
            self._replace_bias(bias, parameters[bias.data].scale)
        if not self._plan.symmetric:
            keep_weights_float(self._graph, self._plan.floats)
        for name in self._plan.products:
            write_as_matmul(self._graph, self._nodes[name])
        self._note_reasons()
        drop_unused_initializers(self._graph)
        NameFixPass()(self._model)  # a tensor of the model may be called like one of a new pair
        return self._model

    def _note_reasons(self) -> None:
        """Leave with each node why it stays float, for whoever audits the file."""
        for node in self._plan.floats:
            if node.name in self._nodes:
                self._nodes[node.name].metadata_props[FLOAT_REASON] = node.reason

    def shift_bias(self, name: str, shift: NDArray[Any]) -> None:
        """Add `shift` to the bias of a node, which gets one if it has none."""
        add_to_bias(self._graph, self._nodes[name], shift)

    def _insert(self, activation: Activation, parameters: QuantizationParameters) -> None:
        """Insert what an activation needs, and let its readers read the dequantized value."""
        source = self._values.get(activation.tensor)
        if source is None:
            raise QuantizationError(
                f"tensor {activation.tensor!r} is not in the graph; plan and graph differ"
            )
        if self._plan.symmetric and parameters.zero_point.any():
            self._insert_with_offset(activation, source, parameters)
            return
        dequantized = self._insert_pair(source, parameters)
        for reader in activation.readers:
            self._nodes[reader.node].replace_input_with(reader.position, dequantized)
        if activation.feeds_output:
            self._hand_over_output(source, dequantized)

    def _insert_with_offset(
        self, activation: Activation, source: ir.Value, parameters: QuantizationParameters
    ) -> None:
        """Quantize a tensor plus an offset, which its readers take off again."""
        offset = offset_of(parameters)
        moved = self._plus(source, offset, offset_name(activation.tensor))
        dequantized = self._insert_pair(moved, without_zero_point(parameters))
        others = [reader for reader in activation.readers if reader.node not in self._computing]
        if others:
            restored = self._plus(dequantized, -offset, f"{activation.tensor}_restored")
        for reader in activation.readers:
            value = restored if reader in others else dequantized
            self._nodes[reader.node].replace_input_with(reader.position, value)
            if reader not in others:
                self._offsets[reader.node] = offset  # for when its weights are rounded

    def _plus(self, value: ir.Value, term: float, name: str) -> ir.Value:
        """Return the output of a new Add of a constant to `value`."""
        by = add_initializer(self._graph, f"{name}_by", np.array(term, np.float32))
        node = ir.node(
            "Add", [value, by], name=name, outputs=[ir.val(name, ir.DataType.FLOAT, value.shape)]
        )
        place_after(self._graph, value, [node])
        return node.outputs[0]

    def _insert_pair(self, source: ir.Value, parameters: QuantizationParameters) -> ir.Value:
        """Return the dequantized value of `source`, behind a new pair."""
        name = source.name
        scale = add_initializer(self._graph, f"{name}_scale", parameters.scale)
        zero_point = add_initializer(self._graph, f"{name}_zero_point", parameters.zero_point)
        quantized = ir.node(
            "QuantizeLinear",
            [source, scale, zero_point],
            name=f"{name}_QuantizeLinear",
            outputs=[ir.val(f"{name}_quantized", zero_point.dtype, source.shape)],
        )
        dequantized = ir.node(
            "DequantizeLinear",
            [quantized.outputs[0], scale, zero_point],
            name=f"{name}_DequantizeLinear",
            outputs=[ir.val(f"{name}_dequantized", ir.DataType.FLOAT, source.shape)],
        )
        place_after(self._graph, source, [quantized, dequantized])
        return dequantized.outputs[0]

    def _hand_over_output(self, source: ir.Value, dequantized: ir.Value) -> None:
        """Let the graph output of `source` be `dequantized`, under the output's own name."""
        position = list(self._graph.outputs).index(source)
        name, source.name = source.name, f"{source.name}_float"
        self._graph.outputs[position] = dequantized
        dequantized.name = name

    def _replace_weight(self, weight: Weight) -> None:
        node = self._nodes[weight.reader.node]
        key = (weight.tensor, weight.axis)
        coded = self._coded[key]
        if key not in self._dequantized:
            value = node.inputs[weight.reader.position]
            assert value is not None  # the plan was made from this graph
            suffix = "" if weight.axis is None else f"_axis{weight.axis}"
            self._dequantized[key] = self._constant_pair(f"{value.name}{suffix}", coded)
        if offset := self._offsets.get(weight.reader.node):
            assert weight.axis is not None  # it takes no offset in front of others
            shift = offset_at_output(coded.codes, coded.parameters, weight.axis, -offset)
            self.shift_bias(weight.reader.node, shift)
        node.replace_input_with(weight.reader.position, self._dequantized[key])

    def _replace_bias(self, bias: Bias, data_scale: NDArray[Any]) -> None:
        """Store a bias as int32 in steps of input scale x weight scale, as QGemm adds it."""
        node, position = self._nodes[bias.reader.node], bias.reader.position
        array = constant(node.inputs[position]) if position < len(node.inputs) else None
        if array is None:  # it has none, and needed no correction
            return
        weight = self._coded[bias.weight.tensor, bias.weight.axis]
        scale = np.atleast_1d(data_scale * weight.parameters.scale).astype(np.float32)
        limits = np.iinfo(np.int32)
        codes = np.clip(np.rint(array / scale), limits.min, limits.max).astype(np.int32)
        parameters = QuantizationParameters(scale, np.zeros(scale.shape, np.int32))
        coded = CodedWeight(codes, parameters, axis=0)
        name = f"{bias.tensor}_{bias.reader.node}"
        node.replace_input_with(position, self._constant_pair(name, coded))

    def _constant_pair(self, name: str, coded: CodedWeight) -> ir.Value:
        """Return the output of a new DequantizeLinear over codes."""
        codes, parameters, axis = coded
        attributes = {} if axis is None else {"axis": axis}
        if axis is not None and parameters.scale.ndim > 1:
            attributes["block_size"] = codes.shape[axis] // parameters.scale.shape[axis]
        inputs = [
            add_initializer(self._graph, f"{name}_quantized", codes),
            add_initializer(self._graph, f"{name}_scale", parameters.scale),
            add_initializer(self._graph, f"{name}_zero_point", parameters.zero_point),
        ]
        dequantized = ir.node(
            "DequantizeLinear",
            inputs,
            attributes,
            name=f"{name}_DequantizeLinear",
            outputs=[ir.val(f"{name}_dequantized", ir.DataType.FLOAT, codes.shape)],
        )
        # Before the first node, since several nodes may share one weight.
        self._graph.insert_before(self._graph[0], dequantized)
        return dequantized.outputs[0]
