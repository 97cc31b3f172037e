"""Search for the choice that costs the least accuracy, step by step, within a budget.

First better ranges, then equalization (both in `refine`), last the few nodes that must stay float.
Each step is judged on the model as it would be written, on more calibration samples than the search
looks at.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from qbench.artifacts import sha256_bytes, versions
from qbench.calibration.given import GivenRanges
from qbench.calibration.table import CalibrationTable
from qbench.data.samples import Sample
from qbench.model.load import Model
from qbench.quantization.choice import Choice, Step, choice_path, load_choice, save_choice
from qbench.quantization.fallback import GOAL, least_share, nodes_to_free
from qbench.quantization.int8 import Int8Graph, Int8Options, Quantizer
from qbench.quantization.judge import Judge, run_samples
from qbench.quantization.noise import decibels
from qbench.quantization.refine import Refiner
from qbench.quantization.samples import samples_of

logger = logging.getLogger(__name__)

_FINE = 0.001
"""A relative noise power of the output, 30 dB, that no search could make heard."""

_HARM = 0.1
"""A relative noise power of the output, 10 dB, of which the user is warned."""

_WORTH = 0.95
"""A node is left float if that brings the noise below this share of what it was."""

_MOST_FREED = 16
"""Tensors that are freed for a trial, at most, one after the other."""


@dataclass(frozen=True)
class Budget:
    """What a search may spend.

    Attributes:
        samples: Calibration samples that each trial of the search runs on.
        judged: Calibration samples that each step is judged on.
        trials: Number of trials. A trial runs a sample in about twice the time that plain inference
            takes, so `balanced` stays within 60 passes over 64 samples.
    """

    samples: int
    judged: int
    trials: int


BUDGETS = MappingProxyType({"balanced": Budget(8, 32, 180), "thorough": Budget(16, 64, 1200)})
"""By effort; `fast` does not search."""


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        graph: The quantized graph.
        choice: What makes it.
        steps: What each step gained; empty where nothing could be judged.
    """

    graph: Int8Graph
    choice: Choice
    steps: tuple[Step, ...] = ()

    @property
    def output_sqnr_db(self) -> float | None:
        """Signal-to-noise ratio of the outputs on calibration samples, None if not measured."""
        return self.steps[-1].output_sqnr_db if self.steps else None


def to_int8(
    model: Model, target: str, table: CalibrationTable | GivenRanges, options: Int8Options
) -> Found:
    """Quantize a float model to INT8 at the least cost in accuracy.

    Given ranges are taken as they are: there are no samples to search on.

    Raises:
        CalibrationError: The table was made from another model, or ranges of tensors are missing.
        ModelError: The model is quantized already, or has nothing to quantize.
        UsageError: Target or method is unknown, or a pattern matches no node.
    """
    quantizer = Quantizer(model, target, table, options)
    budget = BUDGETS.get(options.effort)
    if budget is None or isinstance(table, GivenRanges):
        return Found(quantizer.graph(Choice()), Choice())
    kept_at = choice_path(table.path, target) if table.path else None
    kept = load_choice(kept_at, key_of(quantizer)) if kept_at else None
    if kept is not None:
        choice, steps = kept
        return Found(quantizer.graph(choice), choice, steps)
    samples = samples_of(model, table, budget.judged)
    if not samples:
        return Found(quantizer.graph(Choice()), Choice())
    found = _Search(quantizer, samples, budget).run()
    if kept_at is not None:
        save_choice(kept_at, key_of(quantizer), found.choice, found.steps)
    return found


def key_of(quantizer: Quantizer) -> str:
    """Return what a search's outcome depends on, hashed: data, options and versions."""
    options = replace(quantizer.options, weight_bits=quantizer.weight_bits)
    parts = (quantizer.table.sha256, quantizer.target, repr(options), repr(versions()))
    return sha256_bytes("\n".join(parts).encode())


class _Search:
    def __init__(self, quantizer: Quantizer, samples: Sequence[Sample], budget: Budget) -> None:
        self._quantizer = quantizer
        self._samples = samples
        self._budget = budget
        self._judge = Judge(samples, run_samples(quantizer.prepared.ir, samples, simulate=False))
        self._steps: list[Step] = []

    def run(self) -> Found:
        first = self._quantizer.graph(Choice())
        if not self._judge.can_judge:
            return Found(first, Choice())
        best = self._judged(first, Choice())
        self._note("ranges by histogram", 0, best)
        if best.noise > _FINE:
            refiner = self._refiner()
            best = self._freed(self._refined(best, refiner), refiner.alone)
        if best.noise > _HARM:
            logger.warning(
                "INT8 leaves only %.0f dB of signal to noise at this model's output; "
                "judge its accuracy before use, leave more nodes float (--exclude) or use --fp16",
                decibels(best.noise),
            )
        return Found(best.graph, best.choice, tuple(self._steps))

    def _refiner(self) -> Refiner:
        quantizer = self._quantizer
        statistics = quantizer.table.statistics
        return Refiner(
            graph=quantizer.prepared.ir,
            plan=quantizer.plan,
            statistics={t: statistics[quantizer.source_of(t)] for t in quantizer.plan.observed},
            weight_bits=quantizer.weight_bits,
            samples=_spread(self._samples, self._budget.samples),
            trials=self._budget.trials,
            on_progress=quantizer.options.on_progress,
        )

    def _refined(self, best: _Trial, refiner: Refiner) -> _Trial:
        """Return the better of `best` and what is refined, each step judged apart."""
        before = self._quantizer.ranges()
        choice = refiner.refined(before)
        moved = sum(clip != choice.ranges[tensor] for tensor, clip in before.items())
        steps = (
            ("ranges by output", moved, replace(choice, factors={})),
            ("equalization", len(choice.factors), choice),
        )
        for name, changed, candidate in steps:
            if changed:
                best = min(best, self._try(candidate), key=lambda trial: trial.noise)
                self._note(name, changed, best)
        return best

    def _freed(self, best: _Trial, alone: Mapping[str, float]) -> _Trial:
        """Return `best` with the nodes float whose tensors disturb the output most."""
        worst = sorted(alone, key=lambda tensor: -alone[tensor])[:_MOST_FREED]
        base = best
        for tensor in worst:
            if best.noise <= GOAL:
                break
            candidate = self._without(tensor, alone[tensor], base, least_share(best.noise))
            if candidate is None:
                continue
            # While several tensors harm the output, freeing one of them may show nothing yet.
            if candidate.noise < best.noise * _WORTH:
                base = best = candidate
            elif best.noise > _HARM:
                base = candidate
        if best.choice.float_nodes:
            self._note("float nodes", len(best.choice.float_nodes), best)
        return best

    def _without(self, tensor: str, alone: float, base: _Trial, share: float) -> _Trial | None:
        """Return `base` with `tensor` left float, or None where less than `share` stays INT8."""
        quantizer = self._quantizer
        reason = f"in INT8, tensor {tensor} alone would leave {decibels(alone):.0f} dB of output"
        nodes = nodes_to_free(quantizer.prepared.ir.graph, quantizer.plan, tensor)
        choice = Choice(
            base.choice.ranges,
            {name: by for name, by in base.choice.factors.items() if name != tensor},
            dict.fromkeys(nodes, reason) | dict(base.choice.float_nodes),
        )
        graph = quantizer.graph(choice)
        if quantizer.work.share_kept(graph.plan) < share:
            return None
        return self._judged(graph, choice)

    def _try(self, choice: Choice) -> _Trial:
        return self._judged(self._quantizer.graph(choice), choice)

    def _judged(self, graph: Int8Graph, choice: Choice) -> _Trial:
        return _Trial(graph, choice, self._judge.noise(run_samples(graph.ir, self._samples)))

    def _note(self, name: str, changed: int, trial: _Trial) -> None:
        self._steps.append(Step(name, changed, decibels(trial.noise)))
        logger.info("%s (%d): %.1f dB", name, changed, decibels(trial.noise))


@dataclass(frozen=True)
class _Trial:
    graph: Int8Graph
    choice: Choice
    noise: float


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Return `count` evenly spaced samples."""
    return [samples[i * len(samples) // count] for i in range(min(count, len(samples)))]
