import numpy as np
import pytest
from numpy.typing import NDArray

from qbench.quantization.searching.rounding import compensated_codes


def layer(groups: int, outputs: int, inputs: int) -> tuple[NDArray[np.float64], ...]:
    """Weights, their scales, and rows of correlated inputs, as neighbouring pixels are."""
    random = np.random.default_rng(3)
    weight = random.normal(size=(groups, outputs, inputs))
    scale = np.abs(weight).max(axis=2) / 127
    rows = random.normal(size=(groups, 4000, inputs)) * 0.2
    rows += random.normal(size=(groups, 4000, 1))
    return weight, scale, rows


def output_error(
    codes: NDArray[np.int8], layer: tuple[NDArray[np.float64], ...]
) -> NDArray[np.float64]:
    weight, scale, rows = layer
    error = codes * scale[:, :, None] - weight
    return np.square(rows @ error.transpose(0, 2, 1)).mean(axis=(1, 2))


@pytest.mark.parametrize("shape", [(1, 8, 9), (16, 1, 9), (1, 4, 200)], ids=str)
def test_the_output_is_nearer_than_with_the_nearest_codes(shape: tuple[int, int, int]) -> None:
    one = weight, scale, rows = layer(*shape)
    covariance = rows.transpose(0, 2, 1) @ rows / rows.shape[1]
    codes = compensated_codes(weight, covariance, scale)
    nearest = np.rint(weight / scale[:, :, None]).astype(np.int8)
    assert output_error(codes, one).mean() < 0.7 * output_error(nearest, one).mean()


def test_independent_inputs_are_rounded_to_the_nearest() -> None:
    weight, scale, _ = layer(1, 8, 30)
    variances = np.linspace(1, 3, 30)
    codes = compensated_codes(weight, np.diag(variances)[None], scale)
    np.testing.assert_array_equal(codes, np.rint(weight / scale[:, :, None]))


@pytest.mark.parametrize("groups", [1, 3])
def test_codes_stay_within_their_limit_and_that_of_pairs(groups: int) -> None:
    weight, scale, rows = layer(groups, 8, 9)
    covariance = rows.transpose(0, 2, 1) @ rows / rows.shape[1]
    pairs = np.array([[8, 1], [3, 0], [2, 7], [4, 6]])  # 5 is alone
    partners = np.arange(9)
    partners[pairs] = pairs[:, ::-1]
    free = compensated_codes(weight, covariance, scale / 2).astype(int)
    bound = compensated_codes(weight, covariance, scale / 2, partners).astype(int)
    assert np.abs(free).max() == np.abs(bound).max() == 127
    sums = [np.abs(codes[..., pairs].sum(axis=-1)) for codes in (free, bound)]
    assert sums[0].max() > sums[1].max() == 128


@pytest.mark.parametrize("least", [-0.01, -1.0, -10.0, np.inf])
def test_a_covariance_that_is_none_by_rounding_does_no_harm(least: float) -> None:
    """Of inputs that go together, with a variance of `least` in all other directions."""
    weight, scale, _ = layer(2, 8, 9)
    covariance = np.ones((2, 9, 9), np.float32)
    covariance[1][np.diag_indices(9)] += np.float32(least)
    codes = compensated_codes(weight, covariance, scale)
    nearest = np.rint(weight / scale[:, :, None])
    assert np.abs(codes - nearest).max() <= 2
    assert np.abs(codes.astype(int)).max() <= 127


def test_an_input_that_never_varies_does_no_harm() -> None:
    weight, scale, _ = layer(1, 8, 9)
    codes = compensated_codes(weight, np.zeros((1, 9, 9)), scale)
    np.testing.assert_array_equal(codes, np.rint(weight / scale[:, :, None]))
