"""The float graph with a switch at every tensor that a plan quantizes.

Judging a choice of scales by writing and loading a whole model costs far more than running it. So
the graph is loaded once, with all scales, switches and weights as inputs; any choice is then one
run. It computes what the Q/DQ model would, except for INT32 biases, which stay float here.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qbench.data.samples import Sample
from qbench.model.graph import constant
from qbench.placement.analysis import channel_axis
from qbench.placement.plan import Activation, Plan, Reader
from qbench.quantization.numerics import QuantizationParameters
from qbench.runtimes.base import Tensors
from qbench.runtimes.cpu import usable_cores
from qbench.runtimes.ort import open_graph

Feeds = dict[str, NDArray[Any]]

_BIAS = 2
"""Position of a Conv's and a Gemm's bias among its inputs."""


@dataclass(frozen=True)
class Setting:
    """One choice of what is quantized, and how.

    Attributes:
        activations: Scale and zero-point by `Activation.scale_from`; tensors that are missing stay
            float. A scale of [channels] stands for an equalized tensor.
        constants: Values of weights (position 1) and biases (2) of planned nodes, float32; those
            that are missing are the model's own.
    """

    activations: Mapping[str, QuantizationParameters] = field(default_factory=dict)
    constants: Mapping[Reader, NDArray[Any]] = field(default_factory=dict)


class Switchboard:
    """Runs a model under any `Setting`.

    Args:
        graph: The prepared float graph that `plan` was made for.
        plan: What may be quantized.
    """

    def __init__(self, graph: ir.Model, plan: Plan) -> None:
        builder = _Builder(graph.clone(), plan)
        self._runner = open_graph(builder.build(), threads=1, simulate=True)
        self._defaults = builder.feeds

    def run(self, setting: Setting, samples: Sequence[Sample]) -> list[Tensors]:
        """Return the outputs of every sample."""
        feeds = self._defaults | self._feeds(setting)
        with ThreadPoolExecutor(usable_cores()) as pool:
            return list(pool.map(lambda s: self._runner.run(feeds | dict(s.feeds)), samples))

    def _feeds(self, setting: Setting) -> Feeds:
        feeds: Feeds = {}
        for tensor, parameters in setting.activations.items():
            shape = self._defaults[f"{tensor}/scale"].shape
            feeds[f"{tensor}/scale"] = np.broadcast_to(parameters.scale, shape).copy()
            feeds[f"{tensor}/zero_point"] = np.broadcast_to(parameters.zero_point, shape).copy()
            feeds[f"{tensor}/is_on"] = np.array(True)
        feeds.update((_constant_name(reader), array) for reader, array in setting.constants.items())
        return feeds


class _Builder:
    """Turns scales, switches, weights and biases of a graph into inputs with default feeds."""

    def __init__(self, model: ir.Model, plan: Plan) -> None:
        self._model, self._plan = model, plan
        self._graph = model.graph
        self._values = {v.name: v for node in self._graph for v in node.outputs}
        self._values.update((value.name, value) for value in self._graph.inputs)
        self._nodes = {node.name: node for node in self._graph.all_nodes()}
        self._inputs: dict[str, ir.Value] = {}
        self.feeds: Feeds = {}

    def build(self) -> ir.Model:
        for activation in self._plan.activations:
            self._insert_switch(activation)
        for weight in self._plan.weights:
            self._turn_into_inputs(self._nodes[weight.reader.node])
        return self._model

    def _insert_switch(self, activation: Activation) -> None:
        source = self._values[activation.tensor]
        scale, zero_point, is_on, axis = self._switch_inputs(activation.scale_from)
        attributes = {} if axis is None else {"axis": axis}
        codes = ir.node("QuantizeLinear", [source, scale, zero_point], attributes)
        rounded = ir.node("DequantizeLinear", [codes.outputs[0], scale, zero_point], attributes)
        same = ir.node("Identity", [source])
        chosen = ir.node(
            "If",
            [is_on],
            {
                "then_branch": _branch(activation.tensor, codes, rounded),
                "else_branch": _branch(activation.tensor, same),
            },
        )
        chosen.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        producer = source.producer()
        if producer is None:
            self._graph.insert_before(self._graph[0], chosen)
        else:
            self._graph.insert_after(producer, chosen)
        for reader in activation.readers:
            self._nodes[reader.node].replace_input_with(reader.position, chosen.outputs[0])
        if activation.feeds_output:
            name, source.name = source.name, f"{source.name}_float"
            self._graph.outputs[list(self._graph.outputs).index(source)] = chosen.outputs[0]
            chosen.outputs[0].name = name

    def _switch_inputs(self, tensor: str) -> tuple[ir.Value, ir.Value, ir.Value, int | None]:
        value = self._values[tensor]
        axis = channel_axis(value)
        size = None if axis is None or value.shape is None else value.shape[axis]
        shape = (size,) if isinstance(size, int) else ()
        code = np.int8 if self._plan.symmetric else np.uint8
        return (
            self._input(f"{tensor}/scale", np.ones(shape, np.float32)),
            self._input(f"{tensor}/zero_point", np.zeros(shape, code)),
            self._input(f"{tensor}/is_on", np.array(False)),
            axis if shape else None,
        )

    def _turn_into_inputs(self, node: ir.Node) -> None:
        weight = constant(node.inputs[1])
        assert weight is not None  # the plan holds constant weights only
        self._replace(Reader(node.name or "", 1), weight)
        if node.op_type not in {"Conv", "Gemm"}:
            return
        bias = constant(node.inputs[_BIAS]) if len(node.inputs) > _BIAS else None
        if bias is None:
            transposed = node.op_type == "Gemm" and not node.attributes.get_int("transB", 0)
            bias = np.zeros(weight.shape[1 if transposed else 0], np.float32)
            node.resize_inputs(_BIAS + 1)
        self._replace(Reader(node.name or "", _BIAS), bias)

    def _replace(self, reader: Reader, array: NDArray[Any]) -> None:
        value = self._input(_constant_name(reader), array)
        self._nodes[reader.node].replace_input_with(reader.position, value)

    def _input(self, name: str, default: NDArray[Any]) -> ir.Value:
        if name not in self._inputs:
            dtype = ir.DataType.from_numpy(default.dtype)
            self._inputs[name] = ir.val(name, dtype, default.shape)
            self._graph.inputs.append(self._inputs[name])
            self.feeds[name] = default
        return self._inputs[name]


def _branch(tensor: str, *nodes: ir.Node) -> ir.Graph:
    for node in nodes:
        node.outputs[0].name = f"{tensor}/{node.op_type}"
    output = nodes[-1].outputs[0]
    output.type = ir.TensorType(ir.DataType.FLOAT)
    return ir.Graph([], [output], nodes=nodes, name=output.name)


def _constant_name(reader: Reader) -> str:
    return f"{reader.node}/{reader.position}"
