"""The trials of a tuning, for a terminal of 80 columns."""

from math import floor, log10

from rich.table import Table

from qbench.benchmarking.stats import Interval
from qbench.cli.output.render import counted, percent
from qbench.tuning.journal import Trial
from qbench.tuning.result import TuneResult


def trial_table(result: TuneResult) -> Table:
    """Return one line per trial, the float model first."""
    table = Table(box=None, pad_edge=False)
    metric = result.baseline.metric
    for name in ("float nodes", "INT8 work", metric, "points lost [95 %]", "speed [95 %]"):
        table.add_column(name, justify="right")
    table.add_column("")
    table.add_row("all", "-", _points(result.baseline.value), "-", "1", "FP32")
    for trial in result.trials:
        table.add_row(*_cells(trial), _mark(trial, result))
    return table


def verdict(result: TuneResult) -> str:
    """Return in one line what the best trial is."""
    best, metric = result.best, result.baseline.metric
    outcome = "meets" if result.is_met else "misses"
    decimals = _decimals(result.options.budget)
    lost = (
        "" if best.change is None else f" {_loss(best.change, decimals)} points of {metric} lost:"
    )
    count = counted(len(best.float_nodes), "float node") + ","
    budget = f"the budget of {100 * result.options.budget:g}"
    smallest = ", and no single one can go back to INT8" if _says_smallest(result) else ""
    return f"{count}{lost} {outcome} {budget}{smallest}"


def notes(result: TuneResult) -> list[str]:
    """Return what a reader has to know beside the figures."""
    found = []
    if result.is_within_noise:
        found.append(
            f"within noise: {counted(result.baseline.n, 'image')} cannot tell whether the loss "
            "exceeds the budget; judge on more images"
        )
    if result.is_met and not result.is_minimal:
        found.append("the trials are spent; fewer float nodes may do: raise --max-trials")
    problems = dict.fromkeys(trial.problem for trial in result.trials if trial.problem)
    if result.target != "cpu":
        found.append("accuracy is that of exact arithmetic, as the target computes")
    return found + [str(problem) for problem in problems]


def _says_smallest(result: TuneResult) -> bool:
    return result.is_met and result.is_minimal and bool(result.best.float_nodes)


def _cells(trial: Trial) -> list[str]:
    share, accuracy, speed = trial.int8_mac_fraction, trial.accuracy, trial.speed
    return [
        str(len(trial.float_nodes)),
        "-" if share is None else percent(share),
        "-" if accuracy is None else _points(accuracy.value),
        "-" if trial.change is None else _loss(trial.change),
        "-" if speed is None else f"{speed.value:.2f} [{speed.low:.2f}, {speed.high:.2f}]",
    ]


def _mark(trial: Trial, result: TuneResult) -> str:
    if trial is result.best:
        return "best"
    return "meets" if trial.meets(result.options.budget) else ""


def _points(value: float) -> str:
    return f"{100 * value:.2f}"


def _loss(change: Interval, decimals: int = 2) -> str:
    """Return what is lost: the change with its sign turned."""
    bounds = (change.value, change.high, change.low)
    value, low, high = (f"{-100 * bound + 0.0:.{decimals}f}" for bound in bounds)
    return f"{value} [{low}, {high}]"


def _decimals(budget: float) -> int:
    """Return how many decimals of points tell a loss from the budget."""
    return max(2, 1 - floor(log10(100 * budget))) if budget else 2
