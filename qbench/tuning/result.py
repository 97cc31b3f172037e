"""What a tuning found."""

import math
from dataclasses import dataclass
from pathlib import Path

from qbench.benchmarking.result import Accuracy
from qbench.errors import BudgetError
from qbench.formatting import interval_text, percent, points
from qbench.html import terms_table
from qbench.quantization.int8 import Int8Graph
from qbench.tuning.journal import Trial
from qbench.tuning.options import TuneOptions


@dataclass(frozen=True)
class TuneResult:
    """What a tuning found.

    Attributes:
        graph: The quantized graph of the best trial.
        target: Where it shall run.
        options: What was asked for.
        baseline: Accuracy of the float model.
        best: The trial with the fewest float nodes that meets the budget; where none does, the one
            that loses least.
        trials: All that were looked at, in that order.
        is_minimal: Whether the trials lasted until no single node could go back to INT8.
        journal: The file that keeps the trials.
        path: Where the model was written, or None.
    """

    graph: Int8Graph
    target: str
    options: TuneOptions
    baseline: Accuracy
    best: Trial
    trials: tuple[Trial, ...]
    is_minimal: bool
    journal: Path
    path: Path | None = None

    @property
    def is_met(self) -> bool:
        """Whether the best trial meets the budget."""
        return self.best.meets(self.options.budget)

    @property
    def is_within_noise(self) -> bool:
        """Whether other samples might tell otherwise."""
        return self.best.is_within_noise(self.options.budget)

    def _repr_html_(self) -> str:
        """Return what was found, for a notebook."""
        change, share = self.best.change, self.best.int8_mac_fraction
        ends = interval_text(change.low, change.high, points) if change else ""
        verdict = "met" if self.is_met else "not met"
        within = ", but other samples might tell otherwise" if self.is_within_noise else ""
        return terms_table(
            {
                "target": self.target,
                "budget": f"{100 * self.options.budget:g} points of {self.baseline.metric}",
                "float model": percent(self.baseline.value),
                "best trial": f"{points(change.value)} {ends} points" if change else None,
                "verdict": f"{verdict}{within}",
                "nodes left float": ", ".join(self.best.float_nodes) or "none",
                "multiply-accumulates in INT8": None if share is None else percent(share),
                "trials": str(len(self.trials)),
                "file": None if self.path is None else str(self.path),
            }
        )

    def check_budget(self) -> None:
        """Make sure that the budget is met.

        Raises:
            BudgetError: It is not; says by how much, and what might help.
        """
        if self.is_met:
            return
        loss = -100 * self.best.change.value if self.best.change else math.nan
        nearest = f"the nearest of {len(self.trials)} trials loses {loss:.3g}"
        raise BudgetError(
            f"{nearest} points of {self.baseline.metric}, the budget is "
            f"{100 * self.options.budget:g}; raise --budget or --max-trials, lower --min-int8, "
            "or use --fp16"
        )
