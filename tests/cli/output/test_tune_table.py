"""What the trials of a tuning look like: losses are positive, and so are their intervals."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from qbench.benchmarking.result import Accuracy
from qbench.benchmarking.stats import Interval
from qbench.cli.output.tune_table import notes, trial_table, verdict
from qbench.quantization.int8 import Int8Graph
from qbench.tuning.journal import Trial
from qbench.tuning.options import TuneOptions
from qbench.tuning.result import TuneResult

BASELINE = Accuracy("top1", 0.9, 1000, 0.88, 0.92)


def trial(float_nodes: tuple[str, ...], change: Interval, problem: str | None = None) -> Trial:
    accuracy = Accuracy("top1", 0.9 + change.value, 1000, 0.8, 0.9, change)
    return Trial(
        float_nodes=float_nodes,
        int8_mac_fraction=0.955,
        accuracy=accuracy,
        speed=Interval(1.4, 1.35, 1.45),
        problem=problem,
    )


ALL = trial((), Interval(-0.03, -0.05, -0.02))
LESS = trial(("a",), Interval(-0.002, -0.004, 0.001))
UNJUDGED = Trial(float_nodes=("a", "b"), int8_mac_fraction=None, problem="output holds NaN")


def result(best: Trial, *, is_minimal: bool = True, target: str = "cpu") -> TuneResult:
    return TuneResult(
        graph=cast("Int8Graph", None),  # no table looks at it
        target=target,
        options=TuneOptions(budget=0.01),
        baseline=BASELINE,
        best=best,
        trials=(ALL, LESS, UNJUDGED),
        is_minimal=is_minimal,
        journal=Path("journal.json"),
    )


def test_a_loss_is_the_change_with_its_sign_turned_and_its_ends_exchanged() -> None:
    columns = {
        str(column.header): list(column.cells) for column in trial_table(result(LESS)).columns
    }
    assert columns["points lost [95 %]"] == ["-", "3.00 [2.00, 5.00]", "0.20 [-0.10, 0.40]", "-"]
    assert columns["top1"] == ["90.00", "87.00", "89.80", "-"]
    assert columns["speed [95 %]"] == ["1", *["1.40 [1.35, 1.45]"] * 2, "-"]
    assert columns["INT8 work"] == ["-", "95.5 %", "95.5 %", "-"]
    assert columns["float nodes"] == ["all", "0", "1", "2"]
    assert columns[""] == ["FP32", "", "best", ""]


@pytest.mark.parametrize(
    ("best", "is_minimal", "text"),
    [
        (LESS, False, "1 float node, 0.20 [-0.10, 0.40] points of top1 lost: meets"),
        (ALL, True, "0 float nodes, 3.00 [2.00, 5.00] points of top1 lost: misses"),
        (UNJUDGED, True, "2 float nodes, misses"),
    ],
)
def test_the_verdict_names_loss_and_budget(best: Trial, is_minimal: bool, text: str) -> None:
    assert verdict(result(best, is_minimal=is_minimal)) == f"{text} the budget of 1"


def test_a_small_budget_has_the_digits_that_tell_a_loss_from_it() -> None:
    found = result(trial((), Interval(-0.0000238, -0.00003, -0.00002)))
    small = replace(found, options=TuneOptions(budget=0.00001))
    text = "0.0024 [0.0020, 0.0030] points of top1 lost: misses the budget of 0.001"
    assert verdict(small) == f"0 float nodes, {text}"


def test_that_no_node_can_go_back_is_said_of_a_mix_that_meets_the_budget() -> None:
    smallest = ", and no single one can go back to INT8"
    assert verdict(result(LESS)).endswith(smallest)
    assert smallest not in verdict(result(ALL))


def test_notes_name_what_a_reader_must_know_besides() -> None:
    assert notes(result(LESS)) == ["output holds NaN"]
    spent, exact, _ = notes(result(LESS, is_minimal=False, target="tensorrt"))
    assert spent == "the trials are spent; fewer float nodes may do: raise --max-trials"
    assert exact == "accuracy is that of exact arithmetic, as the target computes"
    noisy = trial(("a",), Interval(-0.009, -0.02, 0.001))
    assert notes(result(noisy))[0].startswith("within noise: 1000 images cannot tell")
