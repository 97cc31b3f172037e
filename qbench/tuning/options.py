"""How to tune: the budget, and what may be spent on meeting it."""

from dataclasses import dataclass, field

from qbench.benchmarking import speedup
from qbench.benchmarking.timing.settings import Settings
from qbench.errors import UsageError
from qbench.quantization.int8 import Int8Options
from qbench.tuning.trials import OnTrial


@dataclass(frozen=True)
class TuneOptions:
    """How to tune.

    Attributes:
        budget: How much of the metric may be lost against the float model on the same samples, in
            units of the metric: .01 lets a top-1 of .855 fall to .845, and a cosine of 1 to .99.
        most_trials: Stop after this many trials, those that an earlier run has kept included.
        least_int8: Share of the compute nodes, and of their work, that must stay in INT8: with less
            of it a model is none.
        int8: How to quantize, and how long to search before the first trial.
        settings: How long and how finely each trial is timed.
        restart: Run trials again that an earlier run has kept.
        on_trial: Told after each trial.
    """

    budget: float
    most_trials: int = 60
    least_int8: float = 0.5
    int8: Int8Options = field(default_factory=Int8Options)
    settings: Settings = field(default_factory=lambda: speedup.GLANCE)
    restart: bool = False
    on_trial: OnTrial = lambda trial, done: None  # noqa: ARG005

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UsageError: One lies outside its range.
        """
        if not 0 <= self.budget < 1:
            raise UsageError(f"a budget of {self.budget} is no share of 1; use .01 for 1 %")
        if not 0 <= self.least_int8 <= 1:
            raise UsageError(f"least_int8 {self.least_int8} is no share; use .5 for half")
        if self.most_trials < 1:
            raise UsageError(f"{self.most_trials} trials find nothing; allow at least 1")
