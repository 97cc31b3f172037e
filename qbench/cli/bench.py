"""`qbench bench`: one table of accuracy against latency."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import TYPE_CHECKING

import click

from qbench.cli.options import (
    DataArguments,
    PathType,
    data_options,
    json_option,
    packed,
    table_option,
)
from qbench.cli.project import find_model
from qbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from qbench.benchmarking.result import RunResult
    from qbench.benchmarking.subject import LabelledData


CUDA_BACKENDS = ("cuda-bindings", "pycuda")
"""The keys of `runtimes.cuda.choose.BACKENDS`, which help must not import."""

_PRECISIONS = "Of fp32, fp16, bf16, fp8, int8, int4, weight-only, dynamic."


@dataclass(frozen=True, kw_only=True)
class _Arguments(DataArguments):
    models: tuple[Path, ...]
    precisions: str
    providers: str
    labels: Path | None
    task: str | None
    decoder: str
    table: Path | None
    simulate: bool
    threads: int
    allow_fallback: bool
    cuda_backend: str
    cache: Path | None
    mode: str | None
    as_json: bool

    def paths(self) -> list[Path]:
        """Return the models, given or plain from the folder."""
        return list(self.models) or [find_model(None, self.project)]

    def images(self) -> LabelledData | None:
        """Return the images to judge accuracy on, or None.

        Raises:
            UsageError: Labels or a task are given without images, images without a task, or a
                decoder for another task than detection.
        """
        from qbench.benchmarking.subject import LabelledData

        choice = self.choice()
        if choice is None:
            if self.labels or self.task:
                raise UsageError("accuracy needs images; add --data FOLDER")
            return None
        if self.task is None:
            raise UsageError(
                "--data alone says not what accuracy means; add --task classify, detect, "
                "segment or embed"
            )
        if self.decoder != "auto" and self.task != "detect":
            raise UsageError("--decoder reads boxes; drop it, or give --task detect")
        return LabelledData(choice, self.labels, self.task, self.decoder)


@click.command()
@click.argument("models", type=PathType, nargs=-1)
@click.option("--precisions", default="fp32", show_default=True, help=_PRECISIONS)
@click.option("--providers", default="cpu", show_default=True, help="Of cpu, cuda, tensorrt, rtx.")
@click.option("--allow-fallback", is_flag=True, help="Let others run what a provider cannot.")
@click.option("--cache", type=PathType, help="Where tensorrt and rtx keep what they compile.")
@click.option(
    "--cuda-backend",
    type=click.Choice(CUDA_BACKENDS),
    default=CUDA_BACKENDS[0],
    show_default=True,
    help="What engines reach the GPU through.",
)
@data_options
@click.option("--labels", type=PathType, help="Labels of the images; see above.")
@click.option(
    "--task",
    type=click.Choice(["classify", "detect", "segment", "embed"]),
    help="What accuracy means; see above.",
)
@click.option("--decoder", default="auto", show_default=True, help="How detect reads boxes.")
@table_option
@click.option("--simulate", is_flag=True, help="Judge INT8 of every target in exact arithmetic.")
@click.option("--threads", type=click.IntRange(min=0), default=0, help="Per model; 0: all cores.")
@click.option("--quick", "mode", flag_value="quick", help="Intervals of +-2 %.")
@click.option("--strict", "mode", flag_value="strict", help="Intervals of +-0.5 %.")
@json_option
@packed(_Arguments)
def bench(arguments: _Arguments) -> None:
    """Measure accuracy and latency, paired and interleaved.

    Every model in every precision on every provider, in random order; a TensorRT .engine as it is,
    by its own TensorRT and without the copies to and from the GPU. The first row is the baseline
    of all ratios (its time / the row's time). A verdict says faster, slower or same only where the
    95 % interval bears it.

    Accuracy needs --data and --task. classify: top-1 and top-5; --labels is a CSV file,label, or
    left out for a folder per class; of images without classes, the share with the same class first
    as with FP32. detect: COCO mAP; --labels is a COCO .json or a folder of YOLO .txt files, or left
    out for the detections in common with FP32. segment: mean IoU; --labels is a folder of gray .png
    masks, 255 for no class. embed: cosine between the outputs and those of FP32, and the share of
    images whose nearest other image stays the same.

    --decoder is found from the output's shape where that is plain. Else give one of yolov8, yolov5,
    yolox, end2end, ssd, detr, rtdetr. A YOLOX with its decoder inside is a yolov5.
    """
    from qbench.benchmarking.benchmark import Options, benchmark
    from qbench.benchmarking.settings import MODES
    from qbench.cli.render import print_json

    result = benchmark(
        arguments.paths(),
        precisions=_words(arguments.precisions),
        providers=_words(arguments.providers),
        table=arguments.table,
        images=arguments.images(),
        options=Options(
            settings=MODES[arguments.mode or "normal"],
            threads=arguments.threads,
            simulate=arguments.simulate,
            image_size=arguments.size or arguments.project.image_size,
            allow_fallback=arguments.allow_fallback,
            cuda_backend=arguments.cuda_backend,
            cache=arguments.cache,
            on_step=_announce(),
        ),
    )
    if arguments.as_json:
        print_json(result)
    else:
        print_result(result)


def print_result(result: RunResult) -> None:
    """Print the table of a run, and below it what a reader has to know."""
    from qbench.cli.render import print_table
    from qbench.cli.result_table import footnotes, result_table

    print_table(result_table(result))
    width = get_terminal_size((80, 24)).columns
    for note in footnotes(result):
        click.echo(fill(note, width, subsequent_indent="  "))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _announce() -> Callable[[str], None]:
    """Return what says the next step on stderr, where somebody watches."""
    if not sys.stderr.isatty():
        return lambda _: None
    return lambda step: click.echo(f"{step} ...", err=True)
