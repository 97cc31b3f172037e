"""`qbench runs`: the benchmarks that are kept, what each of them says, and how to take them out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from qbench.cli.options.groups import InOrder
from qbench.cli.options.shared import FileType, json_option
from qbench.errors import UsageError

if TYPE_CHECKING:
    from qbench.runs.run import Run

_FORMATS = ("json", "csv", "md", "mlflow")


@click.group(cls=InOrder)
def runs() -> None:
    """List, show and export the benchmarks kept in .qbench."""


@runs.command("list")
@click.option("--model", help="Only runs of this file name, as in m.onnx or a/m.onnx.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the N latest.")
@json_option
def list_runs(model: str | None, limit: int | None, as_json: bool) -> None:
    """List runs, the latest first."""
    from qbench.artifacts import SCHEMA_VERSION
    from qbench.cli.output.render import print_json, print_table
    from qbench.cli.output.run_table import run_table
    from qbench.runs.reader import Reader

    store = Reader()
    found = store.summaries(model)[:limit]
    if as_json:
        print_json({"schema_version": SCHEMA_VERSION, "runs": found})
    elif found:
        print_table(run_table(found))
    else:
        what = f"no run of {model}" if model else "no run"
        click.echo(f"{what} is kept in {store.path}; `qbench bench` keeps one")


@runs.command()
@click.argument("name", metavar="RUN")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show the table of RUN.

    RUN is an id, its first letters, or latest.
    """
    from qbench.cli.output.render import print_field, print_json
    from qbench.cli.output.result_table import print_result
    from qbench.runs.reader import Reader

    run = Reader().load(name)
    if as_json:
        print_json(run.document())
        return
    print_field("run", run.id if run.finished else f"{run.id}, which was not finished")
    print_field("command", " ".join(run.request.command) if run.request else "unknown")
    print_field("began", f"{run.result.environment.time_utc} on {run.result.environment.cpu}")
    print_result(run.result)


@runs.command()
@click.argument("name", metavar="RUN")
@click.option(
    "--format",
    "kind",
    type=click.Choice(_FORMATS),
    default="json",
    show_default=True,
    help="What to write.",
)
@click.option("-o", "--output", type=FileType, help="File to write; stdout if left out.")
def export(name: str, kind: str, output: Path | None) -> None:
    """Write RUN as JSON, CSV or Markdown, or to MLflow.

    RUN is an id, its first letters, or latest. CSV has one flat line for each row. MLflow gets a
    run with a nested one for each row, where MLFLOW_TRACKING_URI says.
    """
    from qbench.artifacts import write_bytes
    from qbench.runs.reader import Reader

    run = Reader().load(name)
    if kind == "mlflow":
        if output is not None:
            raise UsageError(f"mlflow writes no file {output}; set MLFLOW_TRACKING_URI and drop -o")
        from qbench.runs.mlflow_export import export_run

        click.echo(f"MLflow run {export_run(run)}")
        return
    text = _text(run, kind)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_bytes(output, text.encode())


def _text(run: Run, kind: str) -> str:
    from qbench.artifacts import json_bytes
    from qbench.cli.output.run_table import markdown
    from qbench.runs.flat import csv_text

    if kind == "json":
        return json_bytes(run.document()).decode() + "\n"
    return csv_text(run) if kind == "csv" else markdown(run.result)
