"""Outputs that are no numbers are refused; infinite ones are judged."""

import numpy as np
import pytest

from qbench.errors import ModelError
from qbench.evaluation.numbers import check_numbers


def test_one_nan_among_many_values_is_refused_by_output_and_sample() -> None:
    output = np.zeros((1, 3, 4), np.float16)
    output[0, 2, 1] = np.nan
    message = r"output 'y' holds NaN for a\.png; compare with fp32: where that gives the same"
    with pytest.raises(ModelError, match=message):
        check_numbers(output, "y", "a.png")


def test_infinite_values_rank_like_others() -> None:
    check_numbers(np.array([np.inf, -np.inf, 0.0]), "y", "a.png")
