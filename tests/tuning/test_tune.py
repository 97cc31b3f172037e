from dataclasses import replace
from pathlib import Path
from typing import Any

import graphs
import msgspec
import numpy as np
import onnx
import pytest

from qbench.benchmarking.judging.agreement import AgreementJudge
from qbench.benchmarking.result import Accuracy
from qbench.benchmarking.stats import Interval
from qbench.calibration.table import CalibrationTable
from qbench.errors import (
    BudgetError,
    CalibrationError,
    DataError,
    ModelError,
    QbenchError,
    UsageError,
)
from qbench.model.load import Model, load
from qbench.quantization.int8 import Int8Options
from qbench.runtimes.ort.runner import OrtRunner
from qbench.tuning import tune as tune_module
from qbench.tuning.metrics import TuneData
from qbench.tuning.options import TuneOptions
from qbench.tuning.result import TuneResult
from qbench.tuning.stopwatch import Stopwatch
from qbench.tuning.trials import Trials
from qbench.tuning.tune import tune

WITHOUT_SEARCH = Int8Options(effort="fast")


@pytest.fixture(scope="module")
def model() -> Model:
    return graphs.model_of(graphs.fragile())


@pytest.fixture(scope="module")
def table(model: Model) -> CalibrationTable:
    return graphs.table_of(model)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every model that is judged."""
    runs: list[int] = []
    judge = AgreementJudge.judge

    def count(self: AgreementJudge, runner: Any) -> Any:
        runs.append(len(runs))
        return judge(self, runner)

    monkeypatch.setattr(AgreementJudge, "judge", count)
    return runs


def options(budget: float = 0.01, **changes: Any) -> TuneOptions:
    return TuneOptions(budget, int8=WITHOUT_SEARCH, **changes)


def tuned(
    model: Model,
    table: CalibrationTable,
    data: TuneData,
    chosen: TuneOptions | None = None,
    target: str = "tensorrt",
) -> TuneResult:
    return tune(model, target, data, chosen or options(), table=table)


def test_a_float_model_that_is_always_wrong(
    model: Model, table: CalibrationTable, cosine: TuneData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be lost of nothing, so that any model would meet the budget."""
    nothing = Accuracy("top1", 0.0, 60, 0.0, 0.05)
    monkeypatch.setattr(Trials, "baseline", lambda _: nothing)
    with pytest.raises(DataError, match=r"itself has 0 of top1 .* check the labels"):
        tuned(model, table, cosine)


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_the_one_node_that_int8_ruins_is_freed(
    model: Model, table: CalibrationTable, cosine: TuneData, target: str
) -> None:
    result = tuned(model, table, cosine, target=target)
    assert result.best.float_nodes == ("depthwise",)
    assert (result.is_met, result.is_minimal, result.is_within_noise) == (True, True, False)
    assert {node.name: node.reason for node in result.graph.plan.floats}["depthwise"] == (
        "float so that the model meets its accuracy budget"
    )
    assert [trial.meets(0.01) for trial in result.trials] == [False, True]


def test_a_notebook_shows_what_was_found(
    model: Model, table: CalibrationTable, cosine: TuneData
) -> None:
    html = tuned(model, table, cosine)._repr_html_()
    for text in ("1 points of cosine", ">met<", ">depthwise<"):
        assert text in html


def test_only_what_can_run_here_is_timed(
    model: Model, table: CalibrationTable, cosine: TuneData
) -> None:
    speed = tuned(model, table, cosine, target="cpu").best.speed
    assert speed is not None
    assert 0 < speed.low <= speed.value <= speed.high
    best = tuned(model, table, cosine, target="tensorrt").best
    assert best.speed is not None or "provider 'tensorrt'" in (best.problem or "")


def test_a_generous_budget_needs_no_float_node(
    model: Model, table: CalibrationTable, cosine: TuneData
) -> None:
    result = tuned(model, table, cosine, options(0.5))
    assert (result.best.float_nodes, len(result.trials)) == ((), 1)


def test_nodes_are_ranked_only_where_some_must_be_float(
    model: Model, table: CalibrationTable, cosine: TuneData
) -> None:
    journal = tuned(model, table, cosine, options(0.5)).journal
    assert '"ranking": null' in journal.read_text("utf-8")
    tuned(model, table, cosine)
    assert '"ranking": null' not in journal.read_text("utf-8")


def test_no_single_node_can_go_back(
    model: Model, table: CalibrationTable, cosine: TuneData
) -> None:
    result = tuned(model, table, cosine, options(1e-4, least_int8=0.0))
    assert result.is_met
    assert len(result.best.float_nodes) > 1
    tried = {trial.float_nodes: trial.meets(1e-4) for trial in result.trials}
    for node in result.best.float_nodes:
        fewer = tuple(name for name in result.best.float_nodes if name != node)
        assert not tried[fewer]


def test_float_nodes_of_the_search_go_back_where_the_budget_allows(
    model: Model, table: CalibrationTable, cosine: TuneData, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qbench.tuning import tune as module

    def with_float_nodes(*arguments: Any) -> Any:
        found = search(*arguments)
        floats = {"depthwise": "ruined", "last": "for no reason"}
        return replace(found, choice=replace(found.choice, float_nodes=floats))

    search = module.to_int8
    monkeypatch.setattr(module, "to_int8", with_float_nodes)
    result = tuned(model, table, cosine, options(least_int8=0.0))
    assert result.trials[0].float_nodes == ("depthwise", "last")
    assert result.best.float_nodes == ("depthwise",)
    assert [node.reason for node in result.graph.plan.floats] == ["ruined"]


def test_a_budget_that_cannot_be_met(
    model: Model, table: CalibrationTable, cosine: TuneData
) -> None:
    result = tuned(model, table, cosine, options(1e-7))
    assert (result.is_met, result.is_minimal) == (False, False)
    changes = [trial.change.value for trial in result.trials if trial.change]
    assert result.best.change is not None
    assert result.best.change.value == max(changes)
    nearest = "the nearest of 2 trials loses"
    with pytest.raises(BudgetError, match=rf"{nearest} 0\.01\d+ points of cosine"):
        result.check_budget()
    change = msgspec.structs.replace(result.best.change, value=-1.297)
    accuracy = msgspec.structs.replace(result.best.accuracy, difference=change)
    lost = msgspec.structs.replace(result.best, accuracy=accuracy)
    with pytest.raises(BudgetError, match=rf"{nearest} 130 points of cosine"):
        replace(result, best=lost).check_budget()


def test_a_rerun_judges_nothing_again(
    model: Model, table: CalibrationTable, cosine: TuneData, judged: list[int]
) -> None:
    first = tuned(model, table, cosine)
    assert len(judged) == 1 + len(first.trials)  # and the float model
    again = tuned(model, table, cosine)
    assert len(judged) == 1 + len(first.trials)
    assert (again.best, again.trials, again.baseline) == (first.best, first.trials, first.baseline)


def test_another_budget_goes_on_with_the_same_trials(
    model: Model, table: CalibrationTable, cosine: TuneData, judged: list[int]
) -> None:
    first = tuned(model, table, cosine)
    before = len(judged)
    again = tuned(model, table, cosine, options(0.5, most_trials=1))
    assert (again.best.float_nodes, again.journal, again.is_minimal) == ((), first.journal, True)
    assert len(judged) == before


def test_an_interruption_loses_the_running_trial_alone(
    model: Model,
    table: CalibrationTable,
    cosine: TuneData,
    judged: list[int],
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuned(model, table, cosine, options(on_trial=interrupt))
    assert len(judged) == 2
    result = tuned(model, table, cosine)
    assert len(judged) == 1 + len(result.trials) + 1  # the float model is needed once more


def test_what_is_interrupted_while_it_is_timed_was_judged(
    model: Model,
    table: CalibrationTable,
    cosine: TuneData,
    judged: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Stopwatch, "speed_of", interrupt)
        with pytest.raises(KeyboardInterrupt):
            tuned(model, table, cosine, options(0.5))
    assert len(judged) == 2  # the float model and the first trial
    result = tuned(model, table, cosine, options(0.5))
    assert len(judged) == 2
    (trial,) = result.trials
    assert trial.accuracy is not None
    assert trial.is_done


def test_another_machine_times_all_again_and_judges_nothing(
    model: Model,
    table: CalibrationTable,
    cosine: TuneData,
    judged: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def speed(value: float) -> Interval:
        monkeypatch.setattr(Stopwatch, "speed_of", lambda *_: Interval(value, value, value))
        return Interval(value, value, value)

    there = speed(3)
    first = tuned(model, table, cosine)
    monkeypatch.setattr(tune_module, "this_machine", lambda: "another")
    here, before = speed(2), len(judged)
    again = tuned(model, table, cosine)
    assert len(judged) == before
    assert [trial.speed for trial in first.trials] == [there] * len(first.trials)
    assert [trial.speed for trial in again.trials] == [here] * len(first.trials)
    assert [t.accuracy for t in again.trials] == [t.accuracy for t in first.trials]
    speed(1)
    assert tuned(model, table, cosine).trials == again.trials  # of the same machine they hold


def test_restart_judges_all_again(
    model: Model, table: CalibrationTable, cosine: TuneData, judged: list[int]
) -> None:
    first = tuned(model, table, cosine)
    tuned(model, table, cosine, options(restart=True))
    assert len(judged) == 2 * (1 + len(first.trials))


@pytest.mark.parametrize("change", ["samples", "options"])
def test_other_samples_or_options_have_a_journal_of_their_own(
    model: Model, table: CalibrationTable, cosine: TuneData, change: str
) -> None:
    before = tuned(model, table, cosine).journal
    chosen = options()
    if change == "samples":
        cosine = replace(cosine, choice=replace(cosine.choice, limit=4))
    else:
        chosen = replace(chosen, int8=replace(WITHOUT_SEARCH, method="minmax"))
    assert tuned(model, table, cosine, chosen).journal != before


def test_trials_that_are_spent_end_the_tuning(
    model: Model, table: CalibrationTable, cosine: TuneData
) -> None:
    result = tuned(model, table, cosine, options(most_trials=1))
    assert (len(result.trials), result.is_met, result.is_minimal) == (1, False, False)


def test_as_much_stays_int8_as_is_asked_for(
    model: Model, table: CalibrationTable, cosine: TuneData
) -> None:
    result = tuned(model, table, cosine, options(least_int8=0.9))
    assert (result.is_met, [trial.float_nodes for trial in result.trials]) == (False, [()])


@pytest.mark.parametrize("error", [ModelError, DataError])
def test_a_trial_that_cannot_be_judged_says_why_and_meets_nothing(
    error: type[QbenchError],
    model: Model,
    table: CalibrationTable,
    cosine: TuneData,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judge = AgreementJudge.judge

    def refuse(self: AgreementJudge, runner: OrtRunner) -> Any:
        if refused:
            raise error(refused.pop())
        refused.append("output 'y' holds NaN")
        return judge(self, runner)

    refused: list[str] = []
    monkeypatch.setattr(AgreementJudge, "judge", refuse)
    first, second = tuned(model, table, cosine).trials
    assert (first.accuracy, first.problem) == (None, "output 'y' holds NaN")
    assert second.meets(0.01)


def test_the_model_is_written_as_it_was_judged(
    model: Model, table: CalibrationTable, cosine: TuneData
) -> None:
    result = tune(model, "tensorrt", cosine, options(), table=table, output=Path("out/m.onnx"))
    assert result.path == Path("out/m.onnx")
    feeds = graphs.feeds_of(model)
    found, wanted = graphs.run(load(result.path).ir, feeds), graphs.run(result.graph.ir, feeds)
    np.testing.assert_array_equal(found["last"], wanted["last"])


def test_paths_may_be_strings(model: Model, table: CalibrationTable, cosine: TuneData) -> None:
    table.save("t.json")
    result = tune(model, "tensorrt", cosine, options(), table="t.json", output="o.onnx")
    assert result.path == Path("o.onnx")
    assert load("o.onnx").is_quantized


def test_a_model_is_not_written_over_itself(table: CalibrationTable, cosine: TuneData) -> None:
    onnx.save(graphs.fragile(), "m.onnx")
    with pytest.raises(UsageError, match=r"m\.onnx is the model itself; choose another output"):
        tune("m.onnx", "tensorrt", cosine, options(), table=table, output=Path("m.onnx"))


def test_a_table_is_needed(model: Model, cosine: TuneData) -> None:
    with pytest.raises(CalibrationError, match=r"no calibration table in calibration/ was made"):
        tune(model, "tensorrt", cosine, options())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": -0.1}, r"a budget of -0\.1 is no share of 1; use \.01 for 1 %"),
        ({"budget": 1.0}, r"a budget of 1\.0 is no share of 1"),
        ({"budget": 0.1, "least_int8": 2.0}, r"least_int8 2\.0 is no share; use \.5 for half"),
        ({"budget": 0.1, "most_trials": 0}, "0 trials find nothing; allow at least 1"),
    ],
)
def test_options_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TuneOptions(**changes)


def test_a_stopwatch_needs_its_provider(model: Model) -> None:
    with pytest.raises(UsageError, match="unknown provider 'moon'"):
        Stopwatch(model.ir, "moon", None, None).speed_of(model.ir)  # type: ignore[arg-type]
