"""TensorRT's runtime on ONNX Runtime, for tests: device addresses are host addresses.

Only what running an engine takes. Whatever TensorRT would refuse is refused here as well: an
address or shape that is missing, a shape outside of the profile, another type.
"""

import ctypes
import enum
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from host_cuda import HostCuda

from qbench.runtimes.cuda.choose import BACKENDS

VERSION = "9.8.7"
Range = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

_TYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
    "BF16": None,
    "INT4": None,
}
_NAMES = {np.dtype(kind): name for name, kind in _TYPES.items() if kind is not None}

TensorIOMode = enum.Enum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"])
TensorLocation = enum.Enum("TensorLocation", ["DEVICE", "HOST"])
TensorFormat = enum.Enum("TensorFormat", ["LINEAR", "CHW32"])
DataType = enum.Enum("DataType", list(_TYPES))


def write_engine(
    path: Path,
    model: onnx.ModelProto,
    profiles: tuple[Mapping[str, Range], ...] = (),
    *,
    host: tuple[str, ...] = (),
    overrides: Mapping[str, Any] | None = None,
) -> Path:
    """Write an engine of `model`.

    Args:
        path: Where to.
        model: What it computes.
        profiles: Of its dynamic inputs.
        host: Inputs that hold shapes.
        overrides: Of what the engine says of its tensors, such as `{"get_tensor_format": ...}`.
    """
    said = {"onnx": model.SerializeToString(), "profiles": profiles, "host": host}
    path.write_bytes(pickle.dumps({"version": VERSION, **said, "overrides": overrides or {}}))
    return path


class ILogger:
    Severity = enum.Enum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"])

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


class IOutputAllocator:
    """What a caller derives from."""


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger
        logger.log(ILogger.Severity.WARNING, "the runtime is a stand-in")

    def deserialize_cuda_engine(self, data: bytes) -> "ICudaEngine | None":
        try:
            return ICudaEngine(pickle.loads(data), self._logger)
        except pickle.UnpicklingError:
            self._logger.log(ILogger.Severity.ERROR, "magic tag does not\nmatch")
            return None


class ICudaEngine:
    def __init__(self, said: dict[str, Any], logger: ILogger) -> None:
        self.logger, self.proto = logger, onnx.load_from_string(said["onnx"])
        self.session = ort.InferenceSession(said["onnx"], providers=["CPUExecutionProvider"])
        self.profiles, self.host, self.overrides = said["profiles"], said["host"], said["overrides"]
        graph = self.proto.graph
        self.values = {v.name: v.type.tensor_type for v in (*graph.input, *graph.output)}
        self.input_names = [value.name for value in graph.input]
        self.contexts: list[IExecutionContext] = []

    @property
    def num_io_tensors(self) -> int:
        return len(self.values)

    @property
    def num_optimization_profiles(self) -> int:
        return max(1, len(self.profiles))

    def get_tensor_name(self, index: int) -> str:
        return list(self.values)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return TensorIOMode.INPUT if name in self.input_names else TensorIOMode.OUTPUT

    def get_tensor_format(self, name: str) -> Any:
        return TensorFormat[self.overrides.get(("format", name), "LINEAR")]

    def get_tensor_location(self, name: str) -> Any:
        return TensorLocation.HOST if name in self.host else TensorLocation.DEVICE

    def get_tensor_dtype(self, name: str) -> Any:
        kind = self.overrides.get(("dtype", name))
        return DataType[kind or _NAMES[self.numpy_type(name)]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return dims(self.values[name])

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return list(self.profiles[profile_index][name])

    def create_execution_context(self) -> "IExecutionContext | None":
        if self.overrides.get("no memory"):
            return None
        self.contexts.append(IExecutionContext(self))
        return self.contexts[-1]

    def numpy_type(self, name: str) -> np.dtype[Any]:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(self.values[name].elem_type))


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self.active_optimization_profile = 0
        self.switches: list[int] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.allocators: dict[str, Any] = {}
        self.runs: list[int] = []

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        del stream_handle
        self.switches.append(profile_index)
        self.active_optimization_profile = profile_index
        self.shapes = {}
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        built = self._engine.get_tensor_shape(name)
        low, high = built, built
        if -1 in built:
            low, _, high = self._engine.profiles[self.active_optimization_profile][name]
        fits = all(a <= dim <= b for a, dim, b in zip(low, shape, high, strict=True))
        if fits:
            self.shapes[name] = tuple(shape)
        return fits or self._error(f"shape of {name} is not in the profile")

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        self.allocators.pop(name, None)
        return memory != 0

    def set_output_allocator(self, name: str, output_allocator: IOutputAllocator) -> bool:
        assert isinstance(output_allocator, IOutputAllocator)
        self.allocators[name] = output_allocator
        return True

    def infer_shapes(self) -> list[str]:
        return [name for name in self._engine.input_names if name not in self.shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        proto = onnx.ModelProto()
        proto.CopyFrom(self._engine.proto)
        for value in (*proto.graph.output, *proto.graph.value_info):
            value.type.tensor_type.ClearField("shape")
        for value in proto.graph.input:
            shape = onnx.helper.make_tensor_type_proto(1, self.shapes[value.name])
            value.type.tensor_type.shape.CopyFrom(shape.tensor_type.shape)
            if value.name in self._engine.host:
                held = onnx.numpy_helper.from_array(self._read(value.name), value.name)
                proto.graph.initializer.append(held)
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
        return dims({v.name: v.type.tensor_type for v in inferred.graph.output}[name])

    def execute_async_v3(self, stream_handle: int) -> bool:
        feeds = {name: self._read(name) for name in self._engine.input_names}
        names = [output.name for output in self._engine.session.get_outputs()]
        self.runs.append(stream_handle)
        for name, array in zip(names, self._engine.session.run(names, feeds), strict=True):
            address = self._address(name, array, stream_handle)
            if not address:
                return self._error(f"no memory for {name}")
            ctypes.memmove(address, np.ascontiguousarray(array).ctypes.data, array.nbytes)
        return True

    def _address(self, name: str, array: Any, stream: int) -> int:
        allocator = self.allocators.get(name)
        if allocator is None:
            return self.addresses[name]
        current = self.addresses.get(name, 0)
        address: int = allocator.reallocate_output_async(name, current, array.nbytes, 256, stream)
        allocator.notify_shape(name, array.shape)
        return address

    def _read(self, name: str) -> Any:
        shape, kind = self.shapes[name], self._engine.numpy_type(name)
        size = int(np.prod(shape)) * kind.itemsize
        data = ctypes.string_at(self.addresses[name], size)
        return np.frombuffer(data, kind).reshape(shape)

    def _error(self, message: str) -> bool:
        self._engine.logger.log(ILogger.Severity.ERROR, message)
        return False


def dims(tensor: Any) -> tuple[int, ...]:
    return tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim)


def make_module(name: str = "tensorrt") -> ModuleType:
    """Return the module; its plugins are counted in `plugins`."""
    module: Any = ModuleType(name)
    module.__version__ = VERSION
    module.plugins = []
    module.init_libnvinfer_plugins = lambda _, namespace: module.plugins.append(namespace)
    for item in (ILogger, IOutputAllocator, Runtime, TensorIOMode, TensorLocation, TensorFormat):
        setattr(module, item.__name__, item)
    module.DataType = DataType
    return module


def install(monkeypatch: pytest.MonkeyPatch, name: str = "tensorrt") -> HostCuda:
    """Let this module be TensorRT and the host's memory that of the GPU."""
    cuda = HostCuda()
    monkeypatch.setitem(sys.modules, name, make_module(name))
    monkeypatch.setitem(BACKENDS, "cuda-bindings", lambda: cuda)
    return cuda
