import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qbench.data.labels import Labels
from qbench.data.samples import Sample
from qbench.errors import DataError, ModelError
from qbench.evaluation.classify import evaluate
from qbench.model.spec import TensorSpec

CLASSES = 8


class Rows:
    """A source whose sample i is one row of logits."""

    def __init__(self, rows: Sequence[Sequence[float]], corrupt: Sequence[int] = ()) -> None:
        self._rows = np.array(rows, np.float32)
        self._corrupt = corrupt
        self._lock = threading.Lock()
        self.loaded = 0

    def __len__(self) -> int:
        return len(self._rows)

    def name(self, index: int) -> str:
        return f"{index:03}.png"

    def load(self, index: int) -> Sample:
        with self._lock:
            self.loaded += 1
        if index in self._corrupt:
            raise DataError(f"{self.name(index)} is truncated; replace it")
        return Sample(self.name(index), {"x": self._rows[index : index + 1]})

    def digest(self, index: int) -> str:
        return str(index)

    def fingerprint(self) -> str:
        return "rows"

    def describe(self) -> str:
        return f"{len(self)} rows"


class Identity:
    """A runner whose logits are its input."""

    provider = "cpu"
    load_seconds = 0.0
    inputs = (TensorSpec("x", (1, CLASSES), np.dtype(np.float32)),)
    outputs = (
        TensorSpec("logits", (1, CLASSES), np.dtype(np.float32)),
        TensorSpec("features", (1, 2), np.dtype(np.float32)),
    )

    def __init__(self, shape: tuple[int, ...] = (1, CLASSES)) -> None:
        self._shape = shape
        self.seen: Callable[[], None] = lambda: None

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self.seen()
        return {"features": np.zeros((1, 2)), "logits": feeds["x"].reshape(self._shape)}

    def bind(self, feeds: Mapping[str, NDArray[Any]]) -> Callable[[], None]:
        raise NotImplementedError


def labels_of(*classes: int) -> Labels:
    return Labels({f"{index:03}.png": label for index, label in enumerate(classes)})


def descending_from(first: int) -> list[float]:
    """Return logits that rank the classes first, first + 1, ... and so round."""
    return [float(CLASSES - (label - first) % CLASSES) for label in range(CLASSES)]


@pytest.mark.parametrize("threads", [0, 1, 4])
@pytest.mark.parametrize("shape", [(1, CLASSES), (1, CLASSES, 1, 1)])
def test_top1_and_top5(threads: int, shape: tuple[int, ...]) -> None:
    source = Rows([descending_from(0)] * 4)
    found = evaluate(Identity(shape), source, labels_of(0, 1, 4, 5), threads)
    assert (found.top1, found.top5, found.n) == (0.25, 0.75, 4)
    assert found.correct.tolist() == [True, False, False, False]
    assert found.names == ("000.png", "001.png", "002.png", "003.png")
    assert found.skipped == ()


def test_outcomes_stay_in_order_over_threads() -> None:
    rng = np.random.default_rng(0)
    answers = rng.integers(CLASSES, size=200)
    truth = rng.integers(CLASSES, size=200)
    source = Rows([descending_from(int(answer)) for answer in answers])
    found = evaluate(Identity(), source, labels_of(*truth.tolist()), threads=4)
    np.testing.assert_array_equal(found.correct, answers == truth)


def test_equal_logits_count_as_argmax_has_them() -> None:
    # A quantized classifier whose logits all saturate must not be right every time.
    source = Rows([[7.0] * CLASSES] * 3)
    found = evaluate(Identity(), source, labels_of(0, 4, 5), threads=1)
    assert found.correct.tolist() == [True, False, False]
    assert found.top5 == pytest.approx(2 / 3)


def test_unreadable_samples_are_skipped_and_named(caplog: pytest.LogCaptureFixture) -> None:
    source = Rows([descending_from(0)] * 20, corrupt=(3, 11))
    with caplog.at_level(logging.WARNING):
        found = evaluate(Identity(), source, labels_of(*[0] * 20), threads=2)
    assert (found.n, found.top1) == (18, 1.0)
    assert found.skipped == ("003.png", "011.png")
    assert "003.png" not in found.names
    assert "2 of 20 skipped: 003.png, 011.png" in caplog.text


def test_too_many_unreadable_samples() -> None:
    source = Rows([descending_from(0)] * 20, corrupt=(3, 11, 12))
    with pytest.raises(DataError, match="more than 10 % of the samples cannot be used"):
        evaluate(Identity(), source, labels_of(*[0] * 20), threads=2)


def test_samples_without_a_label_are_not_read() -> None:
    source = Rows([descending_from(2)] * 6, corrupt=(4, 5))
    found = evaluate(Identity(), source, labels_of(2, 2, 2), threads=2)
    assert (found.n, found.top1) == (3, 1.0)
    assert source.loaded == 3


def test_no_sample_has_a_label() -> None:
    with pytest.raises(DataError, match="no sample of 1 rows has a label; check --labels"):
        evaluate(Identity(), Rows([descending_from(0)]), Labels({"other.png": 1}), threads=1)


def test_few_samples_wait_in_memory() -> None:
    source, runner = Rows([descending_from(0)] * 100), Identity()
    ahead: list[int] = []
    runner.seen = lambda: ahead.append(source.loaded - len(ahead))
    evaluate(runner, source, labels_of(*[0] * 100), threads=3)
    assert max(ahead) <= 3 * 2 + 1


@pytest.mark.parametrize("label", [CLASSES, -1])
def test_a_label_that_is_no_class(label: int) -> None:
    with pytest.raises(
        DataError, match=rf"label {label} of 000.png is beyond the model's 8 classes"
    ):
        evaluate(Identity(), Rows([descending_from(0)]), labels_of(label), threads=1)


def test_nan_logits() -> None:
    source = Rows([[*descending_from(0)[:-1], np.nan]])
    with pytest.raises(ModelError, match=r"output 'logits' holds NaN for 000\.png"):
        evaluate(Identity(), source, labels_of(0), threads=1)


@pytest.mark.parametrize("shape", [(CLASSES,), (2, 4), (1, 2, 2, 2), (CLASSES, 1), (1, 1, CLASSES)])
def test_an_output_that_is_no_row_of_logits(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"has the shape \[.*\], which is not one row of logits"):
        evaluate(Identity(shape), Rows([descending_from(0)]), labels_of(0), threads=1)
