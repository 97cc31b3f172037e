"""The options of a build: what each does to the compiler, and which TensorRT can do it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from types import ModuleType
from typing import Any

from msgspec.structs import asdict

from qbench.engines.compiling.features import Compilation, builds_ahead, missing_members
from qbench.engines.compiling.io_formats import format_members, set_formats
from qbench.engines.compiling.protocol import BuildOptions
from qbench.engines.compiling.targets import choose_targets
from qbench.errors import UnfitError, UsageError

COMPATIBILITIES = {
    "ampere-plus": "AMPERE_PLUS",
    "same-compute-capability": "SAME_COMPUTE_CAPABILITY",
}
"""Members of HardwareCompatibilityLevel, by the name that users give."""

_LEVELS = "choose from 0 to 5"


class OnRtx(Enum):
    """What becomes of an option where TensorRT for RTX builds (measured with 1.7)."""

    WORKS = "works"
    IDLE = "is documented, but gives the same engine whatever its value"
    NEEDS_GPU = "fails without a GPU"
    FAILS = "fails or changes nothing"


@dataclass(frozen=True)
class Option:
    """One option of a build.

    Attributes:
        flag: Its name on the command line.
        needs: Gives the members of TensorRT's module that a value needs.
        apply: Tells the compiler a value.
        on_rtx: What becomes of it where TensorRT for RTX builds.
        why: Where `on_rtx` is `FAILS`, the reason.
    """

    flag: str
    needs: Callable[[Any], Iterable[str]]
    apply: Callable[[Compilation, Any], None]
    on_rtx: OnRtx = OnRtx.WORKS
    why: str = ""


def check_options(module: ModuleType, options: BuildOptions, gpu: str | None) -> None:
    """Make sure, before any work, that this TensorRT can do what is asked.

    Args:
        module: The module of TensorRT.
        options: What is asked.
        gpu: The GPU at hand (`sm86`), or None.

    Raises:
        UsageError: It cannot, on this machine or at all.
    """
    choose_targets(module, options.target_gpus, gpu, options.least_gpu)
    for option, value in _asked(options):
        if builds_ahead(module):
            _check_rtx(option, gpu)
        missing = missing_members(module, option.needs(value))
        if missing:
            raise UsageError(
                f"{module.__name__} {module.__version__} has no {missing[0]}, which "
                f"{option.flag} needs; leave it out, or install a newer TensorRT"
            )


def check_gpu(module: ModuleType, gpu: str | None) -> None:
    """Make sure that there is a GPU where this TensorRT needs one to build.

    Raises:
        UnfitError: There is none.
    """
    if gpu is None and not builds_ahead(module):
        raise UnfitError(
            f"{module.__name__} {module.__version__} builds on a GPU, and none is here; "
            "use --backend rtx, which needs none, or build on the machine of the GPU"
        )


def notes_on_options(module: ModuleType, options: BuildOptions) -> list[str]:
    """Return what the user has to know of options that this TensorRT takes to no effect."""
    if not builds_ahead(module):
        return []
    return [
        f"{option.flag}: TensorRT for RTX was seen to build the same engine whatever the value"
        for option, _ in _asked(options)
        if option.on_rtx is OnRtx.IDLE
    ]


def apply_options(compilation: Compilation, options: BuildOptions) -> None:
    """Tell the compiler everything that is asked.

    Raises:
        UsageError: The compiler does not take a value.
    """
    for option, value in _asked(options):
        option.apply(compilation, value)


def _asked(options: BuildOptions) -> Iterable[tuple[Option, Any]]:
    defaults = asdict(BuildOptions())
    for field, value in asdict(options).items():
        if field in OPTIONS and value != defaults[field]:
            yield OPTIONS[field], value


def _check_rtx(option: Option, gpu: str | None) -> None:
    if option.on_rtx is OnRtx.FAILS:
        raise UsageError(
            f"{option.flag} is not possible with TensorRT for RTX: {option.why}; "
            "leave it out, or use --backend tensorrt"
        )
    if option.on_rtx is OnRtx.NEEDS_GPU and gpu is None:
        raise UsageError(
            f"{option.flag} needs a GPU where TensorRT for RTX builds, and none is here; "
            "leave it out, or build on the machine of the GPU"
        )


def _flag(flag: str, member: str, on_rtx: OnRtx = OnRtx.WORKS, why: str = "") -> Option:
    """Return the option that sets or clears one flag of the builder."""

    def apply(compilation: Compilation, value: bool) -> None:
        config = compilation.config
        change = config.set_flag if value else config.clear_flag
        change(getattr(compilation.module.BuilderFlag, member))

    return Option(flag, lambda _: (f"BuilderFlag.{member}",), apply, on_rtx, why)


def _set(config: Any, name: str, value: Any, error: str) -> None:
    """Set a property; the compiler only logs and ignores values that it does not take."""
    setattr(config, name, value)
    if getattr(config, name) != value:
        raise UsageError(error)


def _set_workspace(compilation: Compilation, value: int) -> None:
    compilation.config.set_memory_pool_limit(compilation.module.MemoryPoolType.WORKSPACE, value)


def _set_level(compilation: Compilation, value: int) -> None:
    error = f"unknown builder level {value}; {_LEVELS}"
    _set(compilation.config, "builder_optimization_level", value, error)


def _set_streams(compilation: Compilation, value: int) -> None:
    error = f"--max-aux-streams {value} is not possible; give 0 or more"
    _set(compilation.config, "max_aux_streams", value, error)


def _compatibility(value: str) -> str:
    if value not in COMPATIBILITIES:
        raise UsageError(
            f"unknown hardware compatibility {value!r}; choose from {', '.join(COMPATIBILITIES)}"
        )
    return COMPATIBILITIES[value]


def _set_compatibility(compilation: Compilation, value: str) -> None:
    level = getattr(compilation.module.HardwareCompatibilityLevel, _compatibility(value))
    error = f"--hardware-compatibility {value} is not taken by this GPU; leave it out"
    _set(compilation.config, "hardware_compatibility_level", level, error)


def _no_members(_: Any) -> tuple[str, ...]:
    return ()


OPTIONS = {
    "workspace_bytes": Option("--memory", _no_members, _set_workspace),
    "builder_level": Option("--builder-level", _no_members, _set_level, OnRtx.IDLE),
    "sparsity": _flag(
        "--sparsity",
        "SPARSE_WEIGHTS",
        OnRtx.FAILS,
        "its engine is the same with and without",
    ),
    "tf32": _flag("--tf32", "TF32"),
    "refit": _flag("--refit", "REFIT", OnRtx.NEEDS_GPU),
    "strip_weights": _flag("--strip-weights", "STRIP_PLAN", OnRtx.NEEDS_GPU),
    "weight_streaming": _flag("--weight-streaming", "WEIGHT_STREAMING"),
    "version_compatible": _flag(
        "--version-compatible",
        "VERSION_COMPATIBLE",
        OnRtx.FAILS,
        "it comes without the lean runtime",
    ),
    "hardware_compatibility": Option(
        "--hardware-compatibility",
        lambda value: (f"HardwareCompatibilityLevel.{_compatibility(value)}",),
        _set_compatibility,
        OnRtx.FAILS,
        "its engines fit the GPUs of --target-gpu and no others",
    ),
    "max_aux_streams": Option("--max-aux-streams", _no_members, _set_streams),
    "io_formats": Option(
        "--io-formats",
        format_members,
        set_formats,
    ),
    "timing_cache": Option(
        "--timing-cache",
        lambda _: ("ITimingCache",),
        lambda *_: None,  # It lives as long as the build; see `timing_cache.TimingCache`.
        OnRtx.FAILS,
        "it times no kernels while it builds, so that there is nothing to keep",
    ),
}
"""What is done with each field of `BuildOptions`; targets are chosen by `targets`."""
