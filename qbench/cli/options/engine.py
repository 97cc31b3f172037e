"""The options of `build-trt` that say how to compile, and what they add up to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qbench.cli.options.precisions import PrecisionArguments
from qbench.cli.options.shared import Decorated, MebibytesType, ShareType, with_options
from qbench.errors import UsageError

if TYPE_CHECKING:
    from qbench.data.choice import DataChoice
    from qbench.engines.build import EngineOptions
    from qbench.engines.compiling.protocol import BuildOptions

SECTIONS = {
    "Precision": (
        "int8",
        "fp16",
        "bf16",
        "fp8",
        "int4",
        "fp32",
        "keep_io",
        "block",
        "ranges",
        "exclude",
        "effort",
        "require_int8",
        "legacy_implicit",
        "calibrator",
    ),
    "Calibration": ("data", "recipe", "size", "limit", "table"),
    "Where the engine runs": (
        "backend",
        "shapes",
        "target_gpu",
        "hardware_compatibility",
        "version_compatible",
        "io_formats",
    ),
    "Weights": ("sparsity", "refit", "strip_weights", "weight_streaming"),
    "Compiler": (
        "builder_level",
        "memory",
        "tf32",
        "max_aux_streams",
        "timing_cache",
        "timeout",
        "memory_limit",
        "verbose",
    ),
}
"""Options of `build-trt` by the section of its help that lists them."""

_COMPATIBILITIES = ("none", "ampere-plus", "same-compute-capability")
_CALIBRATORS = ("entropy", "minmax")

_OPTIONS = (
    click.option("--backend", default="auto", show_default=True, help="auto, tensorrt or rtx."),
    click.option(
        "--shapes",
        multiple=True,
        metavar="NAME=SHAPE",
        help="x=1x3x640x640 or x=MIN/OPT/MAX, several inputs by commas. Given again for an input, "
        "it begins a further optimization profile.",
    ),
    click.option(
        "--target-gpu", default="", metavar="GPUS", help="Ahead of time (rtx): sm86,sm89."
    ),
    click.option(
        "--hardware-compatibility",
        type=click.Choice(_COMPATIBILITIES),
        default="none",
        metavar="LEVEL",
        help="Other GPUs that run it, too: ampere-plus, same-compute-capability; none by default.",
    ),
    click.option("--version-compatible", is_flag=True, help="Newer TensorRT can run it, too."),
    click.option(
        "--io-formats",
        multiple=True,
        metavar="NAME=FORMAT",
        help="Memory layout of an input or output: x=hwc, or x=chw+chw32.",
    ),
    click.option("--sparsity", is_flag=True, help="Use kernels for 2:4 sparse weights."),
    click.option("--refit", is_flag=True, help="Weights can be exchanged later."),
    click.option("--strip-weights", is_flag=True, help="Leave weights out; a refit adds them."),
    click.option("--weight-streaming", is_flag=True, help="Weights may stay in host memory."),
    click.option("--builder-level", type=click.IntRange(0, 5), help="Effort of the builder."),
    click.option(
        "--memory", type=MebibytesType(), metavar="MIB", help="Workspace limit: 512, or 2GiB."
    ),
    click.option("--tf32/--no-tf32", default=None, help="FP32 layers may compute in TF32."),
    click.option(
        "--max-aux-streams",
        type=click.IntRange(0, 1024),
        metavar="N",
        help="Most streams beside the main one.",
    ),
    click.option(
        "--timing-cache",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Keep kernel timings in FILE.",
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="End a build that takes longer.",
    ),
    click.option(
        "--memory-limit",
        type=MebibytesType(),
        metavar="MIB",
        help="End a build that holds more host memory.",
    ),
    click.option("--verbose", is_flag=True, help="Show the compiler's log on stderr, too."),
    click.option(
        "--require-int8",
        type=ShareType(),
        metavar="PERCENT",
        help="Exit with 3 where fewer convolutions run in INT8: 95%.",
    ),
    click.option(
        "--legacy-implicit",
        is_flag=True,
        help="INT8: let TensorRT 10 place it by itself, from the ranges of a table or of --ranges, "
        "or from those that its own calibrator finds on --data.",
    ),
    click.option(
        "--calibrator",
        type=click.Choice(_CALIBRATORS),
        help="Of --legacy-implicit: entropy (default) or minmax.",
        metavar="NAME",
    ),
)


def engine_options(command: Decorated) -> Decorated:
    """Add what `EngineArguments` holds besides precision, data and output."""
    return with_options(command, *_OPTIONS)


@dataclass(frozen=True, kw_only=True)
class EngineArguments(PrecisionArguments):
    """The options of `engine_options`, and what is built how."""

    backend: str
    shapes: tuple[str, ...]
    target_gpu: str
    hardware_compatibility: str
    version_compatible: bool
    io_formats: tuple[str, ...]
    sparsity: bool
    refit: bool
    strip_weights: bool
    weight_streaming: bool
    builder_level: int | None
    memory: int | None
    tf32: bool | None
    max_aux_streams: int | None
    timing_cache: Path | None
    timeout: float | None
    memory_limit: int | None
    verbose: bool
    require_int8: float | None
    legacy_implicit: bool
    calibrator: str | None
    output: Path

    def options(self) -> EngineOptions:
        """Return how and where to build.

        Raises:
            UsageError: Options contradict each other.
        """
        from qbench.engines.build import EngineOptions
        from qbench.engines.compiling.limits import Limits

        self._check()
        return EngineOptions(
            backend=self.backend,
            shapes=self.shapes,
            image_size=self.size or self.project.image_size,
            folder=self.output,
            build=self._build(),
            limits=Limits(self.timeout, self.memory_limit << 20 if self.memory_limit else None),
            quantization=self.quantization(),
            calibrator=(self.calibrator or _CALIBRATORS[0]) if self.legacy_implicit else None,
            images=self._images(),
        )

    def _build(self) -> BuildOptions:
        from qbench.engines.compiling.io_formats import parse_formats
        from qbench.engines.compiling.protocol import BuildOptions

        return BuildOptions(
            workspace_bytes=self.memory << 20 if self.memory else None,
            builder_level=self.builder_level,
            target_gpus=tuple(filter(None, map(str.strip, self.target_gpu.split(",")))),
            sparsity=self.sparsity,
            tf32=self.tf32,
            refit=self.refit,
            strip_weights=self.strip_weights,
            weight_streaming=self.weight_streaming,
            version_compatible=self.version_compatible,
            hardware_compatibility=self._compatibility(),
            max_aux_streams=self.max_aux_streams,
            io_formats=parse_formats(self.io_formats),
            timing_cache=self.timing_cache,
        )

    def _images(self) -> DataChoice | None:
        """Return what TensorRT calibrates on by itself."""
        if not self.legacy_implicit or self.data is None:
            return None
        for flag, given in (("--table", self.table), ("--ranges", self.ranges)):
            if given is not None:
                raise UsageError(f"{flag} and --data exclude each other; drop one")
        return self.choice()

    def _compatibility(self) -> str | None:
        word = self.hardware_compatibility
        return None if word == _COMPATIBILITIES[0] else word

    def _check(self) -> None:
        if self.calibrator and not self.legacy_implicit:
            raise UsageError(
                f"--calibrator {self.calibrator} has an effect with --legacy-implicit only; drop it"
            )
        if self.legacy_implicit and self.exclude:
            raise UsageError(
                f"--exclude {self.exclude[0]!r} has no effect with --legacy-implicit, where "
                "TensorRT places INT8; drop one"
            )
        if self.require_int8 is not None and self.precision != "int8":
            raise UsageError(f"--require-int8 has an effect with --int8, not --{self.precision}")
