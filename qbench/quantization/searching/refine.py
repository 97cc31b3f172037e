"""Choose each tensor's range, and equalize it where that helps, by the model's output.

A range that is best for a tensor may be bad for the model: the few large values of a detector are
what its scores are made of. So each tensor is quantized alone, together with the weights that read
it, under several ranges; the one that disturbs the output least wins. Errors of different tensors
add up nearly independently, so tensors can be settled one after the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from qbench.calibration.ranges import Range
from qbench.data.samples import Sample
from qbench.model.graph import names_in, values_by_name
from qbench.quantization.choice import Choice
from qbench.quantization.equalization import (
    WORTH_A_MUL,
    costing_a_mul,
    equalized_name,
    factor_candidates,
    is_depthwise,
    range_behind,
    readers_to_equalize,
)
from qbench.quantization.int8 import Quantizer
from qbench.quantization.searching.probe import GLANCE, Factors, Probe, scalings_of
from qbench.quantization.searching.scouting import noise_of_each

_NEGLIGIBLE = 0.003
"""Share of the whole noise that a tensor may cause alone without being looked at ..."""

_AUDIBLE = (1e-5, 3e-5)
"""... but no less and no more than these relative noise powers, 50 and 45 dB."""

_LARGE = 3e-3
"""A tensor that causes more alone, 25 dB, is worth a longer look."""

_WORTH = 0.01
"""Share of the whole noise, as it will be once the worst is mended, that equalization must take."""

_MENDED = 1e-3
"""No tensor is expected to cause more than this, 30 dB, in the end."""

_RUNG = 0.8
"""Ranges are tried in steps of this factor."""

_BETTER = 0.9
"""A step must leave at most this share of the noise: samples are few."""

_PATIENCE = 8
"""Tensors in a row that gain nothing of `_WORTH`, after which less noisy ones gain no more."""

_WORST = 12
"""Tensors whose noise is measured again before any is left float."""

_STARTS = (1.0, 0.5, 0.25)
"""Shares of the largest magnitude from which to try, too, where a tensor does much harm."""

_SCOUTING = 0.4
"""Share of the runs that may be spent on finding out which tensors do harm."""


class Settlement(NamedTuple):
    """What was found best for one tensor.

    Attributes:
        tensor: Its name.
        range: Its clipping range, that of the equalized tensor where there are factors.
        factors: What it is divided by, or None.
        gain: How much less noise it causes alone.
    """

    tensor: str
    range: Range
    factors: Factors
    gain: float

    def added_to(self, choice: Choice) -> Choice:
        """Return `choice` with this one in it."""
        if self.factors is None:
            return replace(choice, ranges={**choice.ranges, self.tensor: self.range})
        ranges = {**choice.ranges, equalized_name(self.tensor): self.range}
        return replace(choice, ranges=ranges, factors={**choice.factors, self.tensor: self.factors})


class _Candidate(NamedTuple):
    """A clipping range, and the noise of the output with its tensor alone quantized."""

    range: Range
    noise: float


@dataclass
class Refiner:
    """Settles the tensors of a plan one by one.

    Attributes:
        quantizer: Of the model.
        probe: What tells the noise that a tensor causes.
        alone: Noise that each tensor causes alone, by tensor.
    """

    quantizer: Quantizer
    probe: Probe
    alone: dict[str, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        graph, self._plan = self.quantizer.prepared.ir.graph, self.quantizer.plan
        self._statistics = self.quantizer.observed_statistics()
        self._values, self._taken = values_by_name(graph), names_in(graph)
        self._weights = {weight.reader.node for weight in self._plan.weights}

    def settled(self, choice: Choice) -> list[Settlement]:
        """Return better choices for tensors than `choice`, those that gain most first.

        Tensors are settled from the worst on, until the runs are spent or what is left is
        negligible.
        """
        starts = scalings_of(self.quantizer, choice)
        runs = round(_SCOUTING * self.probe.left) - GLANCE
        whole = self.probe.glance(starts)
        least = float(np.clip(_NEGLIGIBLE * whole, *_AUDIBLE))
        self.alone = noise_of_each(self.probe, starts, whole, least, runs)
        worth = _WORTH * sum(min(noise, _MENDED) for noise in self.alone.values())
        found, in_vain = [], 0
        order = self._worst_first()
        self.probe.expect(order)
        for tensor in order:
            if self.probe.left <= 0 or self.alone[tensor] < least or in_vain == _PATIENCE:
                break
            start = starts[tensor]
            before = self.probe.of(tensor, *start)
            by, best = self._settled(tensor, start.factors, _Candidate(start.range, before), worth)
            self.alone[tensor] = best.noise
            in_vain = 0 if before - best.noise > worth else in_vain + 1
            if by is not start.factors or best.range != start.range:
                found.append(Settlement(tensor, best.range, by, before - best.noise))
        self.probe.unload()
        return sorted(found, key=lambda settlement: -settlement.gain)

    def heard_again(self, choice: Choice, samples: Sequence[Sample]) -> dict[str, float]:
        """Return the noise that the worst tensors cause alone under `choice`, on other samples.

        What `settled` saw is too good: of several ranges, the one was taken that was lucky there.
        """
        worst = self._worst_first()[:_WORST]
        probe, scalings = self.probe.on(samples), scalings_of(self.quantizer, choice)
        probe.expect(worst)
        return self.alone | {tensor: probe.of(tensor, *scalings[tensor]) for tensor in worst}

    def _worst_first(self) -> list[str]:
        return sorted(self.alone, key=lambda tensor: -self.alone[tensor])

    def _settled(
        self, tensor: str, by: Factors, first: _Candidate, worth: float
    ) -> tuple[Factors, _Candidate]:
        """Return what is best for one tensor: a range, or factors and the range behind them.

        A tensor that is equalized already, `by` these factors, keeps them.

        Depthwise weights have a scale per channel, so they take any factors, and these come first.
        Other weights lose something; they are equalized only where a tensor does much harm.
        """
        if by is not None:
            behind = range_behind(self._statistics[tensor], by)
            return by, self._climbed(tensor, first, behind, by)
        readers = self._equalizable(tensor)
        loses_nothing = all(map(is_depthwise, readers))
        if readers and loses_nothing:
            by, equalized = self._best_equalized(tensor, first.noise)
            if first.noise - equalized.noise > max(worth, (1 - WORTH_A_MUL) * first.noise):
                return by, equalized
        plain = self._best_range(tensor, first)
        if readers and not loses_nothing and plain.noise >= _LARGE:
            by, equalized = self._best_equalized(tensor, plain.noise)
            if plain.noise - equalized.noise > max(worth, (1 - WORTH_A_MUL) * plain.noise):
                return by, equalized
        return None, plain

    def _equalizable(self, tensor: str) -> list[ir.Node]:
        """Return the nodes whose weights can take a tensor's factors."""
        if self._plan.is_carried_on(tensor):
            return []
        value, model = self._values[tensor], self.quantizer.prepared.ir
        readers = readers_to_equalize(value, self._weights, self._taken)
        # Amid integer kernels, a Mul takes a pass in float with DQ and Q around it.
        too_slow = self._plan.target == "cpu" and readers
        return [] if too_slow and costing_a_mul(model, [value], self._plan) else readers

    def _best_range(self, tensor: str, first: _Candidate) -> _Candidate:
        seen = self._statistics[tensor]
        extremes = (min(seen.low, 0.0), max(seen.high, 0.0))
        shares = _STARTS if first.noise >= _LARGE else ()
        starts = [_scaled(extremes, share) for share in shares]
        tried = [first, *(self._tried(tensor, clip, None) for clip in starts)]
        best = min(tried, key=lambda candidate: candidate.noise)
        return self._climbed(tensor, best, extremes, None)

    def _best_equalized(self, tensor: str, noise: float) -> tuple[Factors, _Candidate]:
        """Return the best factors and the range behind them; None where there are none."""
        best: tuple[Factors, _Candidate] = (None, _Candidate((0.0, 0.0), 1.0))
        candidates = factor_candidates(self._statistics[tensor])
        for factors in candidates if noise >= _LARGE else candidates[:1]:
            extremes = range_behind(self._statistics[tensor], factors)
            first = self._tried(tensor, extremes, factors)
            found = self._climbed(tensor, first, extremes, factors)
            best = min(best, (factors, found), key=lambda pair: pair[1].noise)
        return best

    def _climbed(
        self, tensor: str, first: _Candidate, extremes: Range, factors: Factors
    ) -> _Candidate:
        """Return the best range on the way from `first` to wider or to narrower ones."""
        best = first
        for step in (1 / _RUNG, _RUNG):
            while self.probe.left > 0 and (clip := _within(extremes, best.range, step)):
                candidate = self._tried(tensor, clip, factors)
                if candidate.noise >= best.noise * _BETTER:
                    break
                best = candidate
            if best is not first:
                break
        return best

    def _tried(self, tensor: str, clip: Range, factors: Factors) -> _Candidate:
        return _Candidate(clip, self.probe.of(tensor, clip, factors))


def _scaled(extremes: Range, share: float) -> Range:
    """Return the range of `share` of the largest magnitude."""
    peak = share * max(-extremes[0], extremes[1])
    return max(extremes[0], -peak), min(extremes[1], peak)


def _within(extremes: Range, clip: Range, step: float) -> Range | None:
    """Return a range `step` times as large as `clip`, but within the extremes; None if the same."""
    peak = step * max(-clip[0], clip[1])
    found = max(extremes[0], -peak), min(extremes[1], peak)
    return None if found == clip else found
