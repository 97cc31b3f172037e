"""Run trials: a graph with some nodes float, its accuracy, and its speed where it can be timed."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from pathlib import Path

import msgspec
import onnx_ir as ir

from qbench.benchmarking.judging.judged import Judged
from qbench.benchmarking.judging.judges import Judge
from qbench.benchmarking.result import Accuracy
from qbench.errors import DataError, ModelError, UnfitError
from qbench.quantization.choice import Choice
from qbench.quantization.fallback import nodes_to_free
from qbench.quantization.int8 import Int8Graph, Quantizer
from qbench.runtimes.ort.graphs import open_graph
from qbench.runtimes.ort.runner import OrtRunner
from qbench.tuning.journal import Journal, Trial, save_journal
from qbench.tuning.stopwatch import Stopwatch

logger = logging.getLogger(__name__)

_REASON = "float so that the model meets its accuracy budget"

OnTrial = Callable[[Trial, int], None]
"""Told after each trial: the trial, and how many were looked at."""


@dataclass
class Trials:
    """Runs trials, each set of float nodes once, and keeps them in a journal.

    Attributes:
        quantizer: Makes the graphs.
        start: Ranges and equalization of all trials.
        judge: Tells their accuracy.
        stopwatch: Times them.
        journal: What is known.
        path: Where the journal is kept.
        budget: How much of the metric may be lost.
        most: Number of trials that may be looked at.
        on_trial: Told after each trial.
        seen: What was looked at: trials of the journal that are of use here, and new ones.
        is_spent: Whether more would have been looked at.
    """

    quantizer: Quantizer
    start: Choice
    judge: Judge
    stopwatch: Stopwatch
    journal: Journal
    path: Path
    budget: float
    most: int
    on_trial: OnTrial = lambda trial, done: None  # noqa: ARG005
    seen: list[Trial] = field(init=False, default_factory=list)
    is_spent: bool = field(init=False, default=False)

    def meets(self, nodes: Sequence[str]) -> bool:
        """Return whether the model with `nodes` float meets the budget, as far as trials last."""
        names = tuple(sorted(nodes))
        trial = self.journal.find(names)
        if trial is None or trial not in self.seen:
            if len(self.seen) >= self.most:
                self.is_spent = True
                return False
            trial = trial if trial and trial.is_done else self._run_and_keep(names, trial)
            self.seen.append(trial)
            self.on_trial(trial, len(self.seen))
        return trial.meets(self.budget)

    def best(self) -> Trial:
        """Return the trial with the fewest float nodes that meets the budget.

        Of several, the one that loses least; where none meets the budget, the one that loses least
        of all.
        """
        meeting = [trial for trial in self.seen if trial.meets(self.budget)]
        fewest = min((len(trial.float_nodes) for trial in meeting), default=0)
        alike = [trial for trial in meeting if len(trial.float_nodes) == fewest]
        return max(alike or self.seen, key=lambda t: t.change.value if t.change else -inf)

    def baseline(self) -> Accuracy:
        """Return the accuracy of the float model."""
        if self.journal.baseline is None:
            self.journal.baseline = self._reference.accuracy
            save_journal(self.path, self.journal)
        return self.journal.baseline

    def graph(self, float_nodes: Sequence[str]) -> Int8Graph:
        """Return the graph with `float_nodes` float, and nothing equalized for them alone."""
        graph, plan = self.quantizer.prepared.ir.graph, self.quantizer.plan
        reasons = {name: self.start.float_nodes.get(name, _REASON) for name in float_nodes}
        factors = {
            tensor: by
            for tensor, by in self.start.factors.items()
            if not nodes_to_free(graph, plan, tensor) <= reasons.keys()
        }
        return self.quantizer.graph(Choice(self.start.ranges, factors, reasons, self.start.codes))

    def _run_and_keep(self, names: tuple[str, ...], known: Trial | None) -> Trial:
        self.baseline()
        trial = self._run(names, known)
        self._keep(trial)
        logger.info("%d float nodes: change %s, speed %s", len(names), trial.change, trial.speed)
        return trial

    def _run(self, names: tuple[str, ...], known: Trial | None) -> Trial:
        """Judge and time the model with `names` float, or time it alone where it is `known`.

        The accuracy is kept before anything is timed, so that who interrupts that loses no more.
        """
        graph = self.graph(names)
        trial = known or Trial(float_nodes=names, int8_mac_fraction=graph.mac_fraction)
        try:
            if trial.accuracy is None:
                trial = msgspec.structs.replace(trial, accuracy=self._judged(graph.ir))
                self._keep(trial)
            return msgspec.structs.replace(trial, speed=self.stopwatch.speed_of(graph.ir))
        except (DataError, ModelError, UnfitError) as error:
            return msgspec.structs.replace(trial, problem=str(error))

    def _keep(self, trial: Trial) -> None:
        self.journal.keep(trial)
        save_journal(self.path, self.journal)

    def _judged(self, graph: ir.Model) -> Accuracy:
        judged = self.judge.judge(self._open(graph))
        change = judged.difference(self._reference)
        assert change is not None  # both were judged by one judge
        return msgspec.structs.replace(judged.accuracy, difference=change)

    @cached_property
    def _reference(self) -> Judged:
        return self.judge.judge(open_graph(self.quantizer.model.ir))

    def _open(self, graph: ir.Model) -> OrtRunner:
        """Open a graph as its target computes: the CPU itself, others in exact arithmetic."""
        return open_graph(graph, simulate=self.quantizer.target != "cpu")
