"""INT8 as TensorRT 10 and older place it by themselves, from the range of every tensor.

The calibrator hands over a calibration cache and never a batch, so no image has to be on a GPU:
the ranges are those of the calibration table, or of a cache that another tool wrote.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

from qbench.engines.features import missing_members
from qbench.engines.protocol import BuildOptions, ImplicitInt8
from qbench.errors import UsageError

CALIBRATORS = {
    "entropy": ("IInt8EntropyCalibrator2", "EntropyCalibration2"),
    "minmax": ("IInt8MinMaxCalibrator", "MinMaxCalibration"),
}
"""Class of each calibrator, and its name in the first line of a calibration cache."""

_FLAGS = ("INT8", "FP16")


def check_implicit(module: ModuleType, options: BuildOptions) -> None:
    """Make sure that this TensorRT still has calibrators.

    Raises:
        UsageError: It has none, or an option needs what only a typed network has.
    """
    members = [f"BuilderFlag.{flag}" for flag in _FLAGS]
    members += [kind for kind, _ in CALIBRATORS.values()]
    if missing_members(module, members):
        raise UsageError(
            f"{module.__name__} {module.__version__} has no calibrators: --legacy-implicit is of "
            "TensorRT 10 only; leave it out, --int8 alone writes INT8 into the model"
        )
    if options.weight_streaming:
        raise UsageError("--weight-streaming needs a typed network; leave out --legacy-implicit")


def set_implicit(module: ModuleType, config: Any, implicit: ImplicitInt8, copy: Path) -> Any:
    """Let the compiler place INT8, and FP16 where it is faster.

    Args:
        module: The module of TensorRT.
        config: The configuration of the build.
        implicit: How.
        copy: Where to write the calibration cache that the compiler gets.

    Returns:
        The calibrator, which has to live until the build ends.
    """
    for flag in _FLAGS:
        config.set_flag(getattr(module.BuilderFlag, flag))
    cache = _with_header(module, implicit)
    copy.write_text(cache, "utf-8")
    config.int8_calibrator = calibrator = _calibrator(module, implicit.calibrator, cache.encode())
    return calibrator


def _with_header(module: ModuleType, implicit: ImplicitInt8) -> str:
    """Return the cache under the name of this TensorRT, which passes over those of others."""
    major, minor, patch = (int(part) for part in module.__version__.split(".")[:3])
    _, _, ranges = implicit.cache.partition("\n")
    algorithm = CALIBRATORS[implicit.calibrator][1]
    return f"TRT-{10_000 * major + 100 * minor + patch}-{algorithm}\n{ranges}"


def _calibrator(module: ModuleType, name: str, cache: bytes) -> Any:
    base: Any = getattr(module, CALIBRATORS[name][0])

    class Calibrator(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: list[str]) -> None:
            """Say that there are no images: the cache has to do."""

        def read_calibration_cache(self) -> bytes:
            return cache

        def write_calibration_cache(self, cache: bytes) -> None:
            """Keep nothing: what the compiler got is written already."""

    return Calibrator()
