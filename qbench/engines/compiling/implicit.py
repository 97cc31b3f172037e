"""INT8 as TensorRT 10 and older place it by themselves, from the range of every tensor.

The calibrator hands over a calibration cache, with the ranges of a calibration table or of another
tool, and never a batch. Or it has no cache and hands over images, on which TensorRT finds the
ranges.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from qbench.engines.compiling.features import missing_members
from qbench.engines.compiling.protocol import BuildOptions, ImplicitInt8
from qbench.errors import UsageError

if TYPE_CHECKING:
    from qbench.engines.compiling.calibrator_feed import BatchFeed

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


@contextmanager
def placed_by_compiler(
    module: ModuleType,
    config: Any,
    implicit: ImplicitInt8,
    copy: Path,
    tell: Callable[[str], None],
) -> Iterator[None]:
    """Let what is built meanwhile have INT8 where the compiler likes, and FP16 where it is faster.

    Args:
        module: The module of TensorRT.
        config: The configuration of the build.
        implicit: How.
        copy: Where to keep the calibration cache that the compiler gets, or makes.
        tell: Called with what the user has to know.

    Raises:
        DataError: Images cannot be read, or do not fit the model.
        EngineError: They do not get to the GPU.
        UnfitError: They need one.
        OSError: The cache cannot be written.
    """
    for flag in _FLAGS:
        config.set_flag(getattr(module.BuilderFlag, flag))
    if implicit.images is None:
        cache = _with_header(module, implicit)
        copy.write_text(cache, "utf-8")
        # The compiler does not own the calibrator, which has to live until it is done.
        config.int8_calibrator = calibrator = _with_cache(module, implicit.calibrator, cache)
        yield
        del calibrator
        return
    # The process that compiles starts without what reads images.
    from qbench.engines.compiling.calibrator_feed import BatchFeed

    with closing(BatchFeed(implicit.images)) as feed:
        config.int8_calibrator = fed = _with_images(module, implicit.calibrator, feed)
        yield
        if feed.error is not None:
            raise feed.error
        if fed.found:
            copy.write_bytes(fed.found)
        if feed.notes():
            tell(feed.notes())


def _with_header(module: ModuleType, implicit: ImplicitInt8) -> str:
    """Return the cache under the name of this TensorRT, which passes over those of others."""
    major, minor, patch = (int(part) for part in module.__version__.split(".")[:3])
    _, _, ranges = implicit.cache.partition("\n")
    algorithm = CALIBRATORS[implicit.calibrator][1]
    return f"TRT-{10_000 * major + 100 * minor + patch}-{algorithm}\n{ranges}"


def _with_cache(module: ModuleType, name: str, cache: str) -> Any:
    base: Any = getattr(module, CALIBRATORS[name][0])

    class Calibrator(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: list[str]) -> None:
            """Say that there are no images: the cache has to do."""

        def read_calibration_cache(self) -> bytes:
            return cache.encode()

        def write_calibration_cache(self, cache: bytes) -> None:
            """Keep nothing: what the compiler got is written already."""

    return Calibrator()


def _with_images(module: ModuleType, name: str, feed: "BatchFeed") -> Any:
    base: Any = getattr(module, CALIBRATORS[name][0])

    class Calibrator(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.found = b""

        def get_batch_size(self) -> int:
            return feed.batch

        def get_batch(self, names: list[str]) -> list[int] | None:
            return feed.next(names)

        def read_calibration_cache(self) -> None:
            """Say that there is no cache: the images have to do."""

        def write_calibration_cache(self, cache: Any) -> None:
            self.found = bytes(cache)

    return Calibrator()
