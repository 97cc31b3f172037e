"""A rival is run on no more samples than it takes to see that it loses."""

from collections.abc import Iterator, Sequence

import graphs
import numpy as np
import pytest

from qbench.data.samples import Sample
from qbench.quantization.choice import Choice
from qbench.quantization.int8 import Int8Options, Quantizer
from qbench.quantization.searching import contest
from qbench.quantization.searching.contest import Contest
from qbench.quantization.searching.judge import Judge, SampleRunner, run_samples
from qbench.runtimes.base import Tensors

SAMPLES = 8


@pytest.fixture
def arena() -> Contest:
    model = graphs.model_of(graphs.residual())
    quantizer = Quantizer(model, "tensorrt", graphs.table_of(model), Int8Options())
    samples = [Sample(str(seed), graphs.feeds_of(model, seed)) for seed in range(SAMPLES)]
    reference = run_samples(quantizer.prepared.ir, samples, simulate=False)
    return Contest(quantizer, samples, Judge(samples, reference))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples were run at a time."""
    seen: list[int] = []

    class Counting(SampleRunner):
        def each(self, samples: Sequence[Sample]) -> Iterator[Tensors]:
            seen.append(len(samples))
            return super().each(samples)

    monkeypatch.setattr(contest, "SampleRunner", Counting)
    return seen


def narrowed(one: Contest, share: float) -> Choice:
    """Return a choice with a share of the first tensor's range."""
    tensor, (low, high) = next(iter(one.quantizer.ranges().items()))
    return Choice(ranges={tensor: (share * low, share * high)})


def test_a_rival_that_plainly_loses_is_run_on_few_samples(arena: Contest, runs: list[int]) -> None:
    best, worse = arena.trial(Choice()), narrowed(arena, 0.25)
    whole = arena.trial(worse)
    runs.clear()
    rival = arena.rival(worse, best)
    assert runs == [SAMPLES // 4]
    assert not rival.is_better_than(best)
    assert rival.noise == pytest.approx(whole.noise, rel=0.5)


def test_a_rival_that_may_win_is_judged_on_every_sample(arena: Contest, runs: list[int]) -> None:
    poor, better = arena.trial(narrowed(arena, 0.25)), Choice()
    whole = arena.trial(better)
    runs.clear()
    rival = arena.rival(better, poor)
    assert sum(runs) == SAMPLES
    assert rival.is_better_than(poor)
    assert rival.noise == whole.noise
    np.testing.assert_array_equal(rival.noise_of_each, whole.noise_of_each)


def test_samples_without_noise_do_not_tell_who_loses() -> None:
    nothing, little = np.zeros(4), np.full(4, 1e-6)
    assert not contest._lose(little, nothing)
    assert contest._lose(2 * little, little)
