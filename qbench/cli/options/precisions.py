"""The options that say which precision is wanted, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from qbench.cli.options.shared import (
    Decorated,
    ModelArguments,
    PathType,
    exclude_option,
    exclusive_flags,
)
from qbench.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from qbench.calibration.given import GivenRanges
    from qbench.calibration.table import CalibrationTable
    from qbench.model.load import Model
    from qbench.quantization.options import Options

_FLAGS = {
    "int8": "Static INT8 (default).",
    "fp16": "FP16, but FP32 for tensors that would overflow.",
    "bf16": "BF16; for tensorrt, sm80 and later.",
    "fp8": "Static FP8 (E4M3); for tensorrt, sm89 and later.",
    "int4": "INT4 weights of MatMul and Gemm.",
    "weight-only": "INT8 weights, computed with in float.",
    "dynamic": "INT8, scales at run time; cpu.",
    "fp32": "FP32, to compare with.",
}
_HALF = ("fp16", "bf16")
_KEEP_IO = (
    "FP16 and BF16: inputs and outputs stay FP32 (the default), so that whoever feeds the model "
    "need not change."
)
_RANGES = "INT8: TensorRT calibration cache or ORT's JSON in place of a table."


@dataclass(frozen=True, kw_only=True)
class PrecisionArguments(ModelArguments):
    """The options of `precision_options`, and what is written how."""

    precision: str
    block: int | None
    keep_io: bool | None
    table: Path | None
    exclude: tuple[str, ...]
    effort: str | None
    ranges: Path | None

    @property
    def read(self) -> tuple[Path | None, ...]:
        """What is read of the files that the command line names."""
        return *super().read, self.table, self.ranges

    def quantization(self, method: str | None = None) -> Options | None:
        """Return how to write the precision; None where there is nothing to choose.

        Args:
            method: How ranges are found, where that is said.

        Raises:
            UsageError: An option has no effect on the precision.
        """
        from qbench.quantization.int8 import Int8Options
        from qbench.quantization.precisions.half import HalfOptions
        from qbench.quantization.precisions.weight_only import WeightOptions

        if self.keep_io is not None and self.precision not in _HALF:
            flag = "--keep-io" if self.keep_io else "--no-keep-io"
            raise UsageError(f"{flag} has an effect with --fp16 and --bf16 only; drop it")
        if self.block is not None and self.precision != "int4":
            raise UsageError(f"--block {self.block} has an effect with --int4 only; drop it")
        if self.effort is not None and self.precision != "int8":
            raise UsageError(f"--effort {self.effort} has an effect with --int8 only; drop it")
        if method is not None and self.precision not in {"int8", "fp8"}:
            raise UsageError(f"--method {method} has an effect with --int8 and --fp8 only; drop it")
        if self.precision in _HALF:
            return HalfOptions(self.keep_io is not False, self.exclude)
        if self.precision in {"int4", "weight-only"}:
            return WeightOptions(self.block, self.exclude)
        if self.precision == "fp32":
            return None
        return Int8Options(
            method=method or "mse", exclude=self.exclude, effort=self.effort or "balanced"
        )

    def calibration(self, model: Model) -> CalibrationTable | GivenRanges | Path | None:
        """Return what the precision takes that is named: ranges, a table, or one made on data.

        Data that is named wins over a table that is found: the model is calibrated on it.

        Raises:
            UsageError: More than one of ranges, a table and data are given.
            CalibrationError: The ranges cannot be read.
            DataError: The data cannot be used.
        """
        from qbench.calibration.calibrate import make_table
        from qbench.calibration.given import load_ranges
        from qbench.cli.output.render import progress
        from qbench.quantization.options import NEED_TABLE
        from qbench.quantization.tables import TABLES

        choice = self.choice()
        if self.ranges is not None:
            if self.table is not None or choice is not None:
                other = "--table" if self.table is not None else "--data"
                raise UsageError(f"--ranges and {other} exclude each other; drop one")
            return load_ranges(self.ranges, self.size or self.project.image_size)
        if choice is None or self.precision not in {*NEED_TABLE, "fp16"}:
            return self.table
        if self.table is not None:
            raise UsageError("--table and --data exclude each other; drop one")
        with progress("calibrating", "image") as report:
            return make_table(model, TABLES, choice, on_progress=report)


def watched(options: Options | None, report: Callable[[int, int], None]) -> Options | None:
    """Return `options` with a callback (done, total) for the one precision that searches."""
    from qbench.quantization.int8 import Int8Options

    return replace(options, on_progress=report) if isinstance(options, Int8Options) else options


def precision_options(*precisions: str) -> Callable[[Decorated], Decorated]:
    """Add a flag for each of `precisions`, the first of which is the default."""

    def decorate(command: Decorated) -> Decorated:
        keep_io = click.option("--keep-io/--no-keep-io", default=None, help=_KEEP_IO)
        block = click.option(
            "--block", type=int, metavar="N", help="INT4: 32 (default) or 128 weights a scale."
        )
        ranges = click.option("--ranges", type=PathType, metavar="FILE", help=_RANGES)
        command = exclude_option(keep_io(block(ranges(command))))
        flags = {precision: _FLAGS[precision] for precision in precisions}
        return exclusive_flags("precision", flags, precisions[0])(command)

    return decorate
