from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from qbench.quantization.numerics import (
    SMALLEST_SCALE,
    asymmetric,
    dequantize,
    per_channel_symmetric,
    quantize,
    symmetric,
)

finite = st.floats(-1000, 1000, width=32)
values = arrays(np.float32, st.integers(1, 50), elements=finite)
weights = arrays(np.float32, st.tuples(*[st.integers(1, 5)] * 3), elements=finite)


@given(values, st.sampled_from([symmetric, asymmetric]))
def test_the_error_inside_the_range_is_half_a_step(array: NDArray[Any], kind: Any) -> None:
    parameters = kind(float(array.min()), float(array.max()))
    rounded = dequantize(quantize(array, parameters), parameters)
    limit = parameters.scale / 2 + 1e-6 * np.abs(array)
    assert np.all(np.abs(rounded - array) <= limit)


@given(values, st.floats(-500, -0.5), st.floats(0.5, 500))
def test_values_outside_the_range_saturate(array: NDArray[Any], low: float, high: float) -> None:
    parameters = asymmetric(low, high)
    rounded = dequantize(quantize(array, parameters), parameters)
    assert rounded.min() >= low - parameters.scale
    assert rounded.max() <= high + parameters.scale


@given(finite, finite)
def test_zero_is_exact(low: float, high: float) -> None:
    zero = np.zeros(1, np.float32)
    for parameters in (symmetric(low, high), asymmetric(low, high)):
        assert dequantize(quantize(zero, parameters), parameters) == zero


@given(values, finite, finite)
def test_the_codes_have_the_dtype_of_the_zero_point(
    array: NDArray[Any], low: float, high: float
) -> None:
    assert quantize(array, symmetric(low, high)).dtype == np.int8
    assert quantize(array, asymmetric(low, high)).dtype == np.uint8


@given(weights, st.sampled_from([None, 0, 1, 2]), st.sampled_from([7, 8]))
def test_weights(weight: NDArray[Any], axis: int | None, bits: int) -> None:
    parameters = per_channel_symmetric(weight, axis, bits)
    assert parameters.scale.shape == (() if axis is None else (weight.shape[axis],))
    assert not parameters.zero_point.any()
    codes = quantize(weight, parameters, axis)
    assert np.abs(codes.astype(int)).max() <= 2 ** (bits - 1) - 1
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    scale = parameters.scale if axis is None else parameters.scale.reshape(shape)
    error = np.abs(dequantize(codes, parameters, axis) - weight)
    assert np.all(error <= scale / 2 + 1e-6 * np.abs(weight))


def test_the_largest_weight_of_every_channel_is_kept() -> None:
    weight = np.array([[1.0, -2.0], [0.001, 0.003]], np.float32)
    parameters = per_channel_symmetric(weight, 0)
    assert quantize(weight, parameters, 0).tolist() == [[64, -127], [42, 127]]


def test_rounding_is_half_to_even() -> None:
    parameters = symmetric(-127, 127)
    codes = quantize(np.float32([0.5, 1.5, 2.5, -0.5, -1.5]), parameters)
    assert codes.tolist() == [0, 2, 2, 0, -2]


@pytest.mark.parametrize(
    ("low", "high", "zero_point"), [(0, 5, 0), (2, 5, 0), (-5, 0, 255), (-5, -2, 255), (-1, 1, 127)]
)
def test_zero_points(low: float, high: float, zero_point: int) -> None:
    assert asymmetric(low, high).zero_point == zero_point


def test_zeros_get_a_scale_that_can_be_divided_by() -> None:
    zeros = np.zeros((2, 3), np.float32)
    for parameters in (symmetric(0, 0), asymmetric(0, 0), per_channel_symmetric(zeros, None)):
        assert parameters.scale == SMALLEST_SCALE
        assert not dequantize(quantize(zeros, parameters), parameters).any()
    assert per_channel_symmetric(zeros, 0).scale.tolist() == [SMALLEST_SCALE] * 2
