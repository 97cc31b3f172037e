from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from qbench.errors import QuantizationError
from qbench.quantization.numerics import (
    FLOAT8,
    INT4,
    SMALLEST_SCALE,
    QuantizationParameters,
    asymmetric,
    dequantize,
    float8,
    per_block_int4,
    per_channel_float8,
    per_channel_symmetric,
    quantize,
    symmetric,
    with_offset,
)
from qbench.runtimes.ort.graphs import open_graph

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


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_a_large_array_is_rounded_like_its_parts(
    axis: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    parameters = per_channel_symmetric(array, axis)
    whole = quantize(array, parameters, axis)
    monkeypatch.setattr("qbench.quantization.numerics._BLOCK_VALUES", 3 * 5)
    assert np.array_equal(quantize(array, parameters, axis), whole)


def test_a_scalar_and_nothing_have_codes_of_their_own_shape() -> None:
    parameters = symmetric(-127, 127)
    assert quantize(np.array(2.5, np.float32), parameters) == np.array(2, np.int8)
    assert quantize(np.zeros((0, 3), np.float32), parameters).shape == (0, 3)


@given(weights, st.sampled_from([None, 0, 1, 2]))
def test_weights(weight: NDArray[Any], axis: int | None) -> None:
    parameters = per_channel_symmetric(weight, axis)
    assert parameters.scale.shape == (() if axis is None else (weight.shape[axis],))
    assert not parameters.zero_point.any()
    codes = quantize(weight, parameters, axis)
    assert np.abs(codes.astype(int)).max() <= 127
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    scale = parameters.scale if axis is None else parameters.scale.reshape(shape)
    error = np.abs(dequantize(codes, parameters, axis) - weight)
    assert np.all(error <= scale / 2 + 1e-6 * np.abs(weight))


def test_the_largest_weight_of_every_channel_is_kept() -> None:
    weight = np.array([[1.0, -2.0], [0.001, 0.003]], np.float32)
    parameters = per_channel_symmetric(weight, 0)
    assert quantize(weight, parameters, 0).tolist() == [[64, -127], [42, 127]]


def test_scales_may_have_to_hold_more_than_the_weights() -> None:
    weight = np.array([[1.0, -2.0], [0.25, 4.0]], np.float32)
    least = np.array([254, 1], np.float32)
    assert per_channel_symmetric(weight, 0, least).scale == pytest.approx([2, 4 / 127])
    assert per_channel_symmetric(weight, None, least).scale == pytest.approx(2)


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
    assert per_channel_symmetric(zeros, None).scale == SMALLEST_SCALE
    assert per_channel_symmetric(zeros, 0).scale.tolist() == [SMALLEST_SCALE] * 2
    for parameters in (symmetric(0, 0), asymmetric(0, 0), with_offset(0, 0)):
        assert not parameters.zero_point.any()
        assert not dequantize(quantize(zeros, parameters), parameters).any()


def test_a_bias_behind_zeros_fits_into_int32() -> None:
    """In steps of the scale of the zeros times that of the weights, which are 1 at most here."""
    weights = per_channel_symmetric(np.float32([[0.3]]), None)
    for parameters in (symmetric(0, 0), asymmetric(0, 0), with_offset(0, 0)):
        steps = 50 / (parameters.scale.astype(np.float64) * weights.scale)
        assert 1e6 < steps < np.iinfo(np.int32).max


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("axis", [0, None])
def test_weights_that_are_no_numbers_have_no_scale(value: float, axis: int | None) -> None:
    weight = np.ones((2, 32), np.float32)
    weight[1, 3] = value
    for find in (
        partial(per_channel_symmetric, weight, axis),
        partial(per_channel_float8, weight, axis),
        partial(per_block_int4, weight, 1, 32),
    ):
        with pytest.raises(QuantizationError, match="weights hold NaN or Inf; train or export"):
            find()


@given(values)
def test_fp8_keeps_four_significant_bits(array: NDArray[Any]) -> None:
    parameters = float8(float(array.min()), float(array.max()))
    rounded = dequantize(quantize(array, parameters), parameters)
    smallest_step = parameters.scale * 2.0**-9
    limit = np.maximum(np.abs(array) / 16, smallest_step / 2)
    assert np.all(np.abs(rounded - array) <= limit * (1 + 1e-5))


@given(values, st.floats(0.01, 100))
def test_fp8_rounds_like_the_format_itself_and_saturates(
    array: NDArray[Any], largest: float
) -> None:
    parameters = float8(-largest, largest)
    wanted = (array / parameters.scale).clip(-448, 448).astype(ml_dtypes.float8_e4m3fn)
    found = quantize(array, parameters)
    assert np.array_equal(found.astype(np.float32), wanted.astype(np.float32))
    assert np.all(np.isfinite(found.astype(np.float32)))


@pytest.mark.parametrize("dtype", [FLOAT8, INT4])
@given(exponent=st.integers(-10, 10))
def test_every_code_of_a_narrow_type_survives_a_round_trip(dtype: Any, exponent: int) -> None:
    if dtype == INT4:
        codes = np.arange(-8, 8).astype(INT4)
    else:
        codes = np.arange(256).astype(np.uint8).view(FLOAT8)
        codes = codes[np.isfinite(codes.astype(np.float32))]
    parameters = QuantizationParameters(np.float32(2.0**exponent), np.zeros((), dtype))
    again = quantize(dequantize(codes, parameters), parameters)
    assert again.dtype == codes.dtype
    assert np.array_equal(again.astype(np.float32), codes.astype(np.float32))


@given(weights, st.sampled_from([None, 0, 1, 2]))
def test_the_largest_fp8_weight_of_every_channel_is_448(
    weight: NDArray[Any], axis: int | None
) -> None:
    parameters = per_channel_float8(weight, axis)
    assert parameters.scale.shape == (() if axis is None else (weight.shape[axis],))
    codes = np.abs(quantize(weight, parameters, axis).astype(np.float32))
    others = None if axis is None else tuple(i for i in range(weight.ndim) if i != axis)
    is_zero = np.abs(weight).max(axis=others) / 448 <= SMALLEST_SCALE
    assert np.all((codes.max(axis=others) == 448) | is_zero)


blocks = arrays(np.float32, st.tuples(st.just(12), st.integers(1, 4)), elements=finite)


@given(blocks, st.sampled_from([2, 4, 6]))
def test_int4_blocks_are_at_least_as_good_as_scales_of_the_largest_weight(
    weight: NDArray[Any], block: int
) -> None:
    parameters = per_block_int4(weight, 0, block)
    assert parameters.scale.shape == (12 // block, weight.shape[1])
    largest = np.abs(weight.reshape(-1, block, weight.shape[1])).max(axis=1)
    plain = QuantizationParameters(
        np.maximum(largest / 7, SMALLEST_SCALE).astype(np.float32), parameters.zero_point
    )
    errors = [
        np.square(dequantize(quantize(weight, p, 0), p, 0) - weight).sum()
        for p in (parameters, plain)
    ]
    assert errors[0] <= errors[1] * (1 + 1e-5) + 1e-12


@given(blocks, st.sampled_from([2, 3, 4]))
def test_int4_blocks_run_along_any_axis(weight: NDArray[Any], block: int) -> None:
    rows, columns = per_block_int4(weight, 0, block), per_block_int4(weight.T.copy(), 1, block)
    assert np.array_equal(rows.scale.T, columns.scale)
    codes = quantize(weight, rows, 0), quantize(weight.T.copy(), columns, 1)
    assert np.array_equal(codes[0].T.astype(np.int8), codes[1].astype(np.int8))


@pytest.mark.parametrize("kind", ["fp8", "int4"])
def test_onnx_runtime_reads_the_codes_alike(kind: str) -> None:
    weight = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    parameters = per_channel_float8(weight, 1) if kind == "fp8" else per_block_int4(weight, 0, 32)
    axis, attributes = (1, {}) if kind == "fp8" else (0, {"block_size": 32})
    codes = quantize(weight, parameters, axis)
    tensors = [codes, parameters.scale, parameters.zero_point]
    inputs = [ir.Value(name=f"i{i}", const_value=ir.tensor(t)) for i, t in enumerate(tensors)]
    node = ir.node("DequantizeLinear", inputs, {"axis": axis, **attributes})
    output = node.outputs[0]
    output.name, output.type = "y", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([], [output], nodes=[node], initializers=inputs, opset_imports={"": 21})
    found = open_graph(ir.Model(graph, ir_version=10), simulate=True).run({})["y"]
    assert np.array_equal(found, dequantize(codes, parameters, axis))
