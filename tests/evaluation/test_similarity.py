import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from qbench.errors import DataError
from qbench.evaluation.similarity import (
    box_ious,
    cosine,
    detection_agreement,
    same_neighbours,
    sqnr_db,
    top1_agreement,
)

Floats = NDArray[np.float32]

vectors = arrays(np.float32, st.integers(1, 30), elements=st.floats(-(2.0**20), 2.0**20, width=32))


@given(vectors)
def test_an_array_is_like_itself(x: Floats) -> None:
    assert sqnr_db(x, x) == math.inf
    assert cosine(x, x) == pytest.approx(1.0)


def test_sqnr_by_hand() -> None:
    reference = np.array([[3.0, 4.0]], np.float32)
    assert sqnr_db(reference, reference + 0.5) == pytest.approx(10 * math.log10(25 / 0.5))


@given(st.floats(0.01, 0.5))
def test_sqnr_of_a_relative_error(error: float) -> None:
    reference = np.linspace(-1, 1, 50)
    assert sqnr_db(reference, reference * (1 + error)) == pytest.approx(-20 * math.log10(error))


def test_sqnr_accumulates_in_float64() -> None:
    reference = np.full(4_000_000, 100.0, np.float16)
    test = reference + np.float16(1.0)
    assert sqnr_db(reference, test) == pytest.approx(40.0)


def test_cosine_by_hand() -> None:
    x = np.array([1.0, 0.0])
    assert cosine(x, np.array([1.0, 1.0])) == pytest.approx(math.sqrt(0.5))
    assert cosine(x, np.array([0.0, 7.0])) == 0.0
    assert cosine(x, -3 * x) == -1.0


@given(vectors, st.floats(0.01, 100))
def test_cosine_ignores_scale_and_keeps_its_range(x: Floats, scale: float) -> None:
    y = np.roll(x, 1)
    assert -1 <= cosine(x, y) <= 1
    assert cosine(x.astype(np.float64) * scale, y) == pytest.approx(cosine(x, y), abs=1e-9)


def test_zeros() -> None:
    zero, one = np.zeros((2, 2)), np.ones((2, 2))
    assert sqnr_db(zero, zero) == math.inf
    assert sqnr_db(zero, one) == -math.inf
    assert sqnr_db(one, zero) == 0.0
    assert cosine(zero, zero) == 1.0
    assert cosine(zero, one) == 0.0


@pytest.mark.parametrize("compare", [sqnr_db, cosine])
def test_nan_and_infinity(compare: Callable[[Floats, Floats], float]) -> None:
    good = np.array([1.0, 2.0], np.float32)
    bad = np.array([1.0, np.nan], np.float32)
    infinite = np.array([1.0, np.inf], np.float32)
    assert math.isnan(compare(good, bad))
    assert math.isnan(compare(bad, good))
    assert math.isnan(compare(infinite, infinite))


def test_an_infinite_output_is_all_noise() -> None:
    assert sqnr_db(np.ones(2), np.array([1.0, np.inf])) == -math.inf


def test_top1_agreement() -> None:
    reference = np.array([[1, 5, 2], [9, 0, 1], [3, 3, 1], [0, 1, 2]])
    test = np.array([[2, 6, 1], [0, 9, 1], [4, 4, 0], [0, 1, 3]])
    assert top1_agreement(reference, test) == 0.75
    assert top1_agreement(reference[:, :, None, None], test[:, :, None, None]) == 0.75


def test_a_row_with_nan_agrees_with_none() -> None:
    rows = np.array([[np.nan, 1.0], [0.0, 1.0]])
    assert top1_agreement(rows, rows) == 0.5


@pytest.mark.parametrize("compare", [sqnr_db, cosine, top1_agreement])
def test_shapes_must_be_equal(compare: Callable[[Floats, Floats], float]) -> None:
    with pytest.raises(DataError, match=r"shapes \[1, 3\] and \[3\] cannot be compared"):
        compare(np.ones((1, 3), np.float32), np.ones(3, np.float32))


def test_agreement_of_nothing() -> None:
    with pytest.raises(DataError, match="cannot be compared"):
        top1_agreement(np.ones((0, 3)), np.ones((0, 3)))


def test_box_ious_by_hand() -> None:
    a = np.array([[0, 0, 10, 10], [5, 5, 5, 9]], np.float64)
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10]], np.float64)
    np.testing.assert_allclose(box_ious(a, b), [[1, 1 / 3, 0], [0, 0, 0]])


def boxes_of(*rows: tuple[float, ...]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return boxes 10 x 10 at x = 20 * place + shift from rows of place, shift and class."""
    table = np.array(rows, np.float64).reshape(-1, 3)
    left = 20 * table[:, 0] + table[:, 1]
    zero = np.zeros(len(table))
    return np.stack([left, zero, left + 10, zero + 10], axis=1), table[:, 2].astype(np.int64)


@pytest.mark.parametrize(
    ("reference", "test", "expected"),
    [
        ([(0, 0, 1), (1, 0, 2)], [(1, 0, 2), (0, 0, 1)], 1.0),
        ([(0, 0, 1), (1, 0, 2)], [(0, 3, 1), (1, 4, 2)], 2 / 4),  # IoU 7/13 and 6/14
        ([(0, 0, 1)], [(0, 0, 2)], 0.0),
        ([(0, 0, 1)], [(0, 0, 1), (0, 1, 1)], 2 / 3),  # one box is found once
        ([(0, 0, 1)], [], 0.0),
        ([], [(0, 0, 1)], 0.0),
        ([], [], 1.0),
    ],
)
def test_detection_agreement(
    reference: list[tuple[int, ...]], test: list[tuple[int, ...]], expected: float
) -> None:
    assert detection_agreement(boxes_of(*reference), boxes_of(*test)) == pytest.approx(expected)


def test_neighbours_of_many_rows_are_those_of_the_whole_table() -> None:
    """More rows than are compared at once."""
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((2500, 4))
    test = reference + rng.standard_normal(reference.shape) * 0.1
    nearest = []
    for table in (reference, test):
        products = table @ table.T
        np.fill_diagonal(products, -np.inf)
        nearest.append(products.argmax(1))
    found = same_neighbours(reference, test)
    assert 0 < found.mean() < 1
    np.testing.assert_array_equal(found, nearest[0] == nearest[1])


def test_any_of_equal_neighbours_will_do() -> None:
    reference = np.array([[1.0, 0], [0.9, 0.1], [0.9, 0.1], [0, 1]])
    test = reference + np.array([[0, 0], [0, 0], [0.01, 0], [0, 0]])
    assert same_neighbours(reference, test).all()
    assert not same_neighbours(reference, test[[0, 1, 3, 2]]).all()


def test_neighbours_that_rounding_alone_tells_apart_are_equal() -> None:
    reference = np.array([[1.0, 0], [0.9, 0.1], [0.9 - 1e-9, 0.1], [0, 1]])
    test = np.array([[1.0, 0], [0.9, 0.1], [0.91, 0.1], [0, 1]])
    assert same_neighbours(reference, test)[0]


def test_neighbours_in_tables_of_other_shapes() -> None:
    with pytest.raises(DataError, match=r"shapes \[3, 2\] and \[2, 2\] cannot be compared"):
        same_neighbours(np.ones((3, 2)), np.ones((2, 2)))
