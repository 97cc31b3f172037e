"""Small stand-ins for TensorRT's module and the objects that options act upon."""

from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any

_FLAGS = {
    "REFIT": 4,
    "TF32": 6,
    "SPARSE_WEIGHTS": 7,
    "VERSION_COMPATIBLE": 13,
    "STRIP_PLAN": 19,
    "WEIGHT_STREAMING": 21,
}
_FORMATS = ("LINEAR", "CHW2", "HWC8", "CHW4", "CHW16", "CHW32", "DHWC8", "CDHW32", "HWC")


class Config:
    """A builder's configuration that remembers what it was told."""

    def __init__(self) -> None:
        self.flags: set[Any] = set()
        self.cleared: set[Any] = set()
        self.limits: dict[Any, int] = {}
        self.builder_optimization_level = 3
        self.max_aux_streams = -1
        self.hardware_compatibility_level: Any = 0
        self.int8_calibrator: Any = None
        self.profiles: list[Any] = []
        self.calibration_profile: Any = None
        self.cache: Any = None
        self.set_flag = self.flags.add
        self.clear_flag = self.cleared.add
        self.add_optimization_profile = self.profiles.append

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self.limits[pool] = size

    def set_calibration_profile(self, profile: Any) -> None:
        self.calibration_profile = profile

    def create_timing_cache(self, data: bytes) -> Any:
        return SimpleNamespace(serialize=lambda: data + b"timed;")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        self.cache = None if ignore_mismatch else cache
        return True

    def get_timing_cache(self) -> Any:
        return self.cache


class Calibrator:
    """What TensorRT 10's calibrators have in common."""


def tensorrt_10(version: str = "10.3.0", **changes: Any) -> ModuleType:
    """Return a module like TensorRT 10; a change to None takes a member away."""
    module: Any = ModuleType("tensorrt")
    module.__version__ = version
    module.BuilderFlag = IntEnum("BuilderFlag", _FLAGS | {"FP16": 0, "INT8": 1})
    module.MemoryPoolType = IntEnum("MemoryPoolType", {"WORKSPACE": 0})
    module.TensorFormat = IntEnum("TensorFormat", {name: i for i, name in enumerate(_FORMATS)})
    module.HardwareCompatibilityLevel = IntEnum("Level", {"NONE": 0, "AMPERE_PLUS": 1})
    module.ITimingCache = object
    module.IInt8EntropyCalibrator2 = Calibrator
    module.IInt8MinMaxCalibrator = Calibrator
    for name, value in changes.items():
        if value is None:
            delattr(module, name)
        else:
            setattr(module, name, value)
    return module


def tensorrt_11() -> ModuleType:
    """Return a module like TensorRT 11, which places no INT8 by itself."""
    flags = IntEnum("BuilderFlag", _FLAGS)
    levels = {"NONE": 0, "AMPERE_PLUS": 1, "SAME_COMPUTE_CAPABILITY": 2}
    return tensorrt_10(
        "11.4.0",
        BuilderFlag=flags,
        HardwareCompatibilityLevel=IntEnum("Level", levels),
        IInt8EntropyCalibrator2=None,
        IInt8MinMaxCalibrator=None,
    )


def rtx() -> ModuleType:
    """Return a module like TensorRT for RTX."""
    module: Any = tensorrt_11()
    module.__name__, module.__version__ = "tensorrt_rtx", "1.7"
    module.ComputeCapability = IntEnum("ComputeCapability", {"NONE": 0, "SM86": 86, "SM89": 89})
    return module


def network(inputs: tuple[str, ...] = ("x",), outputs: tuple[str, ...] = ("y",)) -> Any:
    """Return a network with named inputs and outputs."""
    tensors = {name: SimpleNamespace(name=name, allowed_formats=0) for name in (*inputs, *outputs)}
    return SimpleNamespace(
        num_inputs=len(inputs),
        num_outputs=len(outputs),
        get_input=lambda index: tensors[inputs[index]],
        get_output=lambda index: tensors[outputs[index]],
        tensors=tensors,
    )


class Profile(dict[str, Any]):
    """An optimization profile."""

    def set_shape(self, name: str, *shapes: Any) -> None:
        self[name] = shapes


class Compiler:
    """A builder and a parser that remember; `module` is given its classes."""

    def __init__(self, module: Any, engine: bytes | None = b"engine") -> None:
        self.config, self.network = Config(), network()
        self.network_flags: int | None = None
        module.ILogger = type("ILogger", (), {"Severity": IntEnum("Severity", _SEVERITIES)})
        module.IProgressMonitor = type("IProgressMonitor", (), {})
        module.ProfilingVerbosity = IntEnum("ProfilingVerbosity", {"DETAILED": 2})
        module.NetworkDefinitionCreationFlag = IntEnum("Creation", {"STRONGLY_TYPED": 1})
        module.Builder = lambda _: self
        module.OnnxParser = lambda *_: SimpleNamespace(parse_from_file=lambda _: True)
        module.Runtime = lambda _: SimpleNamespace(deserialize_cuda_engine=lambda _: None)
        self.create_builder_config = lambda: self.config
        self.create_optimization_profile = Profile
        self.build_serialized_network = lambda *_: engine

    def create_network(self, flags: int) -> Any:
        self.network_flags = flags
        return self.network


_SEVERITIES = {"INTERNAL_ERROR": 0, "ERROR": 1, "WARNING": 2, "INFO": 3, "VERBOSE": 4}
