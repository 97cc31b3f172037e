"""`qbench demo`: the main job on generated images, to see it work before bringing a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from qbench.cli.options import PathType, json_option

if TYPE_CHECKING:
    from qbench.demo.workflow import DemoResult


@click.command()
@click.option(
    "-o",
    "--output",
    type=PathType,
    default=Path("qbench-demo"),
    help="Folder.  [default: qbench-demo]",
)
@json_option
def demo(output: Path, as_json: bool) -> None:
    """Run the main job on generated images, offline.

    Draws labelled images, calibrates and quantizes the embedded classifier for each target, builds
    a TensorRT engine where TensorRT is installed, and prints accuracy against latency.
    """
    from qbench.cli.render import print_json
    from qbench.demo.workflow import run_demo

    result = run_demo(output, lambda step: click.echo(f"{step} ...", err=True))
    if as_json:
        print_json(result.result)
        return
    _print_text(result)


def _print_text(result: DemoResult) -> None:
    from qbench.cli.bench import print_result
    from qbench.cli.render import percent

    click.echo()
    print_result(result.result)
    click.echo()
    if result.engine is None:
        click.echo(f"no engine: {result.missing}")
    else:
        manifest = result.engine.manifest
        share = manifest.int8_conv_fraction
        audit = "" if share is None else f"{percent(share)} of convolutions in INT8"
        click.echo(
            f"engine: {result.engine.path}\n"
            f"  {manifest.flavour} {manifest.flavour_version} for {', '.join(manifest.targets)}, "
            f"built in {manifest.seconds:.1f} s\n  {audit}"
        )
    click.echo(f"All files are in {result.folder}/. Go on there with your own commands:")
    click.echo(f"  cd {result.folder} && qbench inspect && qbench calibrate --data imgs/")
