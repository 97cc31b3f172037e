"""`qbench debug`: where a converted model parts from its float model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
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

if TYPE_CHECKING:
    from qbench.evaluation.compare_layers import LayerComparison


@dataclass(frozen=True, kw_only=True)
class _Arguments(DataArguments):
    reference: Path
    test: Path
    table: Path | None
    native: bool
    threshold: float
    top: int
    as_json: bool


@click.command()
@click.argument("reference", metavar="A", type=PathType)
@click.argument("test", metavar="B", type=PathType)
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
@json_option
@packed(_Arguments)
def debug(arguments: _Arguments) -> None:
    """Compare a float model A with B, made from it by any tool, layer by layer.

    Both run on the same images, and every float tensor that both have is compared: by SQNR, the
    energy of the signal over that of the error, in dB, and by cosine. Where B quantizes a tensor,
    its dequantized form counts.

    The first bad layer is the first, by its distance from the input, whose SQNR is below
    --threshold; 10 dB is an error of a tenth of the signal's energy. Error also gathers little by
    little, so the steepest layer is shown beside it: the one whose error, as a share of its signal,
    exceeds the worst of its inputs by most. The list is in that order.

    Exact arithmetic computes what Q/DQ nodes say, as TensorRT does. With --native, ONNX Runtime
    optimizes both, and only dequantized tensors and outputs are compared, since it does not fuse
    what it must hand out.

    Without --data, a few images of the calibration table are used, else random numbers, which say
    little about accuracy.
    """
    from qbench.cli.render import print_json, progress
    from qbench.evaluation.compare_layers import LayerOptions, compare_layers

    project = arguments.project
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
    from qbench.cli.layer_table import chart, layer_table, verdicts
    from qbench.cli.render import print_field, print_table

    for label, text in verdicts(found):
        print_field(label, text)
    click.echo()
    click.echo("\n".join(chart(found.layers)))
    click.echo()
    print_table(layer_table(found.layers, top))
