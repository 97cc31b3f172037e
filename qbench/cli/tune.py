"""`qbench tune`: an accuracy budget in, the model with the fewest float nodes out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qbench.cli.options.loading import load_model
from qbench.cli.options.shared import (
    FileType,
    ModelArguments,
    ShareType,
    data_options,
    effort_option,
    exclude_option,
    json_option,
    judging_options,
    model_argument,
    packed,
    table_option,
    target_option,
)
from qbench.errors import UsageError

if TYPE_CHECKING:
    from qbench.tuning.metrics import TuneData
    from qbench.tuning.options import TuneOptions
    from qbench.tuning.result import TuneResult

_MOST_NODES = 12


class _BudgetType(ShareType):
    """Points of a metric that may be lost, such as `0.5%`; not all of them."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the share of 1."""
        share = super().convert(value, param, ctx)
        if share == 1:
            self.fail(f"{value!r} allows any loss; write what may be lost, as in 0.5%", param, ctx)
        return share


@dataclass(frozen=True, kw_only=True)
class _Arguments(ModelArguments):
    target: str
    budget: float
    metric: str
    labels: Path | None
    decoder: str
    table: Path | None
    exclude: tuple[str, ...]
    effort: str | None
    min_int8: float
    max_trials: int
    restart: bool
    output: Path | None
    as_json: bool

    def judged_on(self) -> TuneData:
        """Return the metric and its samples.

        Raises:
            UsageError: There are no samples.
        """
        from qbench.tuning.metrics import TuneData

        choice = self.choice()
        if choice is None:
            raise UsageError(f"{self.metric} is taken on images; add --data FOLDER")
        return TuneData(choice, self.metric, self.labels, self.decoder)


@click.command()
@model_argument
@target_option
@click.option(
    "--budget",
    type=_BudgetType(),
    metavar="PERCENT",
    required=True,
    help="Points of the metric that may be lost: 1%.",
)
@click.option(
    "--metric",
    type=click.Choice(["top1", "map", "miou", "cosine"]),
    default="top1",
    show_default=True,
    help="What accuracy means; see above.",
)
@data_options
@judging_options
@table_option
@exclude_option
@effort_option
@click.option(
    "--min-int8",
    type=ShareType(),
    metavar="PERCENT",
    default="50%",
    show_default=True,
    help="Share of nodes and work that stays INT8.",
)
@click.option(
    "--max-trials", type=click.IntRange(min=1), default=60, show_default=True, help="Stop then."
)
@click.option("--restart", is_flag=True, help="Run again what an earlier run has kept.")
@click.option("-o", "--output", type=FileType, help="<model>.<target>.tuned.onnx if left out.")
@json_option
@packed(_Arguments)
def tune(arguments: _Arguments) -> None:
    """Find the fewest float nodes with which MODEL meets a budget.

    Starts from what `quantize` finds. Frees the nodes that disturb the output most until the metric
    on --data is within --budget of FP32's, then gives back to INT8 whatever can go. Exit code 3
    where that cannot be done; the nearest model is written all the same.

    Points are absolute: with 1% a top-1 of 85.5 % may fall to 84.5 %. top1: --labels is a CSV
    file,label, or left out for a folder per class. map: COCO mAP; --labels is a COCO .json or a
    folder of YOLO .txt files, or left out where data/labels/val lies beside data/images/val.
    miou: --labels is a folder of .png masks, gray or palette. cosine: between the outputs and those
    of FP32, of a detector its scores; no labels.

    The calibration table must be there: run `qbench calibrate` before. Every trial is kept in
    .qbench/tune; an interrupted run goes on where it was, on another machine with new timings.
    """
    from qbench.artifacts import check_unread
    from qbench.cli.output.render import print_json
    from qbench.tuning.tune import tune as run

    path, data = arguments.path(), arguments.judged_on()
    output = arguments.output or path.with_suffix(f".{arguments.target}.tuned.onnx")
    check_unread([output], [*arguments.read, arguments.labels, arguments.table])
    model = load_model(path)
    with _options(arguments) as options:
        try:
            result = run(
                model, arguments.target, data, options, table=arguments.table, output=output
            )
        except KeyboardInterrupt:
            again = "the same command" + " without --restart" * arguments.restart
            click.echo(f"what was tried is kept; {again} goes on with it", err=True)
            raise
    if arguments.as_json:
        print_json(_document(result))
    else:
        _print_text(result)
    result.check_budget()


@contextmanager
def _options(arguments: _Arguments) -> Iterator[TuneOptions]:
    """Yield how to tune, with a bar that counts the trials."""
    from qbench.cli.output.render import progress
    from qbench.quantization.int8 import Int8Options
    from qbench.tuning.options import TuneOptions

    with progress("tuning", "trial") as report:
        yield TuneOptions(
            budget=arguments.budget,
            most_trials=arguments.max_trials,
            least_int8=arguments.min_int8,
            int8=Int8Options(exclude=arguments.exclude, effort=arguments.effort or "balanced"),
            restart=arguments.restart,
            on_trial=lambda _, done: report(done, arguments.max_trials),
        )


def _document(result: TuneResult) -> dict[str, object]:
    from qbench.artifacts import SCHEMA_VERSION

    return {
        "schema_version": SCHEMA_VERSION,
        "output": str(result.path),
        "journal": str(result.journal),
        "target": result.target,
        "budget": result.options.budget,
        "met": result.is_met,
        "within_noise": result.is_within_noise,
        "minimal": result.is_minimal,
        "baseline": result.baseline,
        "best": result.best,
        "float_nodes": result.graph.plan.floats,
        "trials": result.trials,
    }


def _print_text(result: TuneResult) -> None:
    from qbench.cli.output.render import print_field, print_first, print_table
    from qbench.cli.output.tune_table import notes, trial_table, verdict

    print_table(trial_table(result))
    print_first(_MOST_NODES, [("float", node) for node in result.best.float_nodes])
    for note in notes(result):
        print_field("note", note)
    print_field("best", verdict(result))
    print_field("wrote", str(result.path))
