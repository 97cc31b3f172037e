"""`qbench calibrate`: statistics of a model's activations over a folder of images."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qbench.cli.options.loading import load_model
from qbench.cli.options.project import find_model
from qbench.cli.options.shared import (
    METHODS,
    DataArguments,
    FileType,
    PathType,
    data_options,
    json_option,
    packed,
)
from qbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qbench.calibration.shard import Shard
    from qbench.calibration.table import CalibrationTable
    from qbench.data.choice import DataChoice


class _ShardType(click.ParamType["Shard | None"]):
    name = "i/n"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Shard | None:
        from qbench.calibration.shard import parse_shard

        try:
            return parse_shard(str(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)


@dataclass(frozen=True, kw_only=True)
class _Arguments(DataArguments):
    files: tuple[Path, ...]
    merge: bool
    shard: Shard | None
    output: Path | None
    tensorrt_cache: Path | None
    method: str | None
    threads: int
    as_json: bool

    def model(self) -> Path:
        """Return the model, given or plain from the folder.

        Raises:
            UsageError: Several are given, or none is and the folder does not make it plain.
        """
        if len(self.files) > 1:
            raise UsageError(
                f"one model at a time, not {len(self.files)}; --data takes one folder, and tables "
                "need --merge"
            )
        return find_model(self.files[0] if self.files else None, self.project)

    def tables(self) -> tuple[Path, ...]:
        """Return the tables to merge; they know which images they were made from.

        Raises:
            UsageError: Images are named besides.
        """
        if self.data or self.recipe or self.size or self.limit or self.shard:
            raise UsageError("--merge reads tables, no images; leave --data and the like out")
        return self.files

    def images(self) -> DataChoice:
        """Return the images to calibrate on; `qbench.toml` may name them.

        Raises:
            UsageError: Nothing names them.
        """
        choice = self.choice(default=self.project.data)
        if choice is None:
            raise UsageError("no images to calibrate on; give --data FOLDER")
        return choice

    def check_cache(self) -> None:
        """Make sure that a cache is made of all samples, and that a range method has a use.

        Raises:
            UsageError: It is not so.
        """
        if self.shard is not None and self.tensorrt_cache is not None:
            raise UsageError("--shard sees some samples only; give --tensorrt-cache to --merge")
        if self.method is not None and self.tensorrt_cache is None:
            raise UsageError(
                f"--method {self.method} is for --tensorrt-cache; the table serves every method"
            )

    def path(self, table: Path, read: Iterable[Path]) -> Path:
        """Return where the table goes, `table` if nothing else is said, once that is possible.

        Args:
            table: A place.
            read: Files that it is made from, beside the samples.

        Raises:
            UsageError: Its name does not end in .json, or a file that is read, or the cache, has
                that of one of its files.
            StorageError: Something cannot be written there.
        """
        from qbench.artifacts import check_unread, check_writable
        from qbench.calibration.table import check_place

        path = self.output or table
        if path.suffix != ".json":
            raise UsageError(f"the table {path} must end in .json; its histograms go to .npz")
        for place in filter(None, (path, self.tensorrt_cache)):
            check_writable(place)
        cache, files = self.tensorrt_cache, (path, path.with_suffix(".npz"))
        if cache is not None and cache.resolve() in {file.resolve() for file in files}:
            raise UsageError(
                f"{cache} is a file of the table; give the TensorRT cache another name"
            )
        check_unread((*files, *filter(None, [cache])), [*self.read, *read])
        check_place(path)
        return path


@click.command()
@click.argument("files", type=PathType, nargs=-1, metavar="[MODEL]")
@data_options
@click.option("--shard", type=_ShardType(), help="Every n-th image from i on, as in 0/4.")
@click.option("--merge", is_flag=True, help="Merge the tables of all shards: --merge A B ...")
@click.option("-o", "--output", type=FileType, help="Table; calibration/<model>.json if left out.")
@click.option("--tensorrt-cache", type=FileType, help="Write a TensorRT calibration cache, too.")
@click.option(
    "--method",
    type=click.Choice(METHODS),
    help="How ranges of the cache are found.  [default: mse]",
)
@click.option("--threads", type=click.IntRange(0, 1024), default=0, help="0: all cores.")
@json_option
@packed(_Arguments)
def calibrate(arguments: _Arguments) -> None:
    """Gather activation statistics over images, once.

    MODEL may be left out where qbench.toml names it or the folder holds exactly one .onnx. The
    table serves every target, precision and range method. The search of `quantize` looks at some of
    the images again, where they still are.

    Several machines may share the work: each takes a --shard of the same images (after --limit),
    and --merge makes of all tables, in any order, to the byte the table of a single run.

    --json prints images, skipped, seconds, inference_seconds (in the runtime, summed over threads;
    null for --merge), peak_rss_bytes, tensors, image_size (height and width), shard (null for all
    images), output and tensorrt_cache (null for none).
    """
    arguments.check_cache()
    started = time.perf_counter()
    table, output = _merged(arguments) if arguments.merge else _calibrated(arguments)
    table.save(output)
    if arguments.tensorrt_cache is not None:
        _write_cache(table, arguments.tensorrt_cache, arguments.method or "mse")
    _print(table, output, time.perf_counter() - started, arguments)


def _calibrated(arguments: _Arguments) -> tuple[CalibrationTable, Path]:
    from qbench.calibration.calibrate import calibrate as run
    from qbench.calibration.calibrate import table_path
    from qbench.calibration.table import tell_replaced
    from qbench.cli.output.render import progress
    from qbench.quantization.tables import TABLES

    model, shard = load_model(arguments.model()), arguments.shard
    output = arguments.path(table_path(model, TABLES, shard), model.files)
    data, threads = arguments.images(), arguments.threads
    if arguments.output is None and shard is None:
        tell_replaced(output, model.sha256)
    with progress("calibrating", "image") as report:
        return run(model, data, shard=shard, threads=threads, on_progress=report), output


def _merged(arguments: _Arguments) -> tuple[CalibrationTable, Path]:
    from qbench.calibration.merge import merge_tables
    from qbench.quantization.tables import TABLES

    shards = arguments.tables()
    table = merge_tables(shards)
    read = (file for shard in shards for file in (shard, shard.with_suffix(".npz")))
    return table, arguments.path(TABLES / f"{Path(table.header.model).stem}.json", read)


def _write_cache(table: CalibrationTable, path: Path, method: str) -> None:
    from qbench.artifacts import write_bytes
    from qbench.calibration.interop import tensorrt_cache_from_table

    write_bytes(path, tensorrt_cache_from_table(table, method).encode())


def _print(table: CalibrationTable, output: Path, seconds: float, arguments: _Arguments) -> None:
    from qbench.artifacts import SCHEMA_VERSION
    from qbench.benchmarking.environment import peak_rss_bytes
    from qbench.cli.output.render import counted, print_json, size_text

    header, peak = table.header, peak_rss_bytes()
    data, shard, size = header.data, header.shard, header.image_size
    cache = arguments.tensorrt_cache
    if arguments.as_json:
        print_json(
            {
                "schema_version": SCHEMA_VERSION,
                "images": data.images,
                "skipped": data.skipped,
                "seconds": seconds,
                "inference_seconds": table.inference_seconds,
                "peak_rss_bytes": peak,
                "tensors": len(table.statistics),
                "image_size": size,
                "shard": str(shard) if shard else None,
                "output": str(output),
                "tensorrt_cache": str(cache) if cache else None,
            }
        )
        return
    memory = f", {size_text(peak)} peak memory" if peak else ""
    images = counted(data.images, "image" if table.header.recipe else "sample")
    pixels = f" of {size[0]} x {size[1]}" if size else ""
    part = f", shard {shard}" if shard else ""
    tensors = counted(len(table.statistics), "tensor")
    click.echo(f"{images}{pixels}{part}, {tensors} in {seconds:.1f} s{memory}")
    click.echo(f"wrote {output}" + (f" and {cache}" if cache else ""))
