"""Accuracies are judged once, compared with the first, and kept as soon as they are known."""

import numpy as np
import pytest

from qbench.benchmarking.accuracies import Accuracies
from qbench.benchmarking.judging.judged import Judged, Outcome
from qbench.benchmarking.ledger import Cell

from .memory import Memory


def judged(right: int, decoder: str | None = None) -> Judged:
    outcome = Outcome(right / 10, np.arange(10) < right)
    return Judged("top1", tuple("0123456789"), outcome, decoder=decoder)


def cell(precision: str, batch: int = 1, model: str = "m.onnx") -> Cell:
    return Cell(model=model, sha256=model, precision=precision, provider="cpu", batch=batch)


def never() -> Judged:
    pytest.fail("it was judged already")


def test_rows_of_a_variant_share_its_accuracy() -> None:
    accuracies = Accuracies(None)
    first = accuracies.of(cell("fp32"), lambda: judged(9))
    assert first is not None
    assert (first.value, first.difference) == (0.9, None)
    assert accuracies.of(cell("fp32", batch=8), never) == first


def test_others_are_compared_with_the_first() -> None:
    accuracies = Accuracies(None)
    accuracies.of(cell("fp32"), lambda: judged(9))
    second = accuracies.of(cell("int8"), lambda: judged(7))
    assert second is not None
    assert second.difference is not None
    assert second.difference.value == pytest.approx(-0.2)


def test_without_images_there_is_none() -> None:
    memory = Memory()
    assert Accuracies(memory).of(cell("fp32"), lambda: None) is None
    assert memory.judged == {}


def test_a_run_that_goes_on_knows_what_was_judged() -> None:
    memory = Memory()
    before = Accuracies(memory)
    before.of(cell("fp32", batch=8), lambda: judged(9, "yolov8"))
    before.of(cell("int8"), lambda: judged(7))
    assert list(memory.judged) == [cell("fp32"), cell("int8")]
    after = Accuracies(memory)
    after.recall(cell("fp32", batch=8))
    second = after.of(cell("int8"), never)
    assert second is not None
    assert second.difference is not None
    assert second.difference.value == pytest.approx(-0.2)
    assert after.decoder(cell("fp16")) == "yolov8"


def test_a_decoder_is_that_of_the_same_model() -> None:
    accuracies = Accuracies(None)
    accuracies.of(cell("fp32", model="a.onnx"), lambda: judged(9, "yolov8"))
    assert accuracies.decoder(cell("int8", model="a.onnx")) == "yolov8"
    assert accuracies.decoder(cell("fp32", model="b.onnx")) is None
