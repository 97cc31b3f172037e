"""Search for the choice that costs the least accuracy, step by step, within a budget.

First equalization where it costs nothing, then better ranges and more equalization (both in
`refine`), then the few nodes that must stay float, last the rounding of weights.
Each step is judged on the model as it would be written, on more calibration samples than the search
looks at.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from qbench.artifacts import sha256_bytes, versions
from qbench.calibration.given import GivenRanges
from qbench.calibration.table import CalibrationTable
from qbench.data.samples import Sample
from qbench.formatting import first_names
from qbench.model.load import Model
from qbench.model.save import weight_bytes
from qbench.quantization.choice import Choice, Step, choice_path, load_choice, save_choice
from qbench.quantization.int8 import Int8Graph, Int8Options, Quantizer
from qbench.quantization.searching.compensation import compensated_weights
from qbench.quantization.searching.contest import Contest
from qbench.quantization.searching.depthwise_equalization import equalized_for_depthwise
from qbench.quantization.searching.freeing import best_divided, could_pay, freed_by_work
from qbench.quantization.searching.judge import Judge, run_samples
from qbench.quantization.searching.judged_outputs import judged_outputs
from qbench.quantization.searching.noise import HARM, sqnr_from_noise, warn_of_harm
from qbench.quantization.searching.probe import Probe, scalings_of
from qbench.quantization.searching.refine import Refiner, Settlement
from qbench.quantization.searching.samples import samples_of
from qbench.quantization.searching.scouting import noise_of_worst
from qbench.quantization.searching.settling import settled
from qbench.quantization.searching.trial import Trial
from qbench.runtimes.base import Tensors

logger = logging.getLogger(__name__)

_FINE = 0.001
"""A relative noise power of the output, 30 dB, that no search could make heard."""

_POOR = 0.01
"""A relative noise power of the output, 20 dB, from which on other range methods are tried."""

_OTHER_METHODS = ("percentile", "minmax")

_CLEAR = 0.8
"""Share of the noise that equalization in one step may leave, unless the output is harmed. It clips
what is larger than on any calibration image, which those that judge it are among: on an
EfficientNet-lite it gained 0.1 dB of them and lost 0.6 dB of others."""

_LARGEST_JUDGED = 1 << 28
"""Bytes of weights beyond which `fast` judges nothing: it would take several times the time and the
memory of writing the model."""

_ROUNDED_ON = 32
"""Samples that weights are rounded by."""

_HEARD_ON = 16
"""Samples that the noise of the worst tensors is measured on before any of them is left float."""


_GLANCES = 200
"""Runs in which `fast` looks for what ruins an output. Of YOLOX-nano on TensorRT, they found the 11
nodes without which there are 22 dB instead of 4."""


@dataclass(frozen=True)
class Budget:
    """What a search may spend.

    Attributes:
        samples: Calibration samples that a tensor's ranges are compared on.
        judged: Calibration samples that each step is judged on. Eight were too few: of a detector,
            one of them held most of the signal, and INT8 was taken to leave 18 dB where all 96 had
            11; by 16, the nodes that ruined it were left float.
        runs: Number of runs of one sample that ranges and factors are tried in. With everything
            else, 900 of them take 30 to 50 times as long as plain inference of 64 samples. Without
            any, what is known from the table alone is judged, and nodes that ruin the output are
            left float.
    """

    samples: int
    judged: int
    runs: int


BUDGETS = MappingProxyType(
    {
        "fast": Budget(6, 16, 0),
        "balanced": Budget(6, 32, 900),
        "thorough": Budget(16, 64, 19200),
    }
)
"""By effort."""


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        graph: The quantized graph.
        choice: What makes it.
        steps: What each step gained; empty where nothing could be judged.
        selecting: Nodes of which what they select from is judged; see `judged_outputs`.
    """

    graph: Int8Graph
    choice: Choice
    steps: tuple[Step, ...] = ()
    selecting: tuple[str, ...] = ()

    @property
    def output_sqnr_db(self) -> float | None:
        """Signal-to-noise ratio of the outputs on calibration samples, None if not measured."""
        return self.steps[-1].output_sqnr_db if self.steps else None


def to_int8(
    model: Model, target: str, table: CalibrationTable | GivenRanges, options: Int8Options
) -> Found:
    """Quantize a float model to INT8 at the least cost in accuracy.

    Given ranges are taken as they are: there are no samples to search on. Large models are judged
    by a search alone.

    Raises:
        CalibrationError: The table was made from another model, or ranges of tensors are missing.
        ModelError: The model is quantized already, or has nothing to quantize.
        UsageError: Target or method is unknown, or a pattern matches no node.
    """
    quantizer = Quantizer(model, target, table, options)
    budget = BUDGETS[options.effort]
    is_large = weight_bytes(model.ir) > _LARGEST_JUDGED
    if isinstance(table, GivenRanges) or (is_large and not budget.runs):
        return _unsearched(quantizer)
    kept_at = choice_path(table.path, target) if table.path else None
    kept = load_choice(kept_at, key_of(quantizer)) if kept_at else None
    if kept is not None:
        choice, steps = kept
        selecting = judged_outputs(quantizer.prepared.ir.graph, quantizer.plan).selecting
        return Found(quantizer.graph(choice), choice, steps, selecting)
    samples = samples_of(model, table, budget.judged)
    if not samples:
        return _unsearched(quantizer)
    found = _Search(quantizer, samples, budget).run()
    if kept_at is not None:
        save_choice(kept_at, key_of(quantizer), found.choice, found.steps)
    return found


def _unsearched(quantizer: Quantizer) -> Found:
    choice = equalized_for_depthwise(quantizer)
    return Found(quantizer.graph(choice), choice)


def key_of(quantizer: Quantizer) -> str:
    """Return what a search's outcome depends on, hashed: data, options and versions."""
    options = replace(quantizer.options, saturates=quantizer.saturates)
    parts = (quantizer.table.sha256, quantizer.target, repr(options), repr(versions()))
    return sha256_bytes("\n".join(parts).encode())


class _Search:
    def __init__(self, quantizer: Quantizer, samples: Sequence[Sample], budget: Budget) -> None:
        self._quantizer = quantizer
        self._samples = samples
        self._budget = budget
        outputs = judged_outputs(quantizer.prepared.ir.graph, quantizer.plan)
        reference = run_samples(outputs.of(quantizer.prepared.ir), samples, simulate=False)
        self._judge = Judge(samples, reference, outputs)
        self._contest = Contest(quantizer, samples, self._judge)
        self._broken = _broken(samples, reference)
        self._steps: list[Step] = []

    def run(self) -> Found:
        for output, names in self._broken.items():
            logger.warning(
                "output %r of the float model itself holds NaN for %s, by which INT8 cannot be "
                "judged; check the recipe's scale, mean and std, or the model",
                output,
                first_names(names),
                extra={"matter": f"NaN in {output}"},  # as a calibration tells, too
            )
        first = self._quantizer.graph(Choice())
        if not self._judge.can_judge:
            return _unsearched(self._quantizer)
        best = self._contest.trial_of(first, Choice())
        self._note("ranges by histogram", 0, best)
        if best.noise > _FINE:
            best = self._equalized(best)
        if best.noise > _FINE:
            if self._budget.runs:
                best = self._compensated(self._refined(best))
            else:
                best = self._rescued(self._ranged(best))
        if not self._broken:
            better = "" if self._budget.runs else "search for better scales (--effort balanced), "
            warn_of_harm("INT8", best.noise, better)
        selecting = self._judge.outputs.selecting
        return Found(best.graph, best.choice, tuple(self._steps), selecting)

    def _equalized(self, best: Trial) -> Trial:
        """Return the best of `best` and equalization for depthwise convolutions.

        Divisions may cost a Mul where the output is harmed without them.
        """
        for with_muls in (False, True):
            if with_muls and best.noise <= HARM:
                break
            choice = equalized_for_depthwise(self._quantizer, with_muls=with_muls)
            if len(choice.factors) <= len(best.choice.factors):
                continue
            candidate = self._contest.trial(choice)
            if candidate.noise < best.noise * (1.0 if best.noise > HARM else _CLEAR):
                best = candidate
        if best.choice.factors:
            self._note("equalization for depthwise", len(best.choice.factors), best)
        return best

    def _ranged(self, best: Trial) -> Trial:
        """Return the best of `best` and the ranges of other methods.

        For want of a search: these begin on one method, since what is clipped too much by another
        is not found again tensor by tensor (YOLOv8n ended at 13 dB instead of 19 from the ranges by
        percentile, which were a little better to begin with).
        """
        if best.noise <= _POOR:
            return best
        start = best.choice
        for method in _OTHER_METHODS:
            ranges = {**self._quantizer.ranges_by(method), **start.ranges}
            candidate = self._contest.trial(replace(start, ranges=ranges))
            best = min(best, candidate, key=lambda trial: trial.noise)
        self._note("ranges by other methods", len(best.choice.ranges) - len(start.ranges), best)
        return best

    def _refined(self, best: Trial) -> Trial:
        """Return `best` with better ranges, equalized tensors and float nodes."""
        refiner = Refiner(self._quantizer, self._probe(self._budget.runs))
        best = self._settled(best, refiner.settled(best.choice))
        if not could_pay(best.noise, self._quantizer.divider({})):
            return best
        alone = refiner.heard_again(best.choice, _spread(self._samples, _HEARD_ON))
        return self._freed(best, alone)

    def _rescued(self, best: Trial) -> Trial:
        """Return `best`, and of an output that is ruined, with the nodes float that ruin it."""
        if best.noise <= HARM:
            return best
        probe, scalings = self._probe(_GLANCES), scalings_of(self._quantizer, best.choice)
        alone = noise_of_worst(probe, scalings, self._quantizer)
        probe.unload()
        return self._freed(best, alone)

    def _probe(self, runs: int) -> Probe:
        samples = _spread(self._samples, self._budget.samples)
        return Probe(self._quantizer, samples, runs, self._judge)

    def _settled(self, best: Trial, settlements: Sequence[Settlement]) -> Trial:
        """Return `best` with those settlements that do the whole model good."""
        for name, kind in (("ranges by output", False), ("equalization", True)):
            chosen = [one for one in settlements if (one.factors is not None) == kind]
            best, taken = settled(best, chosen, self._contest.rival)
            if chosen:
                self._note(name, taken, best)
        return best

    def _freed(self, best: Trial, alone: Mapping[str, float]) -> Trial:
        """Return `best` with the nodes float whose tensors disturb the output too much."""
        divider = self._quantizer.divider(alone)
        start = divider.cheapest() if divider else None
        if divider is not None and start is not None and start.integers:
            best = best_divided(best, divider, start, self._contest.trial)
        else:
            best = freed_by_work(best, self._quantizer, alone, self._contest.trial)
        if best.choice.float_nodes:
            self._note("float nodes", len(best.choice.float_nodes), best)
        return best

    def _compensated(self, best: Trial) -> Trial:
        """Return the better of `best` and the same with weights rounded by what they do."""
        quantizer = self._quantizer
        graph, plan = quantizer.placed(best.choice)
        samples = _spread(self._samples, _ROUNDED_ON)
        parameters = quantizer.parameters(plan, best.choice)
        codes = compensated_weights(graph, plan, parameters, samples, saturates=quantizer.saturates)
        if codes:
            candidate = self._contest.trial(replace(best.choice, codes=codes))
            best = candidate if candidate.is_better_than(best) else best
            self._note("rounding", len(best.choice.codes), best)
        return best

    def _note(self, name: str, changed: int, trial: Trial) -> None:
        self._steps.append(Step(name, changed, sqnr_from_noise(trial.noise)))
        logger.info("%s (%d): %.1f dB", name, changed, sqnr_from_noise(trial.noise))


def _broken(samples: Sequence[Sample], reference: Sequence[Tensors]) -> dict[str, list[str]]:
    """Return the float outputs with NaN, and the names of the samples that they hold it for."""
    found: dict[str, list[str]] = {}
    for sample, outputs in zip(samples, reference, strict=True):
        for name, array in outputs.items():
            if array.dtype.kind == "f" and np.isnan(array).any():
                found.setdefault(name, []).append(sample.name)
    return found


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Return `count` evenly spaced samples."""
    return [samples[i * len(samples) // count] for i in range(min(count, len(samples)))]
