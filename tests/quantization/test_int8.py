import logging

import graphs
import pytest

from qbench.data.samples import Sample
from qbench.errors import UsageError
from qbench.model.load import Model
from qbench.quantization import int8
from qbench.quantization.fallback import Judge, decibels
from qbench.quantization.int8 import Int8Options, to_int8


@pytest.fixture
def model() -> Model:
    return graphs.model_of(graphs.fragile())


@pytest.fixture
def samples(model: Model, monkeypatch: pytest.MonkeyPatch) -> list[Sample]:
    """Samples that stand in for the calibration images."""
    found = [Sample(str(seed), graphs.feeds_of(model, seed)) for seed in range(4)]
    monkeypatch.setattr(int8, "_samples", lambda *_: found)
    return found


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_what_int8_ruins_stays_float_and_says_why(
    model: Model, samples: list[Sample], target: str
) -> None:
    table = graphs.table_of(model)
    result = to_int8(model, target, table, Int8Options())
    reasons = {node.name: node.reason for node in result.plan.floats}
    assert "tensor unlike alone would leave" in reasons["depthwise"]
    monolith = to_int8(model, target, table, Int8Options(exclude=["last"])).plan
    assert "last" not in monolith.quantized
    assert result.output_sqnr_db == pytest.approx(
        decibels(Judge(model.ir, samples).noise(result.ir)), abs=0.1
    )
    assert result.output_sqnr_db is not None
    assert result.output_sqnr_db > 15


def test_without_images_the_plan_is_kept_and_the_log_says_so(
    model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        result = to_int8(model, "tensorrt", graphs.table_of(model), Int8Options())
    assert (result.plan.floats, result.output_sqnr_db) == ((), None)
    assert "was not compared with the float model" in caplog.text


def test_effort_fast_looks_at_no_sample(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    result = to_int8(model, "tensorrt", graphs.table_of(model), Int8Options(effort="fast"))
    assert (result.plan.floats, caplog.text) == ((), "")


def test_most_of_the_model_stays_int8_unless_it_is_ruined(
    model: Model, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    del samples
    monkeypatch.setattr(int8, "_RUIN", 2.0)
    result = to_int8(model, "tensorrt", graphs.table_of(model), Int8Options())
    assert result.plan.floats == ()


def test_an_unknown_effort() -> None:
    with pytest.raises(UsageError, match="unknown effort 'lazy'; choose one of fast, balanced"):
        Int8Options(effort="lazy")
