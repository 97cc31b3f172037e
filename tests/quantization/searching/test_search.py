import logging
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import graphs
import numpy as np
import pytest
from numpy.typing import NDArray

from qbench.data.samples import Sample
from qbench.errors import UsageError
from qbench.model.load import Model
from qbench.placement.plan import Plan
from qbench.quantization import fallback
from qbench.quantization.choice import Choice
from qbench.quantization.int8 import Int8Options
from qbench.quantization.searching import depthwise_equalization, freeing, refine, search
from qbench.quantization.searching.judge import Judge, run_samples
from qbench.quantization.searching.noise import sqnr_from_noise
from qbench.quantization.searching.search import Budget, Found, to_int8


@pytest.fixture
def model() -> Model:
    return graphs.model_of(graphs.fragile())


@pytest.fixture
def samples(model: Model, monkeypatch: pytest.MonkeyPatch) -> list[Sample]:
    """Samples that stand in for the calibration images."""
    found = [Sample(str(seed), graphs.feeds_of(model, seed)) for seed in range(4)]
    monkeypatch.setattr(search, "samples_of", lambda *_: found)
    return found


@pytest.fixture
def without_equalization(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but ranges, float nodes and rounding is left to a search."""
    for module in (refine, depthwise_equalization):
        monkeypatch.setattr(module, "factor_candidates", lambda _: [])


def refuse(*_: object) -> None:
    raise AssertionError("searched again")


def searched(model: Model, target: str = "tensorrt", effort: str = "balanced") -> Found:
    return to_int8(model, target, graphs.table_of(model), Int8Options(effort=effort))


# Where the times of kernels are known, accuracy beyond what is needed is not bought with time.
@pytest.mark.parametrize(("target", "gain"), [("cpu", 3), ("tensorrt", 10)])
def test_each_step_gains_and_the_figure_is_that_of_the_graph(
    model: Model, samples: list[Sample], target: str, gain: int
) -> None:
    found = searched(model, target)
    gains = [step.output_sqnr_db for step in found.steps]
    assert gains == sorted(gains)
    assert gains[-1] > gains[0] + gain
    judge = Judge(samples, run_samples(model.ir, samples, simulate=False))
    assert found.output_sqnr_db == pytest.approx(
        sqnr_from_noise(judge.noise(run_samples(found.graph.ir, samples))), abs=0.1
    )


@pytest.mark.usefixtures("samples")
def test_equalization_saves_what_no_range_could(model: Model) -> None:
    found = searched(model)
    assert list(found.choice.factors) == ["unlike"]
    assert "depthwise" in found.graph.plan.quantized


@pytest.mark.usefixtures("samples", "without_equalization")
def test_what_int8_ruins_stays_float_and_says_why() -> None:
    found = searched(graphs.model_of(graphs.fragile(decades=4)))
    reasons = {node.name: node.reason for node in found.graph.plan.floats}
    assert "tensor unlike would make" in reasons["depthwise"]
    assert "float nodes" in [step.name for step in found.steps]


@pytest.mark.usefixtures("samples")
def test_where_no_node_needs_freeing_no_tensor_is_heard_again(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freeing, "GOAL", 1.0)
    monkeypatch.setattr(refine.Refiner, "heard_again", refuse)
    found = searched(model)
    assert found.choice.factors
    assert not found.choice.float_nodes


@pytest.mark.usefixtures("samples", "without_equalization")
def test_more_nodes_are_freed_where_what_is_left_is_still_noisy(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a ruined output, a first round thinks that less is left than there is."""
    monkeypatch.setattr(freeing, "HARM", 0.0)
    asked = []

    def one_more(_: object, choice: Choice, plan: Plan, *__: object) -> Choice:
        asked.append(len(plan.quantized))
        floats = dict.fromkeys(["depthwise", *plan.quantized[:1]][: len(asked)], "noisy")
        return replace(choice, float_nodes=floats)

    monkeypatch.setattr(freeing, "freed", one_more)
    found = searched(model)
    assert asked == sorted(asked, reverse=True)
    assert len(asked) > 1
    assert "depthwise" in found.choice.float_nodes


@pytest.mark.usefixtures("samples", "without_equalization")
def test_most_of_the_model_stays_int8_unless_it_is_ruined(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fallback, "_ALLOWANCES", ((1.0, 0.95, 0.95),))
    assert searched(model).graph.plan.floats == ()


@pytest.mark.usefixtures("samples", "without_equalization")
def test_a_search_ends_when_its_trials_are_spent(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "BUDGETS", MappingProxyType({"balanced": Budget(2, 4, 1)}))
    assert searched(model).choice.ranges == {}


def test_without_images_the_plan_is_kept_and_the_log_says_so(
    model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = searched(model)
    assert (found.graph.plan.floats, found.output_sqnr_db) == ((), None)
    assert "samples of the calibration table cannot be looked at" in caplog.text


def ruined(samples: list[Sample]) -> Model:
    """A model that INT8 ruins, whatever its scales."""
    model = graphs.model_of(graphs.fragile(decades=4))
    samples[:] = [Sample(one.name, graphs.feeds_of(model, i)) for i, one in enumerate(samples)]
    return model


@pytest.mark.usefixtures("without_equalization")
def test_effort_fast_leaves_float_what_ruins_the_output(
    samples: list[Sample], caplog: pytest.LogCaptureFixture
) -> None:
    found = searched(ruined(samples), effort="fast")
    assert "depthwise" in {node.name for node in found.graph.plan.floats}
    assert [step.name for step in found.steps][-1] == "float nodes"
    assert found.output_sqnr_db is not None
    assert found.output_sqnr_db > 15
    assert "search for better scales" not in caplog.text


def test_effort_fast_says_where_to_look_for_better_scales(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(search, "freed_by_work", lambda best, *_: best)
    found = searched(ruined(samples), effort="fast")
    assert found.output_sqnr_db is not None
    assert found.output_sqnr_db < 15
    assert "search for better scales (--effort balanced), judge its accuracy" in caplog.text


def test_effort_fast_does_not_run_a_large_model(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "samples_of", refuse)
    monkeypatch.setattr(search, "_LARGEST_JUDGED", 0)
    assert searched(model, effort="fast").output_sqnr_db is None


@pytest.mark.usefixtures("samples", "without_equalization")
def test_without_a_search_the_best_range_method_is_taken(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_POOR", 0.0)
    best = searched(model, effort="fast").output_sqnr_db
    monkeypatch.setattr(search, "_POOR", 1.0)
    table = graphs.table_of(model)
    of_each = {}
    for method in ("mse", "percentile", "minmax"):
        options = Int8Options(effort="fast", method=method)
        of_each[method] = to_int8(model, "tensorrt", table, options).output_sqnr_db
    assert len(set(of_each.values())) == len(of_each)
    assert best == max(of_each.values())


@pytest.mark.usefixtures("samples", "without_equalization")
def test_a_search_tells_how_far_it_is(model: Model) -> None:
    told: list[tuple[int, int]] = []
    options = Int8Options(on_progress=lambda done, most: told.append((done, most)))
    to_int8(model, "tensorrt", graphs.table_of(model), options)
    done, most = zip(*told, strict=True)
    assert 0 < done[0] <= done[-1] <= most[0]
    assert (list(done), len(set(most))) == (sorted(done), 1)


@pytest.mark.usefixtures("samples")
def test_the_same_search_finds_the_same(model: Model) -> None:
    first, second = searched(model), searched(model)
    assert first.choice.ranges == second.choice.ranges
    for tensor, factors in first.choice.factors.items():
        np.testing.assert_array_equal(factors, second.choice.factors[tensor])


def test_an_unknown_effort() -> None:
    with pytest.raises(UsageError, match="unknown effort 'lazy'; choose one of fast, balanced"):
        Int8Options(effort="lazy")


@pytest.mark.usefixtures("samples")
def test_what_was_found_is_kept_beside_the_table_for_its_options_alone(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_FINE", 0.0)
    table = replace(graphs.table_of(model), path=tmp_path / "m.json")
    found = to_int8(model, "tensorrt", table, Int8Options())
    assert (tmp_path / "m.tensorrt.choice.json").exists()

    monkeypatch.setattr(search, "samples_of", refuse)
    again = to_int8(model, "tensorrt", table, Int8Options())
    assert again.steps == found.steps
    assert again.choice.codes.keys() == found.choice.codes.keys() != set()
    assert run_graph(again) == pytest.approx(run_graph(found), abs=1e-6)
    for other in (Int8Options(method="minmax"), Int8Options(effort="thorough")):
        with pytest.raises(AssertionError, match="searched again"):
            to_int8(model, "tensorrt", table, other)


@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize("name", ["m.tensorrt.choice.json", "m.tensorrt.choice.npz"])
def test_a_damaged_choice_is_made_anew(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    table = replace(graphs.table_of(model), path=tmp_path / "m.json")
    to_int8(model, "tensorrt", table, Int8Options())
    (tmp_path / name).write_text("{")
    with monkeypatch.context() as patch:
        patch.setattr(search, "samples_of", refuse)
        with pytest.raises(AssertionError, match="searched again"):
            to_int8(model, "tensorrt", table, Int8Options())
    assert to_int8(model, "tensorrt", table, Int8Options()).steps
    assert (tmp_path / name).stat().st_size > 10


def run_graph(found: Found) -> NDArray[np.float32]:
    model = graphs.model_of(graphs.fragile())
    (output,) = graphs.run(found.graph.ir, graphs.feeds_of(model)).values()
    return output


def test_a_model_that_rounding_alone_ruins_keeps_its_only_convolution_in_int8(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where an output is the logarithm of what is nearly 0, no choice of scales is good."""
    builder = graphs.Builder()
    relu = builder.node("Relu", "relu", builder.conv("conv", builder.x))
    model = graphs.model_of(builder.model(builder.node("Log", "log", relu)))
    found = [Sample(str(seed), graphs.feeds_of(model, seed)) for seed in range(2)]
    monkeypatch.setattr(search, "samples_of", lambda *_: found)
    assert "conv" in searched(model).graph.plan.quantized
    assert "INT8 leaves only 0 dB" in caplog.text


@pytest.mark.parametrize("effort", ["fast", "balanced"])
@pytest.mark.parametrize("is_all", [False, True])
def test_where_the_float_model_gives_nan_no_better_scales_are_advised(
    is_all: bool, effort: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    builder = graphs.Builder()
    conv = builder.conv("conv", builder.x)
    below = builder.constant("below", np.float32(-1000 if is_all else 0))
    root = builder.node("Sqrt", "root", builder.node("Add", "add", conv, below))
    model = graphs.model_of(builder.model(root))
    found = [Sample(str(seed), graphs.feeds_of(model, seed)) for seed in range(2)]
    monkeypatch.setattr(search, "samples_of", lambda *_: found)
    table = graphs.table_of(model)
    caplog.clear()  # calibration tells of it, too
    to_int8(model, "tensorrt", table, Int8Options(effort=effort))
    assert caplog.messages == [
        "output 'root' of the float model itself holds NaN for 0, 1, by which INT8 cannot be "
        "judged; check the recipe's scale, mean and std, or the model"
    ]
