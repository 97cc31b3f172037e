"""The run that a new one is held against: measured again beside it, or as it was kept."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qbench.benchmarking.given_engines import is_engine
from qbench.benchmarking.variants import has_its_precision
from qbench.calibration.table import find_table
from qbench.errors import ModelError
from qbench.model.load import load
from qbench.quantization.options import NEED_TABLE
from qbench.quantization.quantize import TABLES
from qbench.runs.compare import compare, part_of
from qbench.runs.comparing.changes import Comparison
from qbench.runs.request import ModelFile, model_file
from qbench.runs.run import Run


@dataclass(frozen=True)
class Baseline:
    """How a run is held against an older one.

    Attributes:
        run: The older one.
        models: Its models that are measured again, before the new ones; empty where its figures are
            taken as they were kept.
        reason: Why so, one line.
    """

    run: Run
    models: tuple[ModelFile, ...]
    reason: str

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
        return Baseline(run, (), f"the figures of {run.id} as they were kept: {obstacle}")
    old = tuple(dict.fromkeys(run.request.models))
    return Baseline(run, old, f"the models of {run.id}, measured again beside the new ones")


def _obstacle(run: Run, models: Sequence[ModelFile], precisions: Collection[str]) -> str | None:
    """Return why the older models cannot be measured again; None where they can."""
    if run.request is None:
        return "a document names no model files"
    new = {model.sha256 for model in models}
    for old in run.request.models:
        if old.sha256 in new:
            return f"{old.name} is the same file now"
        if not _is_there(old):
            return f"{old.path} is gone or has changed"
        if NEED_TABLE.intersection(precisions) and not _has_table(old):
            return f"no calibration table of {old.name} is in {TABLES}"
    return None


def _is_there(model: ModelFile) -> bool:
    try:
        return model_file(Path(model.path)).sha256 == model.sha256 != ""
    except ModelError:
        return False


def _has_table(model: ModelFile) -> bool:
    """Return whether a model can be quantized, or needs not."""
    path = Path(model.path)
    if is_engine(path) or find_table(TABLES, model.sha256) is not None:
        return True
    return has_its_precision(load(path))
