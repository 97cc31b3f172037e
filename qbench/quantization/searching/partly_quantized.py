"""The float model with some tensors of a plan quantized, whose scales are given at each run.

Judging a choice of scales by writing and loading a whole model costs far more than running it. So
the graph is loaded once, with scales and zero-points as inputs; any choice is then one run. There
are two kinds:

- for a few tensors, together with the weights that meet them, which are inputs too: it computes
  what the Q/DQ model would, except for INT32 biases, which stay float, and is hardly slower than
  plain inference;
- for all tensors, with float weights: half as fast, but loaded once.

Each tensor is behind a switch, unless it is the only one. What slows down is that switches keep
ONNX Runtime from fusing operators.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qbench.data.samples import Sample
from qbench.model.graph import constant, names_in, place_after, unused_name, values_by_name
from qbench.placement.analysis import channel_axis, weight_axis
from qbench.placement.plan import Activation, Plan, Reader
from qbench.quantization.corrections import own_bias
from qbench.quantization.numerics import QuantizationParameters
from qbench.quantization.searching.judged_outputs import JudgedOutputs
from qbench.runtimes.base import Tensors
from qbench.runtimes.cpu import usable_cores
from qbench.runtimes.ort.graphs import open_graph

Feeds = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Setting:
    """How tensors are quantized, and what their readers' weights are.

    Attributes:
        activations: Scale and zero-point by `Activation.scale_from`; tensors that are not named
            stay float. A scale of [channels] stands for an equalized tensor, which none is that
            data movement carries on.
        constants: Values of weights (position 1) and biases (2) of nodes that read these tensors,
            float32; those that are missing are the model's own.
    """

    activations: Mapping[str, QuantizationParameters]
    constants: Mapping[Reader, NDArray[Any]] = field(default_factory=dict)


class PartlyQuantized:
    """Runs a model with some of its tensors quantized.

    Args:
        graph: The prepared float graph that `plan` was made for; it is left alone.
        plan: What may be quantized.
        tensors: What may be quantized, by `Activation.scale_from`, each behind a switch unless it
            is the only one, which always is; None for all of them, with float weights.
        outputs: What is asked of it.
    """

    def __init__(
        self,
        graph: ir.Model,
        plan: Plan,
        tensors: Collection[str] | None = None,
        outputs: JudgedOutputs | None = None,
    ) -> None:
        builder = _Builder(graph.clone(), plan, tensors)
        asked = (outputs or JudgedOutputs()).of(builder.build())
        self._runner = open_graph(asked, threads=1, simulate=True)
        self._pool = ThreadPoolExecutor(usable_cores())  # once: runs are many, of few samples
        self._defaults, self._names = builder.feeds, builder.names

    def run(self, setting: Setting, samples: Sequence[Sample]) -> Iterator[Tensors]:
        """Yield the outputs for one sample after the other, while the next ones are computed."""
        chosen = self._defaults | self._feeds(setting)
        feeds = {self._names[key]: array for key, array in chosen.items()}
        yield from self._pool.map(lambda s: self._runner.run(feeds | dict(s.feeds)), samples)

    def _feeds(self, setting: Setting) -> Feeds:
        feeds: Feeds = {}
        for tensor, parameters in setting.activations.items():
            shape = self._defaults[f"{tensor}/scale"].shape
            feeds[f"{tensor}/scale"] = np.broadcast_to(parameters.scale, shape).copy()
            feeds[f"{tensor}/zero_point"] = np.broadcast_to(parameters.zero_point, shape).copy()
            if f"{tensor}/is_on" in self._defaults:
                feeds[f"{tensor}/is_on"] = np.array(True)
        feeds.update((_constant_name(reader), array) for reader, array in setting.constants.items())
        return feeds


class _Builder:
    """Inserts Q/DQ, and turns scales, switches, weights and biases into inputs.

    Attributes:
        feeds: What the inputs are unless they are given, by key: `x/scale` for tensor x.
        names: Of the inputs, by key; the model may have a tensor that is called like one.
    """

    def __init__(self, model: ir.Model, plan: Plan, tensors: Collection[str] | None) -> None:
        self._model, self._plan = model, plan
        self._has_switches = tensors is None or len(tensors) > 1
        self._has_float_weights = tensors is None
        chosen = plan.observed if tensors is None else tensors
        self._activations = [one for one in plan.activations if one.scale_from in chosen]
        self._graph = model.graph
        self._values = values_by_name(self._graph)
        self._nodes = {node.name: node for node in self._graph.all_nodes()}
        self._taken = names_in(self._graph)
        self.feeds: Feeds = {}
        self.names: dict[str, str] = {}
        self._inputs: dict[str, ir.Value] = {}

    def build(self) -> ir.Model:
        for activation in self._activations:
            self._quantize(activation)
        if self._has_float_weights:
            return self._model
        reading = {reader for one in self._activations for reader in one.readers}
        for weight in self._plan.weights:
            if Reader(weight.reader.node, 0) in reading:
                self._turn_into_inputs(self._nodes[weight.reader.node])
        return self._model

    def _quantize(self, activation: Activation) -> None:
        source = self._values[activation.tensor]
        nodes = self._pair(source, activation.scale_from)
        if self._has_switches:
            nodes = (self._switch(activation, source, nodes),)
        result = nodes[-1].outputs[0]
        result.type = ir.TensorType(ir.DataType.FLOAT)
        place_after(self._graph, source, nodes)
        for reader in activation.readers:
            self._nodes[reader.node].replace_input_with(reader.position, result)
        if activation.feeds_output:
            name, source.name = source.name, self._new_name(f"{source.name}_float")
            self._graph.outputs[list(self._graph.outputs).index(source)] = result
            result.name = name

    def _pair(self, source: ir.Value, tensor: str) -> tuple[ir.Node, ...]:
        scale, zero_point, axis = self._pair_inputs(tensor)
        attributes = {} if axis is None else {"axis": axis}
        inputs = [scale, zero_point]
        codes = self._node("QuantizeLinear", tensor, [source, *inputs], attributes)
        rounded = self._node("DequantizeLinear", tensor, [codes.outputs[0], *inputs], attributes)
        return codes, rounded

    def _switch(
        self, activation: Activation, source: ir.Value, pair: tuple[ir.Node, ...]
    ) -> ir.Node:
        tensor = activation.tensor
        branches = {
            "then_branch": _branch(*pair),
            "else_branch": _branch(self._node("Identity", tensor, [source])),
        }
        is_on = self._input(f"{activation.scale_from}/is_on", np.array(False))
        return self._node("If", tensor, [is_on], branches)

    def _pair_inputs(self, tensor: str) -> tuple[ir.Value, ir.Value, int | None]:
        value = self._values[tensor]
        axis = None if self._plan.is_carried_on(tensor) else channel_axis(value)
        size = None if axis is None or value.shape is None else value.shape[axis]
        shape = (size,) if isinstance(size, int) else ()
        code = np.int8 if self._plan.symmetric else np.uint8
        return (
            self._input(f"{tensor}/scale", np.ones(shape, np.float32)),
            self._input(f"{tensor}/zero_point", np.zeros(shape, code)),
            axis if shape else None,
        )

    def _turn_into_inputs(self, node: ir.Node) -> None:
        weight, axis, place = constant(node.inputs[1]), weight_axis(node), own_bias(node)
        assert weight is not None  # the plan holds constant weights only
        self._replace(Reader(node.name or "", 1), weight)
        if place is None:
            return
        bias = place.array
        if bias is None:
            assert axis is not None  # weights of Conv and Gemm have one
            bias = np.zeros(weight.shape[axis], np.float32)
            node.resize_inputs(place.position + 1)
        self._replace(Reader(node.name or "", place.position), bias)

    def _replace(self, reader: Reader, array: NDArray[Any]) -> None:
        value = self._input(_constant_name(reader), array)
        self._nodes[reader.node].replace_input_with(reader.position, value)

    def _input(self, key: str, default: NDArray[Any]) -> ir.Value:
        if key not in self._inputs:
            self.feeds[key], self.names[key] = default, self._new_name(key)
            dtype = ir.DataType.from_numpy(default.dtype)
            self._inputs[key] = ir.val(self.names[key], dtype, default.shape)
            self._graph.inputs.append(self._inputs[key])
        return self._inputs[key]

    def _node(
        self,
        op_type: str,
        tensor: str,
        inputs: Sequence[ir.Value],
        attributes: Mapping[str, Any] | None = None,
    ) -> ir.Node:
        """Return a node whose output is named for the tensor that it quantizes."""
        output = ir.val(self._new_name(f"{tensor}/{op_type}"))
        return ir.node(op_type, inputs, attributes, outputs=[output])

    def _new_name(self, name: str) -> str:
        """Return `name`, or one like it that the model has not."""
        name = unused_name(name, self._taken)
        self._taken.add(name)
        return name


def _branch(*nodes: ir.Node) -> ir.Graph:
    output = nodes[-1].outputs[0]
    output.type = ir.TensorType(ir.DataType.FLOAT)
    return ir.Graph([], [output], nodes=nodes, name=output.name)


def _constant_name(reader: Reader) -> str:
    return f"{reader.node}/{reader.position}"
