"""Equalize what depthwise convolutions read, before anything is tried.

Their weights have a scale per channel, so they take any factors. Where a convolution writes the
tensor, at most through a ReLU, its weights take the division, and nothing is lost but room for
values beyond those of calibration: on a face detector whose backbone is a MobileNetV2 with ReLU it
makes 14 dB of 6. Behind other functions the division is a Mul, which must be asked for: it makes
23 dB of 10 on a PP-LCNet, whose HardSwish stands in front of every depthwise convolution.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qbench.calibration.given import GivenRanges
from qbench.calibration.ranges import Range
from qbench.model.graph import names_in, values_by_name
from qbench.quantization.choice import Choice
from qbench.quantization.equalization import (
    costing_a_mul,
    equalized_name,
    factor_candidates,
    is_depthwise,
    range_behind,
    readers_to_equalize,
)
from qbench.quantization.int8 import Quantizer, activation_parameters


def equalized_for_depthwise(quantizer: Quantizer, *, with_muls: bool = False) -> Choice:
    """Return a choice of factors for tensors that depthwise convolutions alone read.

    By the squares of their steps, which rounding errors follow, those are taken that gain.

    Args:
        quantizer: Of the model. Given ranges tell nothing of channels, so nothing is chosen.
        with_muls: Take those, too, whose division is a Mul. By how much the errors of a tensor get
            smaller says little of the output's: 0.6 times those of one tensor of that PP-LCNet, the
            least gain of all, are what makes 23 dB of 10.
    """
    if isinstance(quantizer.table, GivenRanges):
        return Choice()
    # Amid integer kernels of a CPU, a Mul takes a pass in float with DQ and Q around it.
    takes_muls = with_muls and quantizer.target != "cpu"
    graph = quantizer.prepared.ir
    values = values_by_name(graph.graph)
    clips = quantizer.ranges()
    taken = names_in(graph.graph)
    gaining: dict[str, tuple[Range, NDArray[Any]]] = {}
    for tensor in quantizer.plan.observed:
        by = _factors(quantizer, values[tensor], taken)
        if by is None or quantizer.plan.is_carried_on(tensor):
            continue
        behind = range_behind(quantizer.statistics_of(tensor), by)
        if _errors_left(quantizer, tensor, clips[tensor], behind, by) < 1:
            gaining[tensor] = behind, by
    if gaining and not takes_muls:
        for tensor in costing_a_mul(graph, map(values.__getitem__, gaining), quantizer.plan):
            del gaining[tensor]
    ranges = {equalized_name(tensor): behind for tensor, (behind, _) in gaining.items()}
    return Choice(ranges, {tensor: by for tensor, (_, by) in gaining.items()})


def _factors(
    quantizer: Quantizer, value: ir.Value, taken: Collection[str | None]
) -> NDArray[Any] | None:
    """Return the peaks of the channels, float32 [channels], the largest 1; None if of no use."""
    weights = {weight.reader.node for weight in quantizer.plan.weights}
    readers = readers_to_equalize(value, weights, taken)
    candidates = factor_candidates(quantizer.statistics_of(value.name or ""))
    return candidates[0] if candidates and readers and all(map(is_depthwise, readers)) else None


def _errors_left(
    quantizer: Quantizer, tensor: str, clip: Range, behind: Range, factors: NDArray[Any]
) -> float:
    """Return the mean square of the channels' steps, relative to that of the tensor's own."""
    plain = activation_parameters(quantizer.plan, tensor, clip).scale
    steps = activation_parameters(quantizer.plan, tensor, behind).scale * factors
    return float(np.mean(np.square(steps / plain)))
