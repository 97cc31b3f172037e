"""Choose each tensor's range, and equalize it where that helps, by the model's output.

A range that is best for a tensor may be bad for the model: the few large values of a detector are
what its scores are made of. So each tensor is quantized alone, together with the weights that read
it, under several ranges; the one that disturbs the output least wins. Errors of different tensors
add up nearly independently, so tensors can be settled one after the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qbench.calibration.ranges import Range
from qbench.calibration.statistics import TensorStatistics
from qbench.data.samples import Sample
from qbench.model.graph import constant
from qbench.placement.plan import Plan, Reader
from qbench.quantization.choice import Choice
from qbench.quantization.corrections import rounded, shift
from qbench.quantization.equalization import (
    along_inputs,
    equalized_name,
    factor_candidates,
    range_behind,
    readers_to_equalize,
    scaled_weight,
)
from qbench.quantization.int8 import OnProgress
from qbench.quantization.judge import Judge
from qbench.quantization.numerics import QuantizationParameters, asymmetric, symmetric
from qbench.quantization.switchboard import Setting, Switchboard

_NEGLIGIBLE = 0.01
"""Share of the whole noise that a tensor may cause alone without being looked at ..."""

_AUDIBLE = (5e-5, 5e-4)
"""... but no less and no more than these relative noise powers, 43 and 33 dB."""

_LARGE = 3e-3
"""A tensor that causes more alone, 25 dB, is worth a longer look and an equalization."""

_GAIN = 0.5
"""Equalization may cost a Mul, so it must halve the noise."""

_LADDER = (1.0, 0.84, 0.7, 0.59, 0.5, 0.42, 0.35, 0.3, 0.25, 0.21, 0.17, 0.12)
"""Shares of a tensor's largest magnitude that may become its range."""

_SCOUTING = 0.5
"""Share of the trials that may be spent on finding out which tensors do harm."""

_LARGEST_WEIGHT = 1 << 20
"""Weights of more values stay float in a trial, unless they are equalized: rounded copies of all of
them would take as much memory again as a large model, and errors of so many values average out."""

_BIAS = 2


class _Candidate(NamedTuple):
    """A clipping range, and the noise of the output with its tensor alone quantized."""

    range: Range
    noise: float


@dataclass
class Refiner:
    """Settles the tensors of a plan one by one.

    Attributes:
        graph: The prepared float graph.
        plan: What to quantize.
        statistics: Of the plan's observed tensors.
        weight_bits: Of the weights.
        samples: On which outputs are compared.
        trials: How many runs over the samples may be spent.
        on_progress: Told after each trial how many were made, of how many.
        alone: Noise that each tensor causes alone, by tensor, as far as it is known.
    """

    graph: ir.Model
    plan: Plan
    statistics: Mapping[str, TensorStatistics]
    weight_bits: int
    samples: Sequence[Sample]
    trials: int
    on_progress: OnProgress | None = None
    alone: dict[str, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._left = self.trials
        self._switchboard = Switchboard(self.graph, self.plan)
        self._judge = Judge(self.samples, self._switchboard.run(Setting(), self.samples))
        self._nodes = {node.name or "": node for node in self.graph.graph}
        self._values = {v.name or "": v for node in self.graph.graph for v in node.outputs}
        self._values.update((v.name or "", v) for v in self.graph.graph.inputs)
        self._weights = {weight.reader.node: weight for weight in self.plan.weights}

    @property
    def can_judge(self) -> bool:
        """Whether the model has outputs that can be compared."""
        return self._judge.can_judge

    def refined(self, ranges: Mapping[str, Range]) -> Choice:
        """Return better ranges than `ranges`, which hold all observed tensors, and factors.

        Tensors are settled from the worst on, until the trials are spent.
        """
        self.alone = self.noise_of_each(ranges)
        chosen, factors = dict(ranges), dict[str, NDArray[Any]]()
        for tensor in sorted(self.alone, key=lambda name: -self.alone[name]):
            if self._left <= 0:
                break
            best = self._best_range(tensor, _Candidate(ranges[tensor], self.alone[tensor]))
            chosen[tensor], self.alone[tensor] = best
            by, equalized = self._best_equalized(tensor) if best.noise >= _LARGE else (None, best)
            if by is not None and equalized.noise < best.noise * _GAIN:
                factors[tensor] = by
                chosen[equalized_name(tensor)], self.alone[tensor] = equalized
        return Choice(chosen, factors)

    def _best_range(self, tensor: str, first: _Candidate) -> _Candidate:
        seen = self.statistics[tensor]
        extremes = (min(seen.low, 0.0), max(seen.high, 0.0))
        shares = _LADDER[:8:2] if first.noise < _LARGE else _LADDER
        found = self._climbed(tensor, extremes, None, shares)
        return min([first, *found], key=lambda candidate: candidate.noise)

    def _best_equalized(self, tensor: str) -> tuple[NDArray[Any] | None, _Candidate]:
        """Return the best factors and the range behind them; None where there are none."""
        readers = readers_to_equalize(self._values[tensor], self._weights)
        is_read_once = sum(a.scale_from == tensor for a in self.plan.activations) == 1
        best: tuple[NDArray[Any] | None, _Candidate] = (None, _Candidate((0.0, 0.0), 1.0))
        if not readers or not is_read_once:
            return best
        for factors in factor_candidates(self.statistics[tensor]):
            extremes = range_behind(self.statistics[tensor], factors)
            for candidate in self._climbed(tensor, extremes, factors, _LADDER[:9:4]):
                if candidate.noise < best[1].noise:
                    best = factors, candidate
        return best

    def _climbed(
        self,
        tensor: str,
        extremes: Range,
        factors: NDArray[Any] | None,
        shares: Sequence[float],
    ) -> list[_Candidate]:
        """Return ranges of `shares` of the largest magnitude, and of the best one's neighbours."""
        peak = max(-extremes[0], extremes[1])

        def tried(share: float) -> _Candidate:
            clip = max(extremes[0], -peak * share), min(extremes[1], peak * share)
            return _Candidate(clip, self.noise_of(tensor, clip, factors))

        found = {share: tried(share) for share in shares}
        best = _LADDER.index(min(found, key=lambda share: found[share].noise))
        near = _LADDER[max(best - 1, 0) : best + 2]
        found.update({share: tried(share) for share in near if share not in found})
        return list(found.values())

    def noise_of(self, tensor: str, clip: Range, factors: NDArray[Any] | None) -> float:
        """Return the noise that `tensor` causes alone, in a range and behind equalization."""
        parameters = self._parameters(clip, factors)
        return self._noise({tensor: parameters}, {} if factors is None else {tensor: factors})

    def _parameters(self, clip: Range, factors: NDArray[Any] | None) -> QuantizationParameters:
        """Return scale and zero-point for a range; with factors, both are [channels]."""
        whole = (symmetric if self.plan.symmetric else asymmetric)(*clip)
        if factors is None:
            return whole
        zero_point = np.broadcast_to(whole.zero_point, factors.shape)
        return QuantizationParameters((whole.scale * factors).astype(np.float32), zero_point)

    def noise_of_each(self, ranges: Mapping[str, Range]) -> dict[str, float]:
        """Return the noise that each tensor causes alone; negligible ones are left out.

        All at once, then halves of what harms, the most harmful first: many tensors are cleared
        together. It may spend a part of the trials only.
        """
        parameters = {t: self._parameters(ranges[t], None) for t in self.plan.observed}

        def noise_of(names: Sequence[str]) -> float:
            chosen = {name: parameters[name] for name in names}
            return self._noise(chosen, {})

        whole = noise_of(list(parameters))
        least = float(np.clip(_NEGLIGIBLE * whole, *_AUDIBLE))
        found: dict[str, float] = {}
        pending = [(-whole, 0, list(parameters))]
        until = self._left * (1 - _SCOUTING)
        while pending and self._left > until:
            _, _, names = heappop(pending)
            for half in _halves(names):
                noise = noise_of(half)
                if noise >= least and len(half) == 1:
                    found[half[0]] = noise
                elif noise >= least:
                    heappush(pending, (-noise, len(pending) + len(found), half))
        return found

    def _noise(
        self,
        activations: Mapping[str, QuantizationParameters],
        factors: Mapping[str, NDArray[Any]],
    ) -> float:
        self._left -= 1
        if self.on_progress is not None:
            self.on_progress(min(self.trials - self._left, self.trials), self.trials)
        constants: dict[Reader, NDArray[Any]] = {}
        for activation in self.plan.activations:
            if activation.scale_from not in activations:
                continue
            for reader in activation.readers:
                if reader.position == 0 and reader.node in self._weights:
                    by = factors.get(activation.scale_from)
                    constants.update(self._rounded_constants(reader.node, by))
        results = self._switchboard.run(Setting(activations, constants), self.samples)
        return self._judge.noise(results)

    def _rounded_constants(
        self, name: str, factors: NDArray[Any] | None
    ) -> dict[Reader, NDArray[Any]]:
        """Return a node's weights as INT8 would hold them, and its corrected bias."""
        node, weight = self._nodes[name], self._weights[name]
        array = constant(node.inputs[1])
        assert array is not None  # the plan holds constant weights only
        if factors is None and array.size > _LARGEST_WEIGHT:
            return {}
        if factors is None:
            values = rounded(array, weight, self.weight_bits)
        else:
            values = rounded(scaled_weight(node, factors), weight, self.weight_bits)
            values = (values / along_inputs(node, factors, array)).astype(np.float32)
        found = {Reader(name, 1): values}
        means = self._means(node)
        if node.op_type in {"Conv", "Gemm"} and means is not None:
            change = shift(node, array, values, means)
            bias = constant(node.inputs[_BIAS]) if len(node.inputs) > _BIAS else None
            found[Reader(name, _BIAS)] = change if bias is None else bias + change
        return found

    def _means(self, node: ir.Node) -> NDArray[Any] | None:
        data = node.inputs[0]
        known = self.statistics.get(data.name or "") if data is not None else None
        return None if known is None else known.channel_means


def _halves(names: list[str]) -> list[list[str]]:
    middle = len(names) // 2
    return [half for half in (names[:middle], names[middle:]) if half]
