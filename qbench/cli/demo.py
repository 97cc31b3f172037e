"""`qbench demo`: the main job on generated images, to see it work before bringing a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from qbench.cli.options.shared import PathType, json_option

if TYPE_CHECKING:
    from qbench.demo.workflow import DemoResult

_GO_ON = {
    "classify": "qbench inspect && qbench calibrate --data imgs/",
    "detect": "qbench bench --task detect --data val --labels val.json",
}
"""What to try in the folder, for each key of `demo.workflow.SUBJECTS`, which help must not load."""


@click.command()
@click.option(
    "--task",
    type=click.Choice(list(_GO_ON)),
    default="classify",
    show_default=True,
    help="Show a classifier, or a detector.",
)
@click.option(
    "-o",
    "--output",
    type=PathType,
    help="Folder.  [default: qbench-demo, or qbench-detect]",
)
@json_option
def demo(task: str, output: Path | None, as_json: bool) -> None:
    """Run the main job on generated images, offline.

    Draws labelled images, calibrates and quantizes an embedded model for each target, builds a
    TensorRT engine where TensorRT is installed, and prints accuracy against latency.
    """
    from qbench.cli.output.render import print_json
    from qbench.demo.workflow import run_demo

    folder = output or Path("qbench-demo" if task == "classify" else "qbench-detect")
    result = run_demo(folder, lambda step: click.echo(f"{step} ...", err=True), task=task)
    if as_json:
        print_json(result.result)
        return
    _print_text(result, task)


def _print_text(result: DemoResult, task: str) -> None:
    from qbench.cli.output.render import percent
    from qbench.cli.output.result_table import print_result

    click.echo()
    print_result(result.result)
    click.echo()
    if result.engine is None:
        click.echo(f"no engine: {result.missing}")
    else:
        manifest = result.engine.manifest
        share = manifest.int8_conv_fraction
        audit = "" if share is None else f"{percent(share)} of convolutions in INT8"
        gpus = ", ".join(manifest.targets) or "the GPU at hand"
        click.echo(
            f"engine: {result.engine.path}\n"
            f"  {manifest.flavour} {manifest.flavour_version} for {gpus}, "
            f"built in {manifest.seconds:.1f} s\n  {audit}"
        )
    click.echo(f"All files are in {result.folder}/. Go on there with your own commands:")
    click.echo(f"  cd {result.folder} && {_GO_ON[task]}")
