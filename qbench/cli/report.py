"""`qbench report`: a benchmark as one HTML file."""

from __future__ import annotations

from pathlib import Path

import click

from qbench.cli.options.shared import FileType, PathType, json_option


@click.command()
@click.argument("run", default="latest")
@click.option(
    "-o",
    "--output",
    type=FileType,
    default=Path("report.html"),
    help="The page.  [default: report.html]",
)
@click.option("--debug", type=PathType, help="JSON file of `qbench debug --json`: add its layers.")
@click.option("--svg", type=PathType, help="Folder to write the charts to as SVG, too.")
@click.option("--png", type=PathType, help="Folder to write the charts to as PNG, too.")
@json_option
def report(
    run: str, output: Path, debug: Path | None, svg: Path | None, png: Path | None, as_json: bool
) -> None:
    """Write a benchmark as one HTML page that needs no network.

    RUN is an id, its first letters, latest, or a .json of `qbench bench --json`, which holds no
    single timings; the latest run if left out. The page holds the table, accuracy against latency
    or throughput, intervals of all differences, how latencies spread (their percentiles beside the
    clock in mode paced), where the time goes, what stayed float and why, and what the figures can
    bear.
    """
    from qbench.artifacts import SCHEMA_VERSION, check_writable
    from qbench.cli.output.render import print_json, size_text
    from qbench.report.sources import read_contents
    from qbench.report.write import write_charts, write_page

    for place in (output, svg and svg / "charts.svg", png and png / "charts.png"):
        if place is not None:
            check_writable(place)
    contents = read_contents(run, debug)
    write_page(contents, output)
    images = write_charts(contents, svg=svg, png=png)
    if as_json:
        charts = [str(path) for path in images]
        document = {"schema_version": SCHEMA_VERSION, "output": str(output), "charts": charts}
        print_json(document)
        return
    click.echo(f"wrote {output} ({size_text(output.stat().st_size)})")
    for path in images:
        click.echo(f"wrote {path}")
