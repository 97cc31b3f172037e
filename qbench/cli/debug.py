"""`qbench debug`: where a converted model parts from its float model, or fails to build."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qbench.cli.options.shared import (
    DataArguments,
    FileType,
    PathType,
    data_options,
    json_option,
    packed,
    table_option,
)
from qbench.errors import UsageError

if TYPE_CHECKING:
    from qbench.engines.reduce import Reduced
    from qbench.evaluation.compare_layers import LayerComparison

_MOST_NODES = 12


@dataclass(frozen=True, kw_only=True)
class _Arguments(DataArguments):
    reference: Path
    test: Path | None
    table: Path | None
    native: bool
    threshold: float
    top: int
    reduce: bool
    backend: str
    output: Path | None
    as_json: bool

    def check(self) -> None:
        """Make sure that the arguments say what to do.

        Raises:
            UsageError: B is missing, or given for --reduce, or -o is given without it.
        """
        if self.reduce and self.test is not None:
            raise UsageError(f"--reduce cuts one model; leave out {self.test}")
        if not self.reduce and self.test is None:
            raise UsageError(f"what is {self.reference} compared with? name B, or add --reduce")
        if not self.reduce and self.output is not None:
            raise UsageError("-o is the file of --reduce, and nothing is reduced; leave it out")


@click.command()
@click.argument("reference", metavar="A", type=PathType)
@click.argument("test", metavar="[B]", type=PathType, required=False)
@data_options
@table_option
@click.option("--native", is_flag=True, help="Compare ONNX Runtime's own kernels; see above.")
@click.option(
    "--threshold",
    type=float,
    metavar="DB",
    default=10.0,
    show_default=True,
    help="A layer with a lower SQNR is bad.",
)
@click.option(
    "--top", type=click.IntRange(min=1), default=10, show_default=True, help="Layers to list."
)
@click.option("--reduce", is_flag=True, help="Find what TensorRT fails to build in A; see above.")
@click.option(
    "--backend", default="auto", show_default=True, help="auto, tensorrt or rtx (--reduce)."
)
@click.option("-o", "--output", type=FileType, help="Of --reduce: <A>.reduced.onnx if left out.")
@json_option
@packed(_Arguments)
def debug(arguments: _Arguments) -> None:
    """Compare a float model A with B, made from it by any tool, layer by layer.

    With --reduce: find what TensorRT fails to build in A.

    Both run on the same images, and every float tensor that both have is compared: by SQNR, the
    energy of the signal over that of the error, in dB, and by cosine. Where B quantizes a tensor,
    its dequantized form counts. What is selected by value, as by NonMaxSuppression, is left out.

    The first bad layer is the first, by its distance from the input, whose SQNR is below
    --threshold; 10 dB is an error of a tenth of the signal's energy. Error also gathers little by
    little, so the steepest layer is shown beside it: the one whose error, as a share of its signal,
    exceeds the worst of its inputs by most. The list is in that order.

    Exact arithmetic computes what Q/DQ nodes say, as TensorRT does. With --native, ONNX Runtime
    optimizes both, and only dequantized tensors and outputs are compared, since it does not fuse
    what it must hand out. BF16 is always computed in FP32 and rounded after every node.

    Without --data, a few images of the calibration table are used, else random numbers, which say
    little about accuracy.

    With --reduce, there is no B: TensorRT fails to build A, and the smallest part of A that fails
    in the same way is written, for a look or a bug report. Unless the failure names the node,
    Polygraphy looks for it; that takes a build for every part that is tried.
    """
    arguments.check()
    if arguments.reduce:
        _reduce(arguments)
    else:
        _compare(arguments)


def _reduce(arguments: _Arguments) -> None:
    from qbench.cli.output.render import print_json, progress
    from qbench.engines.reduce import reduce_model

    model = arguments.reference
    with progress("reducing", "build") as report:
        found = reduce_model(
            model,
            arguments.output or model.with_suffix(".reduced.onnx"),
            backend=arguments.backend,
            image_size=arguments.size or arguments.project.image_size,
            on_step=report,
        )
    if arguments.as_json:
        print_json(found)
    else:
        _print_reduced(found)


def _print_reduced(found: Reduced) -> None:
    from qbench.cli.output.render import counted, print_field, print_first

    print_field("fails", found.failure)
    print_field("part", f"{len(found.nodes)} of {counted(found.whole, 'node')}")
    print_first(_MOST_NODES, [(f"  {node.op_type}", node.name) for node in found.nodes])
    print_field("wrote", found.output)


def _compare(arguments: _Arguments) -> None:
    from qbench.cli.output.render import print_json, progress
    from qbench.evaluation.compare_layers import LayerOptions, compare_layers

    project = arguments.project
    assert arguments.test is not None  # `check` saw to that
    with progress("comparing", "sample") as report:
        found = compare_layers(
            arguments.reference,
            arguments.test,
            arguments.choice(project.data),
            table=arguments.table,
            options=LayerOptions(
                native=arguments.native,
                threshold_db=arguments.threshold,
                image_size=arguments.size or project.image_size,
                on_progress=report,
            ),
        )
    if arguments.as_json:
        print_json(found)
    else:
        _print_text(found, arguments.top)


def _print_text(found: LayerComparison, top: int) -> None:
    from qbench.cli.output.layer_table import chart, layer_table, verdicts
    from qbench.cli.output.render import print_field, print_table

    for label, text in verdicts(found):
        print_field(label, text)
    click.echo()
    click.echo("\n".join(chart(found.layers)))
    click.echo()
    print_table(layer_table(found.layers, top))
