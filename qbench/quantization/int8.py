"""Static INT8: placement, scales, bias correction and equalization, put together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qbench.calibration.given import GivenRanges
from qbench.calibration.ranges import Range, mse_behind
from qbench.calibration.statistics import TensorStatistics
from qbench.calibration.table import CalibrationTable
from qbench.errors import UsageError
from qbench.model.graph import constant, values_by_name
from qbench.model.load import Model
from qbench.model.prepare import prepare
from qbench.model.shapes import Macs, bound_to_one, macs_of
from qbench.placement.analysis import DATA_MOVEMENT, saturating_reader
from qbench.placement.cpu import moves
from qbench.placement.cut import Divider, divider_of, faster_in_float
from qbench.placement.plan import Plan
from qbench.placement.targets import place, quicker_in_float, suited
from qbench.quantization.bias_room import with_room_for_biases
from qbench.quantization.choice import Choice
from qbench.quantization.corrections import bias_shifts
from qbench.quantization.equalization import equalize, equalized_name
from qbench.quantization.fallback import Work, work_of
from qbench.quantization.numerics import (
    QuantizationParameters,
    asymmetric,
    symmetric,
    with_offset,
)
from qbench.quantization.padding import pad_in_front
from qbench.quantization.qdq import write_qdq
from qbench.quantization.weights import WeightCoding
from qbench.runtimes.cpu import adds_in_32_bits, read_cpuinfo

DEFAULT_METHOD = "mse"

EFFORTS = ("fast", "balanced", "thorough")
"""How long to search for better ranges and for nodes that stay float; see `search.BUDGETS`."""

_NON_NEGATIVE = {"HardSigmoid", "Relu", "Sigmoid", "Softmax"}
"""Operators that write no negative values."""


@dataclass(frozen=True)
class Int8Options:
    """How to quantize to INT8.

    Attributes:
        method: Range method of activations; a key of `calibration.ranges.METHODS`.
        exclude: Shell wildcards of node names that stay float.
        saturates: Whether the CPU adds pairs of products in 16 bits, as x86 without VNNI does; None
            asks this machine's. It matters for target `cpu` alone.
        effort: One of `EFFORTS`.
        on_progress: Told how far a search is; it changes nothing.
    """

    method: str = DEFAULT_METHOD
    exclude: Sequence[str] = ()
    saturates: bool | None = None
    effort: str = "balanced"
    # Hidden, since what a search found is kept under the options' text.
    on_progress: Callable[[int, int], None] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the effort.

        Raises:
            UsageError: It is unknown.
        """
        if self.effort not in EFFORTS:
            choices = ", ".join(EFFORTS)
            raise UsageError(f"unknown effort {self.effort!r}; choose one of {choices}")


@dataclass(frozen=True)
class Int8Graph:
    """A quantized graph.

    Attributes:
        ir: The graph with its Q/DQ nodes.
        plan: What was quantized, and what stays float and why.
        mac_fraction: Share of multiply-accumulates in quantized nodes; None where that is unknown.
        uncounted: Nodes that multiply, too, but whose multiply-accumulates are not known.
        rewritten: What else was changed for the target's sake; see `targets`.
    """

    ir: ir.Model
    plan: Plan
    mac_fraction: float | None
    uncounted: tuple[str, ...] = ()
    rewritten: tuple[str, ...] = ()


SATURATING_ISA = MappingProxyType({"avx2": True, "avx512": True, "vnni": False, "arm": False})
"""Whether CPUs with these instructions add products in 16 bits; AMX counts as `vnni`."""


def saturates(target: str, options: Int8Options) -> bool:
    """Return whether weights have to leave room for the sums of pairs; see `product_pairs`."""
    if target != "cpu":
        return False
    asked = options.saturates
    return not adds_in_32_bits(read_cpuinfo()) if asked is None else asked


@dataclass
class Quantizer:
    """Quantizes one model for one target under any `Choice`.

    Attributes:
        model: The float model.
        target: A key of `placement.targets.TARGETS`.
        table: Its calibration table, or ranges that another tool found.
        options: How to quantize.
        prepared: The model, prepared.
        plan: What is quantized as long as no node is kept float by choice: what the target can,
            but for nodes that take no less time on integers.
        work: Its multiplications.

    Raises:
        CalibrationError: The table was made from another model, or ranges of tensors are missing.
        ModelError: The model is quantized already, or has nothing to quantize.
        UsageError: Target or method is unknown, or a pattern matches no node.
    """

    model: Model
    target: str
    table: CalibrationTable | GivenRanges
    options: Int8Options
    prepared: Model = field(init=False)
    plan: Plan = field(init=False)
    work: Work = field(init=False)

    def __post_init__(self) -> None:
        self.table.check_model(self.model.sha256, str(self.model.path))
        self.prepared, self._rewritten = prepare(self.model), tuple[str, ...]()
        if not isinstance(self.table, GivenRanges):  # which are of the model's own tensors
            self.prepared, self._rewritten = suited(self.prepared, self.target)
        self._bound = bound_to_one(self.prepared, self.table.image_size)
        self._macs = macs_of(self.prepared, self._bound) or Macs({})
        self._faster_in_float: dict[str, str] = {}
        self.plan = self._place({})
        self._images = frozenset[str]()
        if self.plan.symmetric:
            padded, self._images = pad_in_front(self.prepared.ir, self.plan, self._wants_offset)
        if self._images:
            self.prepared = replace(self.prepared, ir=padded)
            self.plan = self._place({})
        self._faster_in_float = faster_in_float(self._bound, self.plan, self._macs.by_node)
        if self._faster_in_float:
            self.plan = self._place({})
        self.work = work_of(self.prepared.ir.graph, self.plan, self._macs.by_node)
        self._values = values_by_name(self.prepared.ir.graph)
        self._known: dict[str, Range] = {}
        if isinstance(self.table, GivenRanges):
            observed = self.plan.observed
            missing = [tensor for tensor in observed if self.source_of(tensor) not in self.table]
            self.table.check_tensors(observed, missing)

    @property
    def saturates(self) -> bool:
        """Whether weights have to leave room for the sums of pairs; see `product_pairs`."""
        return saturates(self.target, self.options)

    def graph(self, choice: Choice) -> Int8Graph:
        """Return the graph that `choice` makes."""
        graph, plan = self.placed(choice)
        origins = {equalized_name(tensor): tensor for tensor in choice.factors}

        def means(tensor: str) -> NDArray[np.float64] | None:
            origin = origins.get(tensor, tensor)
            found = self.channel_means(origin)
            return found if found is None or tensor == origin else found / choice.factors[origin]

        parameters = self.parameters(plan, choice)
        coding = WeightCoding(codes=choice.codes, saturates=self.saturates)
        coded = coding.encode_all(graph.graph, plan.weights)
        shifts = bias_shifts(graph.graph, plan, means, coded)
        if not plan.symmetric:
            coded = with_room_for_biases(graph.graph, plan, parameters, coded, shifts)
        own = graph if choice.factors else graph.clone()  # equalized, it is a copy already
        quantized = write_qdq(own, plan, parameters, coded, shifts)
        rewritten = self._rewritten + quicker_in_float(quantized, self.target)
        share = self.work.int8_fraction(plan)
        return Int8Graph(quantized, plan, share, self._macs.uncounted, rewritten)

    def placed(self, choice: Choice) -> tuple[ir.Model, Plan]:
        """Return the float graph that `choice` makes, equalized, and what is quantized in it."""
        graph = self.prepared.ir
        if choice.factors:
            graph = equalize(graph, choice.factors, self.plan.quantized, self.plan.observed)
        return graph, self._place(choice.float_nodes, graph)

    def divider(self, noise: Mapping[str, float]) -> Divider | None:
        """Return what divides the plan between float and integers; see `placement.cut`."""
        return divider_of(self._bound, self.plan, self._macs.by_node, noise)

    def ranges(self) -> dict[str, Range]:
        """Return what the range method chooses for each tensor that the plan observes."""
        return {tensor: self._range(tensor) for tensor in self.plan.observed}

    def ranges_by(self, method: str) -> dict[str, Range]:
        """Return what another range method chooses for each tensor that the plan observes."""
        return {tensor: self._found_range(tensor, method) for tensor in self.plan.observed}

    def observed_statistics(self) -> dict[str, TensorStatistics]:
        """Return the statistics of each tensor that the plan observes."""
        return {tensor: self.statistics_of(tensor) for tensor in self.plan.observed}

    def statistics_of(self, tensor: str) -> TensorStatistics:
        """Return the statistics of a tensor that the plan observes."""
        assert not isinstance(self.table, GivenRanges)  # which hold none
        return self.table.statistics_of(self.source_of(tensor))

    def channel_means(self, tensor: str) -> NDArray[np.float64] | None:
        """Return the mean of each channel of a tensor, [channels]; None where it is not known."""
        known = self.table.statistics.get(self.source_of(tensor))
        return None if known is None else known.channel_means

    def source_of(self, tensor: str) -> str:
        """Return the tensor whose statistics, or given range, hold for `tensor`.

        Itself, as a rule. Where data movement follows a node that stays float after all, only the
        values before the movement were observed; they are the same, but for the zeros of a Pad.
        """
        while tensor not in self.table and tensor in self._values:
            writer = self._values[tensor].producer()
            if writer is None or not (moves(writer) or writer.op_type == "Pad"):
                break
            source = writer.inputs[0]
            tensor = (source.name or "") if source is not None else ""
        return tensor

    def parameters(self, plan: Plan, choice: Choice) -> dict[str, QuantizationParameters]:
        """Return scale and zero-point of each tensor that `plan` observes."""
        chosen = {tensor: choice.ranges.get(tensor) for tensor in plan.observed}
        return {
            tensor: activation_parameters(plan, tensor, clip or self._range(tensor))
            for tensor, clip in chosen.items()
        }

    def _wants_offset(self, tensor: str) -> bool:
        if isinstance(self.table, GivenRanges) or tensor not in self.table:
            return False
        clip = self.table.range_of(tensor, "minmax", symmetric=False)
        return bool(with_offset(*clip).zero_point)

    def _place(self, float_nodes: Mapping[str, str], graph: ir.Model | None = None) -> Plan:
        model = self.prepared if graph is None else replace(self.prepared, ir=graph)
        floats = {**self._faster_in_float, **float_nodes}
        return place(model, self.target, self.options.exclude, floats)

    def _range(self, tensor: str) -> Range:
        if tensor not in self._known:
            self._known[tensor] = self._found_range(tensor, self.options.method)
        return self._known[tensor]

    def _found_range(self, tensor: str, method: str) -> Range:
        source, symmetric = self.source_of(tensor), self.plan.is_symmetric(tensor)
        value = self._values.get(source)
        if isinstance(self.table, GivenRanges):
            low, high = self.table.ranges[source]
            is_one_sided = not symmetric and _is_non_negative(value)
            return (0.0 if is_one_sided else low, high)
        # Of all of its range, so that each level of an image is a code.
        method = "minmax" if tensor in self._images else method
        function = saturating_reader(value) if value is not None else None
        if function is None or method != DEFAULT_METHOD or self.plan.symmetric:
            return self.table.range_of(source, method, symmetric=symmetric)
        return mse_behind(self.table.statistics_of(source), function)


def activation_parameters(plan: Plan, tensor: str, clip: Range) -> QuantizationParameters:
    """Return scale and zero-point of a tensor that `plan` observes, for its clipping range."""
    if not plan.symmetric:
        return asymmetric(*clip)
    return (symmetric if plan.is_symmetric(tensor) else with_offset)(*clip)


def _is_non_negative(value: ir.Value | None) -> bool:
    """Return whether a tensor cannot be negative; a symmetric range would waste half its codes."""
    node = value.producer() if value is not None else None
    if node is None:
        return False
    if node.op_type == "Clip":
        low = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        return low is not None and bool(low >= 0)
    keeps_sign = node.op_type in DATA_MOVEMENT | {"AveragePool", "GlobalAveragePool"}
    return node.op_type in _NON_NEGATIVE or (keeps_sign and _is_non_negative(node.inputs[0]))
