"""Ranges that other tools calibrated, in their own file formats."""

import json
from pathlib import Path

import graphs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime.quantization import CalibrationMethod
from onnxruntime.quantization.calibrate import TensorData, TensorsData, save_tensors_data
from onnxruntime.quantization.quant_utils import write_calibration_table

from qbench.calibration.interop import (
    DEFAULT_HEADER,
    ranges_from_ort_json,
    ranges_from_tensorrt_cache,
    read_ranges,
    tensorrt_cache_from_ranges,
    tensorrt_cache_from_table,
)
from qbench.errors import CalibrationError, UsageError

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1)
# Above float32's smallest normal number times 127, where scales keep all their bits.
LIMITS = st.floats(2.0**-110, 2.0**100)


def test_a_cache_as_tensorrt_writes_it() -> None:
    text = "TRT-100300-EntropyCalibration2\ndata: 3c010a14\n(Unnamed Layer* 1) [Shuffle]: 0\n\n"
    scale = 0.00787593796849250793  # 0x3c010a14 as float32
    assert ranges_from_tensorrt_cache(text) == {
        "data": pytest.approx((-127 * scale, 127 * scale), rel=1e-7)
    }


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_cache_that_an_editor_of_windows_kept(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "trt.cache"
    path.write_bytes(f"{DEFAULT_HEADER}\r\ndata: 3F800000\r\n".encode(encoding))
    assert read_ranges(path) == {"data": (-127.0, 127.0)}


def test_a_name_may_hold_colons() -> None:
    ranges = ranges_from_tensorrt_cache(f"{DEFAULT_HEADER}\nscope/conv:0: 3f800000\n")
    assert ranges == {"scope/conv:0": (-127.0, 127.0)}


@given(st.dictionaries(NAMES, LIMITS, min_size=1))
def test_what_is_written_is_read_again(limits: dict[str, float]) -> None:
    text = tensorrt_cache_from_ranges({name: (-limit, limit) for name, limit in limits.items()})
    read = ranges_from_tensorrt_cache(text)
    assert list(read) == list(limits)
    for name, limit in limits.items():
        assert read[name] == pytest.approx((-limit, limit), rel=1e-6)
    assert tensorrt_cache_from_ranges(read) == text


def test_a_table_becomes_a_cache_of_its_symmetric_ranges() -> None:
    table = graphs.table_of(graphs.model_of(graphs.residual()), 2)
    ranges = ranges_from_tensorrt_cache(tensorrt_cache_from_table(table, "minmax"))
    assert ranges.keys() == table.statistics.keys()
    for name, (low, high) in ranges.items():
        expected = max(-table.statistics[name].low, table.statistics[name].high)
        assert (-low, high) == pytest.approx((expected, expected), rel=1e-6)


def test_an_unknown_method() -> None:
    table = graphs.table_of(graphs.model_of(graphs.residual()), 2)
    with pytest.raises(UsageError, match="unknown range method 'best'"):
        tensorrt_cache_from_table(table, "best")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begins with ''"),
        ("data: 3c010a14\n", "begins with 'data: 3c010a14'"),
        (f"{DEFAULT_HEADER}\ndata 3c010a14\n", "line 2 is 'data 3c010a14'"),
        (f"{DEFAULT_HEADER}\na: 3f800000\nb: 3c01zz14\n", "line 3 is 'b: 3c01zz14'"),
        (f"{DEFAULT_HEADER}\na: 3f80000000\n", "line 2"),
        (f"{DEFAULT_HEADER}\na: 3f800000\nb: 3c010", "line 3 is 'b: 3c010'"),
        (f"{DEFAULT_HEADER}\n", "it names no tensor that has a scale"),
        ("/conv/Conv_output_0 4.319203\n", "give the calibration.json that it writes beside it"),
        (f"{DEFAULT_HEADER}\na: 7fc00000\n", "positive scale"),
        (f"{DEFAULT_HEADER}\na: bf800000\n", "positive scale"),
    ],
)
def test_damaged_caches(text: str, message: str) -> None:
    with pytest.raises(CalibrationError, match=message) as caught:
        ranges_from_tensorrt_cache(text)
    assert "\n" not in str(caught.value)


def tensors(method: CalibrationMethod) -> TensorsData:
    one = np.array([0.5], np.float32)
    data = {"x": (-one, one * 3), "y": (one, one * 2)}
    if method is not CalibrationMethod.MinMax:
        edges = np.array([0, 1], np.float32)
        data = {name: (low[0], high[0], np.array([1]), edges) for name, (low, high) in data.items()}
    return TensorsData(method, data)


@pytest.mark.parametrize("method", [CalibrationMethod.MinMax, CalibrationMethod.Entropy])
def test_files_that_onnx_runtime_writes(method: CalibrationMethod, tmp_path: Path) -> None:
    expected = {"x": (-0.5, 1.5), "y": (0.0, 1.0)}
    save_tensors_data(tensors(method), tmp_path / "nested.json")
    assert read_ranges(tmp_path / "nested.json") == expected
    write_calibration_table(tensors(method).data, str(tmp_path))
    assert read_ranges(tmp_path / "calibration.json") == expected


def test_the_flat_file_of_older_versions() -> None:
    text = json.dumps({"x": [-0.5, 1.5], "data": [[0.5], [1]]})
    assert ranges_from_ort_json(text) == {"x": (-0.5, 1.5), "data": (0.0, 1.0)}


def test_one_range_per_channel_is_refused() -> None:
    low, high = np.zeros(2, np.float32), np.ones(2, np.float32)
    data = TensorData(lowest=low, highest=high)
    entry = {"lowest": {"data": low.tolist()}, "highest": {"data": data.highest.tolist()}}
    with pytest.raises(CalibrationError, match=r"tensor 'x' has the range .*one range for each"):
        ranges_from_ort_json(json.dumps({"x": entry}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON"),
        ("[1, 2]", "an object of tensors is needed"),
        ('{"CLS": "TensorsData", "data": [1]}', "an object of tensors is needed"),
        ("{}", "names no tensor"),
        ('{"x": [1]}', "tensor 'x' has the range"),
        ('{"x": [0, 1, 2]}', "tensor 'x' has the range"),
        ('{"x": [0, "big"]}', "tensor 'x' has the range"),
        ('{"x": [0, NaN]}', "tensor 'x' has the range"),
        ('{"x": [false, true]}', "tensor 'x' has the range"),
        ('{"x": 3}', "tensor 'x' has the range"),
        ('{"x": [2, -1]}', r"tensor 'x' has the range \[2, -1\], which is upside down"),
    ],
)
def test_damaged_json(text: str, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        ranges_from_ort_json(text)


def test_read_ranges_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.cache"
    with pytest.raises(CalibrationError, match=r"m\.cache .*; give a TensorRT calibration cache"):
        read_ranges(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CalibrationError, match=r"m\.cache .*; give a TensorRT calibration cache"):
        read_ranges(path)
    path.write_text("nothing")
    with pytest.raises(CalibrationError, match=r"m\.cache: no TensorRT calibration cache: it beg"):
        read_ranges(path)
    path.write_text(f"{DEFAULT_HEADER}\na: 3f800000\n")
    assert read_ranges(path) == {"a": (-127.0, 127.0)}
