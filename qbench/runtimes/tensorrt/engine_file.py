"""A TensorRT engine read from its file: what it takes, what it gives, and for which shapes."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np

from qbench.errors import DataError, EngineError
from qbench.model.spec import TensorSpec
from qbench.runtimes.tensorrt.flavour import Flavour, import_flavour

logger = logging.getLogger(__name__)

Shape = tuple[int, ...]

_AUTOMATIC = -1
"""The budget by which TensorRT 10.0 chooses one itself."""

_DTYPES: dict[str, Any] = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "FP8": ml_dtypes.float8_e4m3fn,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}
"""Element types by TensorRT's name; those of four bits never cross an engine's border."""


@dataclass(frozen=True)
class Port:
    """An input or output of an engine.

    Attributes:
        spec: Its name, shape (None where it is dynamic) and element type.
        on_host: TensorRT reads or writes it in host memory: a tensor of shapes.
    """

    spec: TensorSpec
    on_host: bool

    @property
    def name(self) -> str:
        """Its name."""
        return self.spec.name


@dataclass(frozen=True)
class Profile:
    """An optimization profile: the minimal, usual and maximal shape of every input, in order."""

    min: tuple[Shape, ...]
    opt: tuple[Shape, ...]
    max: tuple[Shape, ...]

    def fits(self, shapes: Sequence[Shape]) -> bool:
        """Return whether the engine runs on inputs of `shapes` under this profile."""
        return all(map(_within, self.min, shapes, self.max))


class EngineFile:
    """An engine in memory.

    Attributes:
        path: The file that it came from.
        flavour: The TensorRT that loaded it.
        module: That TensorRT.
        engine: TensorRT's own object.
        inputs: What it takes.
        outputs: What it gives.
        profiles: Its optimization profiles, in its order.
        streamed_bytes: Weights that stay on the host and are streamed; 0 for most engines, None
            where TensorRT decides with each context and does not tell.

    Raises:
        EngineError: The file cannot be read, or this TensorRT does not load it here.
        UnfitError: The flavour's libraries cannot be loaded.
    """

    def __init__(self, path: Path, flavour: Flavour) -> None:
        self.path, self.flavour = path, flavour
        self.module = import_flavour(flavour)
        self._logger = _logger(self.module)
        self._runtime = self.module.Runtime(self._logger)
        if hasattr(self._runtime, "engine_host_code_allowed"):
            # Engines for several versions carry code of their own, and load only where it may run.
            self._runtime.engine_host_code_allowed = True
        self.engine: Any = self._load()
        self.streamed_bytes = self._stream_weights()
        ports = self._ports()
        self.inputs = tuple(ports[self.module.TensorIOMode.INPUT])
        self.outputs = tuple(ports[self.module.TensorIOMode.OUTPUT])
        self.profiles = self._profiles()
        self.inputs = tuple(
            Port(_narrowed(port.spec, index, self.profiles), port.on_host)
            for index, port in enumerate(self.inputs)
        )

    def new_context(self) -> Any:
        """Return a new execution context.

        Raises:
            EngineError: There is not enough device memory for its activations.
        """
        context = self.engine.create_execution_context()
        if context is None:
            raise self.failure("has no memory to run; free the GPU or build for smaller shapes")
        return context

    def choose_profile(self, shapes: Sequence[Shape], current: int) -> int:
        """Return the profile for inputs of `shapes`: made for them, else the current, else any.

        Raises:
            DataError: They fit no profile.
        """
        fitting = [i for i, profile in enumerate(self.profiles) if profile.fits(shapes)]
        if not fitting:
            raise DataError(self._misfit(shapes))
        made_for = [i for i in fitting if self.profiles[i].opt == tuple(shapes)]
        candidates = made_for or fitting
        return current if current in candidates else candidates[0]

    def device_memory_bytes(self) -> int | None:
        """Return what the weights and one context take of the GPU's memory.

        None where this TensorRT does not tell how large the weights are.
        """
        if not hasattr(self.engine, "get_engine_stat") or self.streamed_bytes is None:
            return None
        weights = int(self.engine.get_engine_stat(self.module.EngineStat.TOTAL_WEIGHTS_SIZE))
        if weights < 0:
            return None
        return weights - self.streamed_bytes + int(self.engine.device_memory_size_v2)

    def failure(self, what: str) -> EngineError:
        """Return an error about this engine, with TensorRT's last word that nobody has read."""
        last, self._logger.last_error = self._logger.last_error, None
        reason = f" ({last})" if last else ""
        return EngineError(f"{self.path} {what}{reason}")

    def close(self) -> None:
        """Free the engine; its contexts must be gone."""
        self.engine = self._runtime = None

    def _load(self) -> Any:
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise EngineError(
                f"cannot read engine {self.path} ({error.strerror}); build one with "
                "`qbench build-trt`"
            ) from error
        plugins = getattr(self.module, "init_libnvinfer_plugins", None)
        if plugins is not None:
            plugins(self._logger, "")
        engine = self._runtime.deserialize_cuda_engine(data)
        if engine is None:
            reason = self._logger.last_error or "it gives no reason"
            raise EngineError(
                f"{self.flavour} does not load {self.path}: {reason}; it may be of another "
                "flavour or version of TensorRT, or for another GPU: build it here with "
                "`qbench build-trt`"
            )
        return engine

    def _stream_weights(self) -> int | None:
        """Let TensorRT choose which weights of an engine built for streaming stay on the host.

        Without a budget it would keep them all on the GPU, and needs to know before any context is
        made. Returns the bytes on the host, None where TensorRT does not tell.
        """
        if not self.engine.streamable_weights_size:
            return 0
        if not hasattr(self.engine, "weight_streaming_budget_v2"):
            self.engine.weight_streaming_budget = _AUTOMATIC
            return None
        budget = self.engine.get_weight_streaming_automatic_budget()
        self.engine.weight_streaming_budget_v2 = budget
        return max(int(self.engine.streamable_weights_size) - int(budget), 0)

    def _ports(self) -> dict[Any, list[Port]]:
        modes = self.module.TensorIOMode
        ports: dict[Any, list[Port]] = {modes.INPUT: [], modes.OUTPUT: []}
        for index in range(self.engine.num_io_tensors):
            name = self.engine.get_tensor_name(index)
            ports[self.engine.get_tensor_mode(name)].append(self._port(name))
        return ports

    def _port(self, name: str) -> Port:
        layout = self.engine.get_tensor_format(name)
        if layout != self.module.TensorFormat.LINEAR:
            raise EngineError(
                f"{self.path} wants {name!r} in the format {layout.name}; qbench runs engines "
                "with linear inputs and outputs: build it without --io-formats"
            )
        kind = self.engine.get_tensor_dtype(name).name
        if kind not in _DTYPES:
            raise EngineError(
                f"{self.path} has {name!r} of type {kind}; qbench feeds {', '.join(_DTYPES)}"
            )
        shape = tuple(d if d >= 0 else None for d in map(int, self.engine.get_tensor_shape(name)))
        on_host = self.engine.get_tensor_location(name) == self.module.TensorLocation.HOST
        return Port(TensorSpec(name, shape, np.dtype(_DTYPES[kind])), on_host)

    def _profiles(self) -> tuple[Profile, ...]:
        count = self.engine.num_optimization_profiles
        return tuple(map(self._profile, range(max(count, 1))))

    def _profile(self, index: int) -> Profile:
        ranges = [self._range(port.name, index) for port in self.inputs]
        low, usual, high = zip(*ranges, strict=True) if ranges else ((), (), ())
        return Profile(low, usual, high)

    def _range(self, name: str, index: int) -> tuple[Shape, ...]:
        """Return the minimal, usual and maximal shape of an input under a profile."""
        built = tuple(map(int, self.engine.get_tensor_shape(name)))
        if min(built, default=0) >= 0:
            return built, built, built  # a static input need not be in any profile
        return tuple(
            tuple(map(int, shape)) for shape in self.engine.get_tensor_profile_shape(name, index)
        )

    def _misfit(self, shapes: Sequence[Shape]) -> str:
        names = [port.name for port in self.inputs]
        given = ", ".join(f"{n} {dims_text(s)}" for n, s in zip(names, shapes, strict=True))
        wanted = " or ".join(_profile_text(names, profile) for profile in self.profiles)
        return (
            f"the data ({given}) fits no optimization profile of {self.path} ({wanted}); "
            "build the engine for it with `qbench build-trt --shapes`"
        )


def check_names(inputs: Sequence[Port], feeds: Mapping[str, Any]) -> None:
    """Make sure that `feeds` are for these inputs.

    Raises:
        DataError: An input has no feed, or a feed no input.
    """
    names = [port.name for port in inputs]
    if set(names) != set(feeds):
        raise DataError(
            f"the data ({', '.join(feeds) or 'nothing'}) does not fit the engine's inputs "
            f"({', '.join(names)})"
        )


def dims_text(shape: Shape) -> str:
    """Return a shape as in `1x3x640x640`."""
    return "x".join(map(str, shape)) or "scalar"


def _profile_text(names: Sequence[str], profile: Profile) -> str:
    ranges = zip(names, profile.min, profile.max, strict=True)
    return ", ".join(
        f"{name} {dims_text(low)}" if low == high else f"{name} {dims_text(low)}..{dims_text(high)}"
        for name, low, high in ranges
    )


def _within(low: Shape, shape: Shape, high: Shape) -> bool:
    if not len(low) == len(shape) == len(high):
        return False
    return all(a <= dim <= b for a, dim, b in zip(low, shape, high, strict=True))


def _narrowed(spec: TensorSpec, index: int, profiles: Sequence[Profile]) -> TensorSpec:
    """Return `spec` with the dimensions fixed that all profiles leave only one size."""
    bounds = [shape for profile in profiles for shape in (profile.min[index], profile.max[index])]
    shape = tuple(
        sizes[0] if len(set(sizes)) == 1 else dim
        for dim, sizes in zip(spec.shape, zip(*bounds, strict=True), strict=True)
    )
    return TensorSpec(spec.name, shape, spec.dtype)


def _logger(module: ModuleType) -> Any:
    """Return a logger that reports warnings at level INFO and keeps the last error."""
    severities = module.ILogger.Severity
    errors = (severities.ERROR, severities.INTERNAL_ERROR)

    class Logger(module.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.last_error: str | None = None

        def log(self, severity: Any, msg: str) -> None:
            line = " ".join(msg.split())
            if severity in errors:
                self.last_error = line
            elif severity == severities.WARNING:
                logger.info("%s: %s", module.__name__, line)

    return Logger()
