"""`qbench bench`: one table of accuracy against latency."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from qbench.cli.options.bench import BenchArguments, keep_options, load_options
from qbench.cli.options.shared import (
    PathType,
    data_options,
    exclusive_flags,
    json_option,
    judging_options,
    packed,
    table_option,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from qbench.benchmarking.options import Options

CUDA_BACKENDS = ("cuda-bindings", "pycuda")
"""The keys of `runtimes.cuda.choose.BACKENDS`, which help must not import."""

_PROVIDERS = "Of cpu, openvino, cuda, tensorrt, rtx."
_PRECISIONS = "Of fp32, fp16, bf16, fp8, int8, int4, weight-only, dynamic."


@click.command()
@click.argument("models", type=PathType, nargs=-1)
@click.option("--precisions", default="fp32", show_default=True, help=_PRECISIONS)
@click.option("--providers", default="cpu", show_default=True, help=_PROVIDERS)
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
@click.option(
    "--task",
    type=click.Choice(["classify", "detect", "segment", "embed"]),
    help="What accuracy means; see above.",
)
@judging_options
@table_option
@click.option("--simulate", is_flag=True, help="Judge INT8 of every target in exact arithmetic.")
@load_options
@exclusive_flags("effort", {"quick": "Intervals of +-2 %.", "strict": "Intervals of +-0.5 %."})
@keep_options
@json_option
@packed(BenchArguments)
def bench(arguments: BenchArguments) -> None:
    """Measure accuracy and latency, paired and interleaved.

    Every model in every precision on every provider, in random order; a TensorRT .engine as it is,
    by its own TensorRT and without the copies to and from the GPU. The first row is the baseline
    of all ratios (its time / the row's time, per image). A verdict says faster, slower or same only
    where the 95 % interval bears it. Each --batch, --threads and --streams is a row of its own.

    --mode latency makes one call after the other. throughput keeps --streams calls in flight; the
    ratio is that of images per second. paced starts --rate calls per second, done or not, and times
    each from when it was due.

    Accuracy needs --data and --task. classify: top-1 and top-5; --labels is a CSV file,label, or
    left out for a folder per class; of images without classes, the share with the same class first
    as with FP32. detect: COCO mAP; --labels is a COCO .json or a folder of YOLO .txt files, or left
    out where data/labels/val lies beside data/images/val, else for the detections in common with
    FP32. segment: mean IoU; --labels is a folder of .png masks, gray or palette, 255 for no class.
    embed: cosine between the outputs and those of FP32, and the share of images whose nearest other
    image stays the same.

    --decoder is found from the output's shape where that is plain. Else give one of yolov8, yolov5,
    yolox, end2end, ssd, detr, rtdetr. A YOLOX with its decoder inside is a yolov5.

    Two loads of one file differ in speed, so candidates are loaded anew every few rounds, in a
    fresh process where there is time. They are timed in groups of 8, each group for at most 60 s
    (--quick 20 s, --strict 300 s).

    What is done is kept in .qbench: each accuracy as it is judged, and the rows of a group as its
    timing ends, since all of them take part in all of its rounds. The same command goes on with a
    run that was stopped, and times no more than one group again. `qbench runs` lists them.

    A row that cannot run says failed and why; the exit code is that of an error where none can run.

    --baseline compares with an older run. Its models are measured again beside the new ones where
    their files, and for int8 and fp8 their tables in calibration/, are as they were. Else its
    figures are taken as they were kept, and the output says why. --fail-on as in compare.
    """
    from qbench.cli.bench_run import measure_run, print_json_of, print_text_of

    finished = measure_run(arguments, _options(arguments))
    if arguments.as_json:
        print_json_of(finished)
    else:
        print_text_of(finished)
    finished.check()


def _options(arguments: BenchArguments) -> Options:
    from qbench.benchmarking.options import Options
    from qbench.benchmarking.timing.settings import MODES

    return Options(
        settings=MODES[arguments.effort or "normal"],
        batches=arguments.batch,
        threads=arguments.threads,
        streams=arguments.streams,
        mode=arguments.mode,
        rate=arguments.rate,
        graph=arguments.graph,
        profile=arguments.profile,
        isolate=not arguments.in_process,
        simulate=arguments.simulate,
        image_size=arguments.size or arguments.project.image_size,
        allow_fallback=arguments.allow_fallback,
        cuda_backend=arguments.cuda_backend,
        cache=arguments.cache,
        on_step=_announce(),
    )


def _announce() -> Callable[[str], None]:
    """Return what says the next step on stderr, where somebody watches."""
    if not sys.stderr.isatty():
        return lambda _: None
    return lambda step: click.echo(f"{step} ...", err=True)
