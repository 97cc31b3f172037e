import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from qbench.calibration.fixed_point import add_sums, no_sums, to_float
from qbench.calibration.loops import add_in_fixed_point

terms = arrays(np.float64, (6, 3), elements=st.floats(-(2.0**61), 2.0**61))


def summed(terms: NDArray[np.float64]) -> NDArray[np.int64]:
    sums = no_sums(terms.shape[1])
    for term in terms:
        add_in_fixed_point(sums, term)
    return sums


@given(terms, st.permutations(range(6)), st.integers(0, 6))
def test_a_sum_has_the_same_bits_in_any_order_and_split(
    terms: NDArray[np.float64], order: list[int], split: int
) -> None:
    first, second = summed(terms[order[:split]]), summed(terms[order[split:]])
    add_sums(first, second)
    assert np.array_equal(first, summed(terms))


@given(arrays(np.float64, 5, elements=st.floats(-(2.0**61), 2.0**61)))
def test_a_term_is_rounded_to_its_unit(term: NDArray[np.float64]) -> None:
    assert np.abs(to_float(summed(term[None])) - term).max() <= 2.0**-47


def test_carries_keep_a_sum_of_many_exact() -> None:
    assert to_float(summed(np.full((1000, 1), 2.0**14 - 2.0**-20)))[0] == 1000 * (
        2.0**14 - 2.0**-20
    )


def test_terms_beyond_the_limit_are_held_at_it() -> None:
    held = to_float(summed(np.array([[1e300, -1e300]])))
    assert np.array_equal(held, [2.0**62, -(2.0**62)])
