"""Ranges that other tools calibrated: TensorRT's calibration caches and ONNX Runtime's JSON.

A calibration cache of TensorRT is text: a header such as ``TRT-8601-EntropyCalibration2``, then one
line ``tensor: 3c010a14`` for each tensor. The hexadecimal number is the scale as a big-endian
IEEE 754 float32; TensorRT's INT8 then covers [-127, 127] steps of it. A scale of zero, as a single
digit, is what it writes for tensors that it did not need.
"""

import json
import re
import struct
from math import isfinite
from pathlib import Path
from typing import Any

from qbench.calibration.ranges import Range
from qbench.calibration.table import CalibrationTable
from qbench.errors import CalibrationError

_STEPS = 127
_HEADER = re.compile(r"TRT-\d+-\w+")
# The name ends at the last colon: names of TensorFlow hold colons of their own.
_ENTRY = re.compile(r"(?P<tensor>.+): *(?P<scale>[0-9a-fA-F]{8}|0+)")
# What `write_calibration_table` writes besides: a name, a blank and the greater end of the range.
_ORT_TEXT = re.compile(r"\S+ -?\d+(\.\d+)?(e[+-]?\d+)?")

DEFAULT_HEADER = "TRT-8601-EntropyCalibration2"
"""The version and calibrator that a written cache names; TensorRT 8.6 to 10 take it."""


def read_ranges(path: Path) -> dict[str, Range]:
    """Read the ranges in a TensorRT calibration cache, or in ONNX Runtime's JSON.

    Raises:
        CalibrationError: The file cannot be read, or is neither.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(
            f"cannot read ranges from {path} ({error}); give a TensorRT calibration cache or "
            "ONNX Runtime's calibration JSON"
        ) from error
    is_json = text.lstrip().startswith("{")
    try:
        return (ranges_from_ort_json if is_json else ranges_from_tensorrt_cache)(text)
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from error


def ranges_from_tensorrt_cache(text: str) -> dict[str, Range]:
    """Return the symmetric range of each tensor in the text of a TensorRT calibration cache.

    Tensors of scale zero, which TensorRT did not need, are left out.

    Raises:
        CalibrationError: It is none, a line of it is damaged, or it holds no scale.
    """
    header, *lines = text.splitlines() or [""]
    if _ORT_TEXT.fullmatch(header):
        raise CalibrationError(
            "this text of ONNX Runtime's quantizer leaves out the lower end of each range; give "
            "the calibration.json that it writes beside it"
        )
    if not _HEADER.fullmatch(header.strip()):
        raise CalibrationError(
            f"no TensorRT calibration cache: it begins with {header[:40]!r}, not with a line "
            f"like {DEFAULT_HEADER!r}"
        )
    ranges = {}
    for number, line in enumerate(lines, start=2):
        if line.strip():
            tensor, scale = _entry(line.strip(), number)
            if scale:
                ranges[tensor] = (-_STEPS * scale, _STEPS * scale)
    if not ranges:
        raise CalibrationError("no calibration data: it names no tensor that has a scale")
    return ranges


def tensorrt_cache_from_table(table: CalibrationTable, method: str) -> str:
    """Return the text of a TensorRT calibration cache with the ranges that `method` chooses.

    Raises:
        UsageError: The method is unknown.
    """
    ranges = {name: table.range_of(name, method, symmetric=True) for name in table.statistics}
    return tensorrt_cache_from_ranges(ranges)


def tensorrt_cache_from_ranges(ranges: dict[str, Range]) -> str:
    """Return the text of a TensorRT calibration cache."""
    lines = [
        f"{tensor}: {struct.pack('>f', max(-low, high) / _STEPS).hex()}"
        for tensor, (low, high) in ranges.items()
    ]
    return "\n".join([DEFAULT_HEADER, *lines, ""])


def ranges_from_ort_json(text: str) -> dict[str, Range]:
    """Return the range of each tensor in JSON that ONNX Runtime's quantizer wrote.

    Known are the file of `save_tensors_data` (an object with `CLS`, `calibration_method` and
    `data`), that of `write_calibration_table` (tensors as objects with `lowest` and `highest`), and
    the flat file of older versions (tensors as `[low, high]`). The ranges are widened to hold zero.

    Raises:
        CalibrationError: It is none of them, or holds something else than numbers.
    """
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise CalibrationError(f"no JSON ({error})") from error
    is_nested = isinstance(document, dict) and document.get("CLS") == "TensorsData"
    tensors = document.get("data") if is_nested else document
    if not isinstance(tensors, dict):
        raise CalibrationError("no calibration data: JSON with an object of tensors is needed")
    entries = {name: entry for name, entry in tensors.items() if name not in _NO_TENSORS}
    if not entries:
        raise CalibrationError("no calibration data: it names no tensor")
    return {name: _ort_range(name, entry) for name, entry in entries.items()}


_NO_TENSORS = {"CLS", "calibration_method", "smooth_quant"}


def _entry(line: str, number: int) -> tuple[str, float]:
    match = _ENTRY.fullmatch(line)
    scale = struct.unpack(">f", bytes.fromhex(match["scale"].zfill(8)))[0] if match else -1.0
    if match is None or not (isfinite(scale) and scale >= 0):
        raise CalibrationError(
            f"damaged TensorRT calibration cache: line {number} is {line[:60]!r}, where a tensor's "
            "name, a colon and the hexadecimal digits of a positive scale belong"
        )
    return match["tensor"], scale


def _ort_range(name: str, entry: Any) -> Range:
    ends = [entry.get("lowest"), entry.get("highest")] if isinstance(entry, dict) else entry
    numbers = [_number(end) for end in ends] if isinstance(ends, list) else []
    finite = [number for number in numbers if number is not None]
    if len(numbers) != 2 or len(finite) != 2:
        raise CalibrationError(
            f"tensor {name!r} has the range {json.dumps(entry)[:60]}, where two finite numbers "
            "belong; calibrate again, with one range for each tensor"
        )
    low, high = finite
    if low > high:
        raise CalibrationError(
            f"tensor {name!r} has the range [{low:g}, {high:g}], which is upside down; its file "
            "must say the least value first"
        )
    return min(low, 0.0), max(high, 0.0)


def _number(value: Any) -> float | None:
    """Return the one finite number in `value`, which may be an encoded array; else None."""
    if isinstance(value, dict):
        value = value.get("data")
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return None
    return float(value)
