"""Static FP8 (E4M3) for TensorRT, on GPUs from Ada (sm89) on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from qbench.calibration.table import CalibrationTable
from qbench.formatting import counted
from qbench.model.graph import integer, static_shape
from qbench.model.load import Model
from qbench.model.passes.opset import raise_opset
from qbench.placement.plan import Plan
from qbench.placement.targets import place
from qbench.quantization.corrections import bias_shifts
from qbench.quantization.numerics import float8, per_channel_float8
from qbench.quantization.qdq import write_qdq
from qbench.quantization.searching.judge import judge_of, run_samples
from qbench.quantization.searching.noise import sqnr_from_noise, warn_of_harm
from qbench.quantization.searching.samples import samples_of
from qbench.quantization.weights import WeightCoding

_OPSET = 19
_JUDGED = 8
"""Calibration samples on which the outputs are compared with the float model's."""

_LEAST_CHANNELS = 16
"""TensorRT pads the channels of each group of a convolution to this many, so that a depthwise one
in FP8 multiplies zeros 15 times of 16."""


@dataclass(frozen=True)
class Fp8Graph:
    """A graph in FP8.

    Attributes:
        ir: The graph with its Q/DQ nodes.
        plan: What was quantized, and what stays float and why.
        output_sqnr_db: Signal-to-noise ratio of the outputs against the float model on calibration
            samples, in dB; None where they are gone.
    """

    ir: ir.Model
    plan: Plan
    output_sqnr_db: float | None


def to_fp8(prepared: Model, table: CalibrationTable, exclude: Sequence[str]) -> Fp8Graph:
    """Return a copy of a prepared model with FP8 Q/DQ pairs as TensorRT wants them.

    The largest magnitude, of an activation and of each weight channel, maps to 448. Nothing is
    clipped: with four bits of exponent, small values keep steps of their own. Biases stay float,
    and undo the mean error of rounded weights.

    Raises:
        CalibrationError: The table lacks a tensor.
        ModelError: The opset cannot be raised to 19, or there is nothing to quantize.
        UsageError: A pattern in `exclude` matches no node.
    """
    raised = replace(prepared, ir=raise_opset(prepared.ir, _OPSET))
    graph = raised.ir.graph
    plan = place(raised, "tensorrt", exclude, _narrow_convolutions(graph))
    parameters = {
        tensor: float8(*table.range_of(tensor, "minmax", symmetric=True))
        for tensor in plan.observed
    }

    def means(tensor: str) -> NDArray[Any] | None:
        known = table.statistics.get(tensor)
        return known.channel_means if known else None

    coded = WeightCoding(per_channel_float8).encode_all(graph, plan.weights)
    shifts = bias_shifts(graph, plan, means, coded)
    quantized = write_qdq(raised.ir.clone(), plan, parameters, coded, shifts)
    return Fp8Graph(quantized, plan, _output_sqnr_db(prepared, plan, quantized, table))


def _output_sqnr_db(
    prepared: Model, plan: Plan, graph: ir.Model, table: CalibrationTable
) -> float | None:
    samples = samples_of(prepared, table, _JUDGED)
    if not samples:
        return None
    judge = judge_of(prepared.ir, plan, samples)
    if not judge.can_judge:
        return None
    noise = judge.noise(run_samples(judge.outputs.of(graph), samples))
    warn_of_harm("FP8", noise)
    return sqnr_from_noise(noise)


def _narrow_convolutions(graph: ir.Graph) -> dict[str, str]:
    """Return the convolutions that stay float, with the reason."""
    found = {}
    for node in graph:
        shape = static_shape(node.inputs[1]) if node.op_type == "Conv" else None
        if shape is None:
            continue
        channels = min(shape[0] // integer(node, "group", 1), shape[1])
        if channels < _LEAST_CHANNELS:
            found[node.name or ""] = (
                f"FP8 would pad its {counted(channels, 'channel')} a group to {_LEAST_CHANNELS}"
            )
    return found
