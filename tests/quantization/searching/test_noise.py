import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from qbench.model.decoders import Candidates
from qbench.quantization.searching.noise import (
    Proposals,
    detection_noise,
    relative_noise,
    sqnr_from_noise,
)


def test_noise_of_scores_counts_beside_that_of_coordinates() -> None:
    random = np.random.default_rng(0)
    boxes = random.uniform(0, 320, (2, 1, 4, 500))
    scores = random.uniform(0, 1, (2, 1, 6, 500))
    reference = np.concatenate([boxes, scores], axis=2).astype(np.float32)
    shuffled = np.concatenate([boxes, random.permuted(scores, axis=3)], axis=2)
    assert relative_noise(reference, list(shuffled.astype(np.float32))) > 0.4
    assert relative_noise(reference, list(reference)) == 0


@given(st.floats(0.001, 0.2), st.floats(0.01, 1000))
def test_noise_of_logits_is_error_over_variance(share: float, size: float) -> None:
    random = np.random.default_rng(0)
    reference = random.normal(0, size, (16, 1, 1000)).astype(np.float32)
    noise = random.normal(0, size * np.sqrt(share), reference.shape).astype(np.float32)
    assert relative_noise(reference, list(reference + noise)) == pytest.approx(share, rel=0.1)


@pytest.mark.parametrize("sides", [(32, 32), (24, 32), (32, 24)])
def test_rows_of_an_image_are_no_features(sides: tuple[int, int]) -> None:
    """Where nothing is to be seen, the little that remains is not as much as all the rest."""
    random = np.random.default_rng(0)
    heat = random.uniform(0, 1, (1, 1, 1, *sides)).astype(np.float32)
    heat[..., 12:, 12:] *= 1e-3
    heat[..., 12:, :12] *= 1e-3
    noisy = heat + random.normal(0, 0.01, heat.shape).astype(np.float32)
    assert relative_noise(heat, list(noisy)) < 0.01


@pytest.mark.parametrize("channels_at", [2, 4])
def test_channels_of_a_grid_of_cells_are_features(channels_at: int) -> None:
    random = np.random.default_rng(0)
    boxes = random.uniform(0, 320, (1, 1, 4, 13, 13))
    scores = random.uniform(0, 1, (1, 1, 80, 13, 13))
    shuffled = random.permuted(scores, axis=4)
    reference, test = (
        np.moveaxis(np.concatenate([boxes, some], axis=2), 2, channels_at).astype(np.float32)
        for some in (scores, shuffled)
    )
    assert relative_noise(reference, list(test)) > 0.4


def test_classes_of_one_image_are_no_features() -> None:
    """Of a single value nothing varies."""
    logits = np.random.default_rng(0).normal(size=(1, 1, 1000, 1, 1)).astype(np.float32)
    assert relative_noise(logits, list(logits + np.float32(0.1))) == pytest.approx(0.01, rel=0.2)


def test_a_feature_that_never_varies_does_not_count() -> None:
    random = np.random.default_rng(0)
    reference = random.normal(size=(4, 1, 3, 50)).astype(np.float32)
    reference[:, :, 2] = 8
    moved = reference.copy()
    moved[:, :, 2] += np.float32(0.01)
    assert relative_noise(reference, list(moved)) < 0.001


def test_a_constant_output_is_right_or_ruined() -> None:
    constant = np.ones((2, 3), np.float32)
    assert relative_noise(constant, list(constant)) == 0
    assert relative_noise(constant, list(constant + 1)) == 1


def test_a_constant_output_is_not_ruined_by_rounding() -> None:
    constant = np.full((2, 1, 3), 1.7, np.float32)
    rounded = constant * (1 + np.finfo(np.float32).eps)
    assert np.any(rounded != constant)
    assert relative_noise(constant, list(rounded)) < 0.001


def test_many_samples_are_compared_in_the_memory_of_a_few() -> None:
    """All of them in double precision took four times the memory of what is compared."""
    reference = np.random.default_rng(0).normal(size=(64, 1, 1000)).astype(np.float32)
    tracemalloc.start()
    relative_noise(reference, list(reference))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < reference.nbytes / 2


def test_an_output_of_nan_is_ruined() -> None:
    reference = np.random.default_rng(0).normal(size=(2, 1, 10)).astype(np.float32)
    broken = reference.copy()
    broken[0, 0, 0] = np.nan
    assert relative_noise(reference, list(broken)) == 1


def test_where_the_reference_is_infinite_nothing_is_compared() -> None:
    reference = np.random.default_rng(0).normal(size=(2, 1, 10)).astype(np.float32)
    test = reference + np.float32(0.1) * reference.std()
    without = relative_noise(reference, list(test))
    for odd in (np.inf, np.nan):
        reference[:, 0, 3] = odd
        assert relative_noise(reference, list(test)) == pytest.approx(without, rel=0.5)


@pytest.mark.parametrize(("noise", "expected"), [(1.0, 0), (0.01, 20), (0.0, 120)])
def test_noise_as_a_ratio_in_decibels(noise: float, expected: float) -> None:
    assert sqnr_from_noise(noise) == pytest.approx(expected)


def proposals(move: float = 0, share: float = 1, where: int = 0) -> list[Candidates]:
    """Two images with one sure object each, among ten boxes; one box is moved."""
    boxes = np.tile([10.0, 10, 30, 30], (10, 1))
    boxes[where] += move
    scores = np.full((10, 3), 1e-3)
    scores[0, 1] = 0.9 * share
    return [Candidates(boxes, scores)] * 2


def noise_of(test: list[Candidates]) -> NDArray[Any]:
    return detection_noise([Proposals.of(one) for one in proposals()], test)


def test_a_box_matters_where_there_is_an_object() -> None:
    assert noise_of(proposals()).max() < 1e-12  # but for single precision
    # A tenth of the side, squared, and averaged with scores that are right.
    assert noise_of(proposals(move=2)) == pytest.approx([0.005] * 2, rel=1e-3)
    assert noise_of(proposals(move=2, where=5)).max() < 1e-7


def test_scores_count_by_their_energy() -> None:
    assert noise_of(proposals(share=0.9)) == pytest.approx([0.005] * 2, rel=1e-2)


def test_an_image_cannot_be_worse_than_lost() -> None:
    assert (noise_of(proposals(move=1e6, share=-50)) == 1).all()
    assert (noise_of(proposals(move=np.nan, share=np.nan)) == 1).all()
