"""`qbench calibrate`: statistics of a model's activations over a folder of images."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qbench.cli.options import (
    ModelArguments,
    PathType,
    data_options,
    json_option,
    model_argument,
    packed,
)
from qbench.errors import UsageError

if TYPE_CHECKING:
    from qbench.calibration.calibrate import DataChoice
    from qbench.calibration.table import CalibrationTable


@dataclass(frozen=True, kw_only=True)
class _Arguments(ModelArguments):
    output: Path | None
    threads: int
    as_json: bool

    def images(self) -> DataChoice:
        """Return the images to calibrate on; `qbench.toml` may name them."""
        choice = self.choice(default=self.project.data)
        if choice is None:
            raise UsageError("no images to calibrate on; give --data FOLDER")
        return choice


@click.command()
@model_argument
@data_options
@click.option("-o", "--output", type=PathType, help="Table; calibration/<model>.json if left out.")
@click.option("--threads", type=click.IntRange(min=0), default=0, help="0: all cores.")
@json_option
@packed(_Arguments)
def calibrate(arguments: _Arguments) -> None:
    """Gather activation statistics over images, once.

    MODEL may be left out where qbench.toml names it or the folder holds exactly one .onnx. The
    table serves every target, precision and range method; no later step reads the images again.
    """
    from qbench.calibration.calibrate import calibrate as run
    from qbench.calibration.calibrate import table_path
    from qbench.cli.render import progress
    from qbench.model.load import load
    from qbench.quantization.quantize import TABLES

    model = load(arguments.path())
    output = arguments.output or table_path(model, TABLES)
    if output.suffix != ".json":
        raise UsageError(f"the table {output} must end in .json; its histograms go to .npz")
    started = time.perf_counter()
    with progress("calibrating", "image") as report:
        table = run(model, arguments.images(), threads=arguments.threads, on_progress=report)
    table.save(output)
    _print(table, output, time.perf_counter() - started, arguments.as_json)


def _print(table: CalibrationTable, output: Path, seconds: float, as_json: bool) -> None:
    from qbench.artifacts import SCHEMA_VERSION
    from qbench.benchmarking.environment import peak_rss_bytes
    from qbench.cli.render import print_json, size_text

    data, peak = table.header.data, peak_rss_bytes()
    if as_json:
        print_json(
            {
                "schema_version": SCHEMA_VERSION,
                "images": data.images,
                "skipped": data.skipped,
                "seconds": seconds,
                "inference_seconds": table.inference_seconds,
                "peak_rss_bytes": peak,
                "tensors": len(table.statistics),
                "output": str(output),
            }
        )
        return
    memory = f", {size_text(peak)} peak memory" if peak else ""
    what = "images" if table.header.recipe else "samples"
    tensors = len(table.statistics)
    click.echo(f"{data.images} {what}, {tensors} tensors in {seconds:.1f} s{memory}")
    click.echo(f"wrote {output}")
