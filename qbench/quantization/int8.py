"""Static INT8: placement, scales, bias correction and the float fallback, put together."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from qbench.calibration.calibrate import DataChoice, open_choice
from qbench.calibration.ranges import Range, mse_behind
from qbench.calibration.table import CalibrationTable
from qbench.data.samples import Sample
from qbench.errors import DataError, UsageError
from qbench.model.load import Model
from qbench.model.prepare import prepare
from qbench.model.shapes import macs_of
from qbench.placement.analysis import COMPUTE, DATA_MOVEMENT, saturating_reader
from qbench.placement.plan import Plan
from qbench.placement.targets import place
from qbench.quantization.corrections import bias_shifts
from qbench.quantization.fallback import (
    TARGET_NOISE,
    Judge,
    decibels,
    find_culprits,
    nodes_to_free,
)
from qbench.quantization.numerics import QuantizationParameters, asymmetric, symmetric
from qbench.quantization.qdq import write_qdq
from qbench.runtimes.cpu import adds_in_32_bits, read_cpuinfo

logger = logging.getLogger(__name__)

DEFAULT_METHOD = "mse"

EFFORTS = {"fast": 0, "balanced": 4, "thorough": 16}
"""Calibration samples on which the output is compared with the float model's; 0 for no fallback."""

_LEAST_SHARE = 0.95
"""The fallback leaves this share of all compute nodes and of their work in INT8, or of the planned
ones where the plan has less ..."""

_HARM = 0.1
"""A relative noise power of the output, 10 dB, of which the user is warned."""

_RUIN = 0.3
"""... unless the output is ruined otherwise: a relative noise power of 5 dB."""


@dataclass(frozen=True)
class Int8Options:
    """How to quantize to INT8.

    Attributes:
        method: Range method of activations; a key of `calibration.ranges.METHODS`.
        exclude: Shell wildcards of node names that stay float.
        weight_bits: 8, 7, or None to choose 7 for target `cpu` on a CPU without VNNI.
        effort: A key of `EFFORTS`.
    """

    method: str = DEFAULT_METHOD
    exclude: Sequence[str] = ()
    weight_bits: int | None = None
    effort: str = "balanced"

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
        output_sqnr_db: Signal-to-noise ratio of the outputs against the float model on calibration
            samples, in dB; None where it was not measured.
    """

    ir: ir.Model
    plan: Plan
    mac_fraction: float | None
    output_sqnr_db: float | None = None


def to_int8(model: Model, target: str, table: CalibrationTable, options: Int8Options) -> Int8Graph:
    """Quantize a float model; nodes that would ruin the output stay float.

    Raises:
        CalibrationError: The table was made from another model.
        ModelError: The model is quantized already, or has nothing to quantize.
        UsageError: Target or method is unknown, or a pattern matches no node.
    """
    table.check_model(model.sha256, str(model.path))
    search = _Search(prepare(model), target, table, options)
    first = search.attempt({})
    samples = _samples(model, table, EFFORTS[options.effort])
    return search.mended(first, samples) if samples else first


def default_weight_bits(target: str) -> int:
    """Return 7 where full-range int8 weights would saturate, else 8.

    x86 without VNNI adds pairs of uint8 x int8 products in 16 bits (VPMADDUBSW): 2 x 255 x 127
    overflows them, 2 x 255 x 63 does not.
    """
    return 7 if target == "cpu" and not adds_in_32_bits(read_cpuinfo()) else 8


@dataclass
class _Search:
    """Quantizes one model with more or fewer float nodes."""

    prepared: Model
    target: str
    table: CalibrationTable
    options: Int8Options
    macs: dict[str, int] = field(init=False)
    values: dict[str, ir.Value] = field(init=False)
    nodes: dict[str, ir.Node] = field(init=False)
    scales: dict[str, QuantizationParameters] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        graph = self.prepared.ir.graph
        self.nodes = {node.name or "": node for node in graph}
        self.values = {v.name or "": v for node in graph for v in node.outputs}
        self.macs = macs_of(self.prepared, self.table.header.image_size)

    def attempt(self, float_nodes: Mapping[str, str]) -> Int8Graph:
        """Return the graph with `float_nodes` (names with reasons) left float."""
        plan = place(self.prepared, self.target, self.options.exclude, float_nodes)
        bits = self.options.weight_bits or default_weight_bits(self.target)
        graph = self.prepared.ir
        shifts = bias_shifts(graph.graph, plan, self.table.statistics, bits)
        quantized = write_qdq(graph, plan, self.parameters(plan), bits, shifts)
        return Int8Graph(quantized, plan, self._mac_fraction(plan))

    def parameters(self, plan: Plan) -> dict[str, QuantizationParameters]:
        """Return scale and zero-point of every tensor that the plan observes."""
        convert = symmetric if plan.symmetric else asymmetric
        for tensor in plan.observed:
            if tensor not in self.scales:
                self.scales[tensor] = convert(*self._range(tensor, is_symmetric=plan.symmetric))
        return {tensor: self.scales[tensor] for tensor in plan.observed}

    def _range(self, tensor: str, *, is_symmetric: bool) -> Range:
        known = self._observed_source(tensor)
        value = self.values.get(known)
        function = saturating_reader(value) if value is not None else None
        method = self.options.method
        if function is None or method != DEFAULT_METHOD or is_symmetric:
            return self.table.range_of(known, method, symmetric=is_symmetric)
        return mse_behind(self.table.statistics[known], function)

    def _observed_source(self, tensor: str) -> str:
        """Return the tensor whose statistics hold for `tensor`.

        Itself, as a rule. Where data movement follows a node that stays float after all, only the
        values before the movement were observed; they are the same.
        """
        while tensor not in self.table.statistics and tensor in self.values:
            writer = self.values[tensor].producer()
            if writer is None or writer.op_type not in DATA_MOVEMENT | {"Resize", "Split"}:
                break
            source = writer.inputs[0]
            tensor = (source.name or "") if source is not None else ""
        return tensor

    def mended(self, first: Int8Graph, samples: Sequence[Sample]) -> Int8Graph:
        """Return `first`, or what is better with the culprits of its noise left float."""
        graph = self.prepared.ir
        judge = Judge(graph, samples)
        if not judge.can_judge:
            return first
        best, noise = first, judge.noise(first.ir)
        if noise <= TARGET_NOISE:
            return _with_noise(first, noise)
        culprits = find_culprits(graph, first.plan, self.parameters(first.plan), judge)
        freed: dict[str, str] = {}
        for tensor, alone in culprits.items():
            reason = (
                f"in INT8, tensor {tensor} alone would leave {decibels(alone):.0f} dB of output"
            )
            more = dict.fromkeys(nodes_to_free(graph, first.plan, tensor), reason) | freed
            candidate = self.attempt(more)
            if noise < _RUIN and self._share_kept(candidate, first) < _LEAST_SHARE:
                continue
            # Kept even where the output is no better yet: while several tensors ruin it, freeing
            # one of them shows nothing.
            freed = more
            candidate_noise = judge.noise(candidate.ir)
            if candidate_noise < noise:
                best, noise = candidate, candidate_noise
            if noise <= TARGET_NOISE:
                break
        if noise > _HARM:
            logger.warning(
                "INT8 leaves only %.0f dB of signal to noise at this model's output; "
                "judge its accuracy before use, leave more nodes float (--exclude) or use --fp16",
                decibels(noise),
            )
        return _with_noise(best, noise)

    def _share_kept(self, candidate: Int8Graph, first: Int8Graph) -> float:
        """Return the share of compute nodes or of their work, the less, that stays in INT8."""
        every = [node.name or "" for node in self.nodes.values() if node.op_type in COMPUTE]
        before = [name for name in every if name in set(first.plan.quantized)]
        after = [name for name in every if name in set(candidate.plan.quantized)]
        work = [sum(self.macs.get(name, 0) for name in names) for names in (after, before, every)]
        return min(_share(len(after), len(before), len(every)), _share(*work))

    def _mac_fraction(self, plan: Plan) -> float | None:
        total = sum(self.macs.values())
        quantized = sum(self.macs.get(name, 0) for name in plan.quantized)
        return quantized / total if total else None


def _share(after: int, before: int, whole: int) -> float:
    """Return the share of the whole that is kept; of `before`, where that was less already."""
    base = whole if before >= _LEAST_SHARE * whole else before
    return after / base if base else 1.0


def _with_noise(result: Int8Graph, noise: float) -> Int8Graph:
    return Int8Graph(result.ir, result.plan, result.mac_fraction, decibels(noise))


def _samples(model: Model, table: CalibrationTable, count: int) -> list[Sample]:
    """Return some of the samples that the table was made from, where they still are."""
    if not count:
        return []
    path = Path(table.header.data.source)
    try:
        _, source = open_choice(model, DataChoice(path, table.header.recipe, limit=count))
        return [source.load(index) for index in range(len(source))]
    except DataError as error:
        logger.warning("the INT8 output was not compared with the float model: %s", error)
        return []
