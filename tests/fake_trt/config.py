"""What IBuilderConfig, its timing cache and optimization profiles do."""

from typing import Any

from fake_trt.basics import host_memory, log
from fake_trt.spec import create

_CACHE_MAGIC = b"fake timing cache of "


def new_config(module: Any, logger: Any) -> Any:
    """Return a config as the builder gives it: TF32 on, all else off."""
    flags = 1 << int(module.BuilderFlag.TF32)
    lists: dict[str, Any] = {"_profiles": [], "_limits": {}, "_capabilities": []}
    return create(module.IBuilderConfig, _logger=logger, _flags=flags, _cache=None, **lists)


class IBuilderConfig:
    """How to build."""

    avg_timing_iterations = 1
    num_optimization_profiles = property(lambda self: len(self._profiles))

    @property
    def flags(self) -> int:
        return self._flags

    @flags.setter
    def flags(self, value: int) -> None:
        self._flags = value

    @property
    def builder_optimization_level(self) -> int:
        return getattr(self, "_level", 3)

    @builder_optimization_level.setter
    def builder_optimization_level(self, value: int) -> None:
        if 0 <= value <= 5:
            self._level = value
        else:
            log(self._logger, "ERROR", f"Invalid optimization level {value}, valid is [0, 5]")

    @property
    def max_aux_streams(self) -> int:
        return getattr(self, "_aux_streams", -1)

    @max_aux_streams.setter
    def max_aux_streams(self, value: int) -> None:
        if value >= 0:
            self._aux_streams = value
        else:
            log(self._logger, "ERROR", f"Invalid number of auxiliary streams {value}")

    @property
    def profiling_verbosity(self) -> Any:
        return getattr(self, "_verbosity", self._module.ProfilingVerbosity.LAYER_NAMES_ONLY)

    @profiling_verbosity.setter
    def profiling_verbosity(self, value: Any) -> None:
        self._verbosity = value

    @property
    def hardware_compatibility_level(self) -> Any:
        return getattr(self, "_hardware", self._module.HardwareCompatibilityLevel.NONE)

    @hardware_compatibility_level.setter
    def hardware_compatibility_level(self, value: Any) -> None:
        self._hardware = value

    def set_flag(self, flag: Any) -> None:
        self._flags |= 1 << int(flag)

    def clear_flag(self, flag: Any) -> None:
        self._flags &= ~(1 << int(flag))

    def get_flag(self, flag: Any) -> bool:
        return bool(self._flags >> int(flag) & 1)

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._limits[pool.name] = pool_size

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self._limits.get(pool.name, 1 << 34)

    def add_optimization_profile(self, profile: Any) -> int:
        for name, (low, usual, high) in profile._shapes.items():
            if not all(a <= b <= c for a, b, c in zip(low, usual, high, strict=True)):
                log(self._logger, "ERROR", f"input {name} violates min <= opt <= max")
                return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def set_calibration_profile(self, profile: Any) -> bool:
        self._calibration_profile = profile
        return True

    def get_calibration_profile(self) -> Any:
        return getattr(self, "_calibration_profile", None)

    def create_timing_cache(self, serialized_timing_cache: Any) -> Any:
        data = bytes(serialized_timing_cache)
        if data and not data.startswith(_cache_head(self._module)):
            log(self._logger, "ERROR", "the timing cache is of another version or damaged")
            return None
        return create(self._module.ITimingCache, _data=data or _cache_head(self._module))

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        del ignore_mismatch
        self._cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self._cache

    @property
    def num_compute_capabilities(self) -> int:
        return len(self._capabilities)

    @num_compute_capabilities.setter
    def num_compute_capabilities(self, value: int) -> None:
        self._capabilities = [self._module.ComputeCapability.NONE] * value

    def set_compute_capability(self, compute_capability: Any, index: int) -> bool:
        if not 0 <= index < len(self._capabilities):
            log(self._logger, "ERROR", f"compute capability {index} is out of range")
            return False
        self._capabilities[index] = compute_capability
        return True

    def get_compute_capability(self, index: int) -> Any:
        return self._capabilities[index]


class ITimingCache:
    """Timings, of which the fake only counts the builds that used them."""

    def serialize(self) -> Any:
        return host_memory(self._module, self._data)

    def reset(self) -> bool:
        self._data = _cache_head(self._module)
        return True


class IOptimizationProfile:
    """Shapes of dynamic inputs; values of inputs that hold shapes."""

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self._shapes[input] = tuple(tuple(shape) for shape in (min, opt, max))

    def get_shape(self, input: str) -> list[Any]:
        return [self._module.Dims(shape) for shape in self._shapes.get(input, ())]

    def set_shape_input(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self._values[input] = (list(min), list(opt), list(max))

    def get_shape_input(self, input: str) -> list[Any]:
        return list(self._values.get(input, ()))


def _cache_head(module: Any) -> bytes:
    return _CACHE_MAGIC + module.__version__.encode() + b"\n"
