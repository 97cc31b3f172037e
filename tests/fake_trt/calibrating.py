"""What TensorRT 10 does with a calibrator: it asks for a cache, else for batches, and keeps ranges.

Batches are read where the calibrator says that they lie on the device, which in the fake is host
memory. The ranges of the inputs are what a batch shows; no inner tensor is looked at.
"""

import ctypes
import struct
from typing import Any

import numpy as np
import onnx

from fake_trt.basics import shape_of

_ALGORITHMS = {
    "IInt8EntropyCalibrator2": "EntropyCalibration2",
    "IInt8EntropyCalibrator": "EntropyCalibration",
    "IInt8MinMaxCalibrator": "MinMaxCalibration",
    "IInt8LegacyCalibrator": "LegacyCalibration",
}


def calibrate(network: Any, config: Any) -> str:
    """Return the calibration cache to build with; empty where there are no ranges."""
    calibrator = config.int8_calibrator
    if calibrator is None:
        return ""
    head = _head(network._module, calibrator)
    kept = calibrator.read_calibration_cache()
    if kept is not None and bytes(kept).decode().partition("\n")[0] == head:
        return bytes(kept).decode()
    peaks = _peaks(network, config, calibrator)
    if not peaks:
        return ""
    lines = [f"{name}: {struct.pack('>f', peak / 127).hex()}" for name, peak in peaks.items()]
    cache = "\n".join([head, *lines, ""])
    calibrator.write_calibration_cache(memoryview(cache.encode()))
    return cache


def _head(module: Any, calibrator: Any) -> str:
    major, minor, patch = (int(part) for part in module.__version__.split(".")[:3])
    names = [kind.__name__ for kind in type(calibrator).__mro__]
    algorithm = next(_ALGORITHMS[name] for name in names if name in _ALGORITHMS)
    return f"TRT-{10_000 * major + 100 * minor + patch}-{algorithm}"


def _peaks(network: Any, config: Any, calibrator: Any) -> dict[str, float]:
    """Return the largest magnitude of each input over all batches."""
    peaks: dict[str, float] = {}
    names = [tensor.name for tensor in network._inputs]
    shapes = [_shape(tensor, config, calibrator.get_batch_size()) for tensor in network._inputs]
    while addresses := calibrator.get_batch(names):
        for tensor, shape, address in zip(network._inputs, shapes, addresses, strict=True):
            kind = onnx.helper.tensor_dtype_to_np_dtype(tensor._info.type.tensor_type.elem_type)
            size = int(np.prod(shape)) * kind.itemsize
            values = np.frombuffer(ctypes.string_at(int(address), size), kind)
            peak = float(np.max(np.abs(values)))
            peaks[tensor.name] = max(peak, peaks.get(tensor.name, 0.0))
    return peaks


def _shape(tensor: Any, config: Any, batch: int) -> tuple[int, ...]:
    shape = shape_of(tensor._info)
    profile = config.get_calibration_profile() or next(iter(config._profiles), None)
    if -1 in shape and profile is not None:
        _, shape, _ = profile._shapes[tensor.name]
    return (batch, *shape[1:])
