"""The run that a new one is held against: measured again beside it, or as it was kept."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from qbench.artifacts import sha256_files
from qbench.benchmarking.given_engines import is_engine
from qbench.benchmarking.variants import has_its_precision
from qbench.calibration.table import find_table
from qbench.errors import ModelError
from qbench.model.load import load
from qbench.quantization.options import MAY_TAKE_TABLE, NEED_TABLE
from qbench.quantization.tables import TABLES
from qbench.runs.compare import compare, part_of
from qbench.runs.comparing.changes import Comparison
from qbench.runs.request import ModelFile, Request, model_file
from qbench.runs.run import Run


@dataclass(frozen=True)
class Baseline:
    """How a run is held against an older one.

    Attributes:
        run: The older one.
        models: Its models that are measured again, before the new ones; empty where its figures are
            taken as they were kept.
        reason: Why so, one line.
        remedy: What to do so that they are measured again; empty where nothing can be done.
    """

    run: Run
    models: tuple[ModelFile, ...]
    reason: str
    remedy: str = ""

    @property
    def paths(self) -> list[Path]:
        """The files to measure before the new ones."""
        return [Path(model.path) for model in self.models]

    def compare(self, run: Run) -> Comparison:
        """Compare the new models of `run` with the baseline's."""
        if not self.models:
            return compare(self.run, run)
        old = {model.sha256 for model in self.models}
        new = {row.sha256 for row in run.result.rows if row.sha256} - old
        before = replace(part_of(run, old), id=self.run.id)
        return compare(before, part_of(run, new), together=True)


def plan_baseline(run: Run, models: Sequence[ModelFile], precisions: Collection[str]) -> Baseline:
    """Decide whether the models of an older run can be measured again, interleaved with new ones.

    That is the honest comparison, and needs the older models as they were. Where a new model is one
    of them, something else than the model has changed, which only the kept figures can tell.

    Args:
        run: The older run.
        models: The new models.
        precisions: What is made of the models; `int8` and `fp8` need a calibration table of each.
    """
    obstacle = _obstacle(run, models, precisions)
    if obstacle is not None or run.request is None:
        why, remedy = obstacle or _NO_FILES
        return Baseline(run, (), f"the figures of {run.id} as they were kept: {why}", remedy)
    old = tuple(dict.fromkeys(run.request.models))
    return Baseline(run, old, f"the models of {run.id}, measured again beside the new ones")


class _Obstacle(NamedTuple):
    """Why a model cannot be measured again, and what can be done about it."""

    why: str
    remedy: str


_NO_FILES = _Obstacle("a document names no model files", "name a run of `qbench runs list`")


def _obstacle(
    run: Run, models: Sequence[ModelFile], precisions: Collection[str]
) -> _Obstacle | None:
    """Return why the older models cannot be measured again; None where they can."""
    if run.request is None:
        return _NO_FILES
    new = {model.sha256 for model in models}
    for old in run.request.models:
        if old.sha256 in new:
            return _Obstacle(f"{old.name} is the same file now", "")
        if not Path(old.path).is_file():
            return _Obstacle(f"{old.path} is gone", "put it back")
        if not _is_unchanged(old):
            return _Obstacle(
                f"{old.path} has changed", "keep older and newer model under names of their own"
            )
        obstacle = _table_obstacle(old, run.request, precisions)
        if obstacle is not None:
            return obstacle
    return None


def _is_unchanged(model: ModelFile) -> bool:
    try:
        return model_file(Path(model.path)).sha256 == model.sha256 != ""
    except ModelError:
        return False


def _table_obstacle(
    model: ModelFile, request: Request, precisions: Collection[str]
) -> _Obstacle | None:
    """Return what is wrong with the calibration table of a model; None where it needs none."""
    path = Path(model.path)
    if not MAY_TAKE_TABLE.intersection(precisions):
        return None
    if is_engine(path) or has_its_precision(load(path)):
        return None
    table = find_table(TABLES, model.sha256)
    if table is None and not NEED_TABLE.intersection(precisions) and not _used(request):
        return None
    if table is None:
        return _Obstacle(f"no calibration table of {model.name} is in {TABLES}", "put it there")
    if not _was_used(table, request):
        return _Obstacle(
            f"{table} is not the table that was used of {model.name}", "put that one there"
        )
    return None


def _used(request: Request) -> dict[str, str]:
    """Return the hashes of the tables that a run used."""
    used: dict[str, str] = request.options.get("tables", {})
    return used


def _was_used(table: Path, request: Request) -> bool:
    """Return whether a run used a table; also where it needed none at all."""
    used = _used(request)
    if len(request.models) == 1 and "given" in used:
        used = {"given": used["given"]}
    return not used or sha256_files([table]) in used.values()
