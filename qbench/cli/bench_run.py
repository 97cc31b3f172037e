"""`qbench bench` with what it keeps: a run that can be gone on with and held against another."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import click

from qbench.artifacts import check_name, sha256_files
from qbench.benchmarking.benchmark import benchmark
from qbench.benchmarking.judging.labelled_data import LabelledData
from qbench.benchmarking.options import Options
from qbench.benchmarking.presentation.naming import row_name
from qbench.benchmarking.result import RunResult
from qbench.benchmarking.variants import made_precisions
from qbench.calibration.table import find_table
from qbench.cli.options.bench import BenchArguments
from qbench.data.choice import USUAL_RECIPE, recipe_by_name
from qbench.data.recipes import Recipe, load_recipe
from qbench.data.sources import is_arrays
from qbench.errors import UsageError
from qbench.quantization.options import MAY_TAKE_TABLE
from qbench.quantization.tables import TABLES
from qbench.runs.baseline import Baseline, plan_baseline
from qbench.runs.compare import find_run
from qbench.runs.comparing.changes import Comparison
from qbench.runs.gate import Judgement, judge
from qbench.runs.ledger import RunLedger
from qbench.runs.request import ModelFile, Request, fingerprint, model_file
from qbench.runs.run import Run
from qbench.runs.store import Store

_BY_CONTENT = frozenset({"models", "data", "labels", "table", "recipe"})
_NO_FIGURE = frozenset(
    {"cache", "project", "effort", "baseline", "limits", "no_store", "restart", "as_json"}
)
"""Options that decide no figure, or, as the effort, by way of the settings."""


@dataclass(frozen=True)
class Finished:
    """What `qbench bench` has to tell.

    Attributes:
        run: What was measured.
        baseline: What it is held against, and how; None where nothing was asked.
        comparison: With the baseline.
        judgement: Of the limits that were given.
    """

    run: Run
    baseline: Baseline | None = None
    comparison: Comparison | None = None
    judgement: Judgement | None = None

    def check(self) -> None:
        """Make sure that the limits are kept.

        Raises:
            BudgetError: There is a regression.
            InconclusiveError: Whether there is one is not settled.
        """
        if self.judgement is not None:
            self.judgement.check()


def measure_run(arguments: BenchArguments, options: Options) -> Finished:
    """Measure, keep every row as it comes, and hold the run against its baseline.

    Raises:
        UsageError: The baseline is no run, or there is none to hold limits against.
        QbenchError: What `benchmark` raises.
    """
    if arguments.limits is not None and arguments.baseline is None:
        raise UsageError("--fail-on holds against an older run; add --baseline RUN")
    store = Store()
    paths = arguments.paths()
    baseline = _baseline(arguments, paths, store)
    if baseline is not None:
        paths = [*baseline.paths, *paths]
    run = _measured(arguments, options, paths, store)
    if baseline is None:
        return Finished(run)
    comparison = baseline.compare(run)
    limits = arguments.limits
    return Finished(
        run, baseline, comparison, None if limits is None else judge(comparison, limits)
    )


def print_json_of(finished: Finished) -> None:
    """Print the document of a run; its baseline, where there is one, is a part of it."""
    from qbench.cli.output.render import print_json

    document = finished.run.document()
    if finished.baseline is not None:
        document["baseline"] = {
            "reason": finished.baseline.reason,
            "comparison": finished.comparison,
            "judgement": finished.judgement,
        }
    print_json(document)


def print_text_of(finished: Finished) -> None:
    """Print the table of a run, the one of its baseline, and what the run is called."""
    from qbench.cli.output.compare_table import print_comparison
    from qbench.cli.output.render import print_field
    from qbench.cli.output.result_table import print_result

    print_result(finished.run.result)
    if finished.baseline is not None and finished.comparison is not None:
        click.echo()
        print_field("baseline", finished.baseline.reason)
        print_comparison(finished.comparison, finished.baseline.remedy)
    if finished.run.kept_id is not None:
        print_field("run", finished.run.id)


def _measured(
    arguments: BenchArguments, options: Options, paths: Sequence[Path], store: Store
) -> Run:
    models, images = [model_file(path) for path in paths], arguments.images()
    images = None if images is None else images.with_labels()
    request = _request(arguments, models, images)
    with RunLedger(request, options.settings, None if arguments.no_store else store) as ledger:
        if not arguments.restart:
            ledger.resume()
        _tell_kept(ledger)
        try:
            result = _benchmark(arguments, paths, images, replace(options, ledger=ledger))
        except KeyboardInterrupt:
            if ledger.id is not None:
                click.echo(f"run {ledger.id} is kept; the same command goes on with it", err=True)
            raise
        return ledger.finish(result)


def _benchmark(
    arguments: BenchArguments,
    paths: Sequence[Path],
    images: LabelledData | None,
    options: Options,
) -> RunResult:
    return benchmark(
        paths,
        precisions=_words(arguments.precisions),
        providers=_words(arguments.providers),
        table=arguments.table,
        images=images,
        options=options,
    )


def _baseline(arguments: BenchArguments, paths: Sequence[Path], store: Store) -> Baseline | None:
    if arguments.baseline is None:
        return None
    run = find_run(arguments.baseline, store, finished=True)
    models = [model_file(path) for path in paths]
    return plan_baseline(run, models, _made(arguments))


def _made(arguments: BenchArguments) -> set[str]:
    return made_precisions(_words(arguments.precisions), simulate=arguments.simulate)


def _request(
    arguments: BenchArguments, models: Sequence[ModelFile], images: LabelledData | None
) -> Request:
    """Return what is asked for.

    Raises:
        StorageError: A name among them is not in UTF-8, and cannot be kept.
    """
    given = {field.name: getattr(arguments, field.name) for field in fields(arguments)}
    for word in (*sys.argv[1:], *map(str, given.values())):
        check_name(word)
    options: dict[str, Any] = {
        name: str(value) for name, value in given.items() if name not in _BY_CONTENT | _NO_FIGURE
    }
    options["size"] = arguments.size or arguments.project.image_size
    options["recipes"] = _recipes(arguments, models)
    options["tables"] = _tables(arguments, models)
    labels = None if images is None or images.labels is None else Path(images.labels)
    fed = fingerprint(arguments.data, labels)
    return Request(
        command=tuple(sys.argv[1:]),
        models=tuple(models),
        options=options,
        images=fed and f"{fed}:{arguments.limit}",
    )


def _recipes(arguments: BenchArguments, models: Sequence[ModelFile]) -> list[Recipe]:
    """Return the recipes that images may be prepared by, where none of a table is used.

    Raises:
        RecipeError: One is missing, or cannot be used.
    """
    if arguments.data is None or is_arrays(arguments.data):
        return []
    given = arguments.recipe or arguments.project.recipe
    guessed = {recipe_by_name(Path(model.path)) or USUAL_RECIPE for model in models}
    return [load_recipe(name) for name in ([given] if given else sorted(guessed))]


def _tables(arguments: BenchArguments, models: Sequence[ModelFile]) -> dict[str, str]:
    """Return the hashes of the calibration tables that precisions are made with."""
    if not MAY_TAKE_TABLE.intersection(_made(arguments)):
        return {}
    found = {model.sha256: find_table(TABLES, model.sha256) for model in models}
    if arguments.table is not None and arguments.table.is_file():
        found["given"] = arguments.table
    return {name: sha256_files([path]) for name, path in found.items() if path is not None}


def _tell_kept(ledger: RunLedger) -> None:
    """Say on stderr what a stopped run has that is not measured again."""
    rows = [row_name(entry.row) for entry in ledger.kept]
    kept = [f"the rows {', '.join(rows)}"] if rows else []
    count = len(ledger.judged)
    kept += [f"{count} accurac{'y' if count == 1 else 'ies'}"] if count else []
    if kept:
        text = " and ".join(kept)
        click.echo(f"run {ledger.id} goes on; kept: {text} (--restart measures all)", err=True)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
