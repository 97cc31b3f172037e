from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qbench.data.samples import Sample
from qbench.errors import DataError
from qbench.evaluation.layerwise import (
    LIMIT_DB,
    Layer,
    LayerScore,
    first_bad,
    scored,
    steepest,
    summed,
)
from qbench.evaluation.similarity import cosine, sqnr_db

RANDOM = np.random.default_rng(0)
ARRAYS = [RANDOM.normal(size=(1, 4, 700, 130)).astype(np.float32) for _ in range(2)]
SAMPLES = [Sample(str(i), {"x": array}) for i, array in enumerate(ARRAYS)]
Arrays = dict[str, NDArray[Any]]


class Framework:
    """Stands in for a framework: two dense layers, whose names and rounding are its own."""

    def __init__(self, names: tuple[str, str], decimals: int | None = None) -> None:
        self._names, self._decimals = names, decimals
        self._weights = np.random.default_rng(1).normal(size=(2, 5, 5))

    def __call__(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        seen, x = {}, feeds["x"]
        for name, weight in zip(self._names, self._weights, strict=True):
            x = np.maximum(x @ weight, 0)
            x = x if self._decimals is None else x.round(self._decimals)
            seen[name] = x
        return seen


def compare(
    reference: Any, test: Any, layers: Sequence[Layer], samples: Iterable[Sample] = SAMPLES
) -> list[LayerScore]:
    """Scores of `layers`, between two functions that return named tensors."""
    return scored(layers, summed(reference, test, layers, samples))


def one(reference: Any, test: Any, axis: int | None = None) -> LayerScore:
    """The score of one layer, whose arrays are given for one sample."""
    (score,) = compare(
        lambda _: {"a": np.asarray(reference)},
        lambda _: {"b": np.asarray(test)},
        [Layer("a", "b", "Conv", 1, axis=axis)],
        SAMPLES[:1],
    )
    return score


def test_two_frameworks_are_compared_by_the_names_of_their_layers() -> None:
    torch, other = Framework(("conv1", "fc")), Framework(("/conv1/out", "logits"), decimals=1)
    layers = [Layer("conv1", "/conv1/out", "", 1), Layer("fc", "logits", "", 2, ("conv1",))]
    samples = [Sample(str(i), {"x": RANDOM.normal(size=(3, 5))}) for i in range(4)]
    first, second = compare(torch, other, layers, samples)
    assert (first.name, first.test, first.depth, first.inputs) == ("conv1", "/conv1/out", 1, ())
    assert (second.depth, second.inputs) == (2, ("conv1",))
    assert 20 < first.sqnr_db < 60
    assert second.input_sqnr_db == first.sqnr_db
    equal = compare(
        torch, torch, [Layer("conv1", "conv1", "", 1), Layer("fc", "fc", "", 2)], samples
    )
    assert [score.sqnr_db for score in equal] == [LIMIT_DB] * 2
    assert [score.cosine for score in equal] == pytest.approx([1, 1])


def test_scores_are_those_of_all_samples_as_one_vector() -> None:
    def noisy(feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        return {"x": feeds["x"] * np.float32(1.01) + np.float32(0.1)}

    (score,) = compare(lambda f: dict(f), noisy, [Layer("x", "x", "", 1)])
    whole = np.stack(ARRAYS).astype(np.float64)
    other = np.stack([noisy({"x": array})["x"] for array in ARRAYS])
    assert score.sqnr_db == pytest.approx(sqnr_db(whole, other), abs=1e-6)
    assert score.cosine == pytest.approx(cosine(whole, other), abs=1e-9)


def test_a_factor_per_channel_is_no_error() -> None:
    factors = np.array([1e-3, 0.1, 1, 7], np.float32).reshape(-1, 1, 1)
    divided = ARRAYS[0] / factors
    assert one(ARRAYS[0], divided).sqnr_db < 10
    assert one(ARRAYS[0], divided, axis=1).sqnr_db > 120
    assert one(ARRAYS[0], divided, axis=1).cosine == pytest.approx(1)


def test_errors_behind_a_factor_per_channel_count() -> None:
    noise = RANDOM.normal(0, 0.1, ARRAYS[0].shape)
    assert one(ARRAYS[0], 3 * (ARRAYS[0] + noise), axis=1).sqnr_db == pytest.approx(20, abs=0.1)
    lost = one(ARRAYS[0], np.zeros_like(ARRAYS[0]), axis=1)
    assert (lost.sqnr_db, lost.cosine) == (0, 0)


def test_zeros() -> None:
    zeros, ones = np.zeros(3), np.ones(3)
    assert (one(zeros, zeros).sqnr_db, one(zeros, zeros).cosine) == (LIMIT_DB, 1)
    assert (one(zeros, ones).sqnr_db, one(zeros, ones).cosine) == (-LIMIT_DB, 0)
    assert one(zeros, ones).added_noise == 1
    assert one(np.zeros((1, 0)), np.zeros((1, 0)), axis=0).sqnr_db == LIMIT_DB


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("axis", [None, 1])
def test_nan_and_infinity_in_the_test_are_a_lost_layer(bad: float, axis: int | None) -> None:
    broken = ARRAYS[0].copy()
    broken[0, 3, 699, 129] = bad
    score = one(ARRAYS[0], broken, axis)
    assert (score.sqnr_db, score.cosine, score.added_noise) == (-LIMIT_DB, 0, 1)


def test_a_mask_of_infinities_in_both_is_no_error() -> None:
    masked = np.array([1.0, -np.inf, np.nan, 2.0])
    assert one(masked, masked).sqnr_db == LIMIT_DB
    assert one(masked, np.array([1.0, -np.inf, np.nan, 1.0])).sqnr_db == pytest.approx(
        10 * np.log10(5)
    )
    assert one(masked, np.array([1.0, np.inf, np.nan, 2.0])).sqnr_db == -LIMIT_DB


def diamond() -> list[LayerScore]:
    """A poor branch and a good one meet; what the sum loses, it has from the poor one."""
    errors = {"in": 0.01, "poor": 0.5, "good": 0.02, "sum": 0.6, "last": 0.4}
    layers = [
        Layer("in", "in", "Conv", 1),
        Layer("good", "good", "Conv", 2, ("in",)),
        Layer("poor", "poor", "Conv", 3, ("in",)),
        Layer("sum", "sum", "Add", 4, ("poor", "good")),
        Layer("last", "last", "Relu", 5, ("sum",)),
    ]
    signal = np.ones(4)
    return compare(
        lambda _: dict.fromkeys(errors, signal),
        lambda _: {name: signal * (1 + error) for name, error in errors.items()},
        layers,
        SAMPLES[:1],
    )


def test_a_layer_adds_what_exceeds_the_worst_of_its_inputs() -> None:
    added = {score.name: score.added_noise for score in diamond()}
    expected = {"in": 0.01**2, "poor": 0.5**2 - 0.01**2, "sum": 0.6**2 - 0.5**2, "last": 0}
    assert {name: added[name] for name in expected} == pytest.approx(expected)
    assert diamond()[3].input_sqnr_db == pytest.approx(diamond()[2].sqnr_db)


def test_the_first_bad_layer_is_the_first_below_the_threshold() -> None:
    def name(threshold: float) -> str | None:
        found = first_bad(diamond(), threshold)
        return found and found.name

    assert [name(t) for t in (-10, 5, 10, 35, 100)] == [None, "sum", "poor", "good", "in"]


def test_the_steepest_layer_adds_most() -> None:
    found = steepest(diamond())
    assert found is not None
    assert found.name == "poor"
    assert steepest([one(np.ones(3), np.ones(3))]) is None


def test_tensors_that_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="layer 'a' has 3 values in the reference and 4 in the"):
        one(np.ones(3), np.ones(4))
    with pytest.raises(DataError, match="the test gives no tensor 'y'; return it with the others"):
        compare(lambda f: dict(f), lambda f: dict(f), [Layer("x", "y", "", 1)])
    with pytest.raises(DataError, match="no samples to compare layers on; give more data"):
        compare(lambda f: dict(f), lambda f: dict(f), [Layer("x", "x", "", 1)], [])
