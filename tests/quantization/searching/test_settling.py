from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from qbench.quantization.choice import Choice
from qbench.quantization.searching.refine import Settlement
from qbench.quantization.searching.settling import settled
from qbench.quantization.searching.trial import Trial

SETTLEMENTS = [Settlement(f"t{i}", (0.0, 1.0), None, 1.0 - i / 15) for i in range(15)]


def trial(choice: Choice, *noise_of_each: float) -> Trial:
    graph: Any = SimpleNamespace()
    return Trial(graph, choice, float(np.mean(noise_of_each)), np.array(noise_of_each))


def test_of_a_group_that_harms_each_half_is_tried() -> None:
    """Of 15 settlements, the twelfth ruins the model; only those that share its half are lost."""

    def rival(choice: Choice, _: Trial) -> Trial:
        return trial(choice, 1.0 if "t11" in choice.ranges else 0.5 - 0.01 * len(choice.ranges))

    best, taken = settled(trial(Choice(), 0.6), SETTLEMENTS, rival)
    assert set(best.choice.ranges) == {f"t{i}" for i in range(15)} - {"t11", "t12"}
    assert taken == 13


def test_of_a_group_that_changes_nothing_no_half_is_tried() -> None:
    tried = []

    def rival(choice: Choice, _: Trial) -> Trial:
        tried.append(len(choice.ranges))
        return trial(choice, 0.502)

    first = trial(Choice(), 0.5)
    assert settled(first, SETTLEMENTS, rival) == (first, 0)
    assert tried == [1, 2, 4, 8]


@pytest.mark.parametrize(("noise", "are_tried"), [(0.02, False), (0.2, True)])
def test_groups_that_promise_nothing_are_tried_of_a_harmed_model(
    noise: float, are_tried: bool
) -> None:
    """Of 8 settlements that harm, the first 4 promise 1.2 % of the noise, the others 0.8 %."""
    gains = [noise] * 7 + [0.003 * noise] * 4 + [0.002 * noise] * 4
    settlements = [Settlement(f"t{i}", (0.0, 1.0), None, gain) for i, gain in enumerate(gains)]
    tried = []

    def rival(choice: Choice, _: Trial) -> Trial:
        tried.append(set(choice.ranges))
        return trial(choice, 2 * noise)

    settled(trial(Choice(), noise), settlements, rival)
    assert {f"t{i}" for i in range(7, 11)} in tried
    assert ({f"t{i}" for i in range(11, 15)} in tried) == are_tried


@pytest.mark.parametrize(
    ("before", "after", "is_better"),
    [
        ((0.001, 0.001, 0.02), (0.002, 0.002, 0.01), False),
        ((0.001, 0.001, 0.02), (0.001, 0.002, 0.01), True),
        ((0.1, 0.1, 0.5), (0.2, 0.2, 0.1), True),
    ],
    ids=["one sample gains", "most do", "the model is harmed"],
)
def test_what_gains_in_one_sample_alone_is_not_taken(
    before: tuple[float, ...], after: tuple[float, ...], is_better: bool
) -> None:
    assert trial(Choice(), *after).is_better_than(trial(Choice(), *before)) is is_better
