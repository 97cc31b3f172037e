"""Read what a report is made from."""

from pathlib import Path

import msgspec

from qbench.benchmarking.result import RunResult
from qbench.errors import DataError
from qbench.evaluation.compare_layers import LayerComparison
from qbench.report.contents import Contents, Layer
from qbench.runs.compare import find_run
from qbench.runs.run import UNKEPT, Run
from qbench.runs.store import Store

Source = Run | RunResult | Path | str
"""A run, what `qbench.benchmark` returned, the file of `qbench bench --json`, or a run's id."""

Layers = LayerComparison | Path | str | None
"""What `qbench.compare_layers` returned, or the file of `qbench debug --json`."""


class _Layers(msgspec.Struct, frozen=True):
    """The part of the document of `qbench debug` that a report shows."""

    layers: tuple[Layer, ...]


def read_contents(run: Source, debug: Layers = None) -> Contents:
    """Return what a report shows; arguments and errors are those of `write.write_report`."""
    if isinstance(run, RunResult):
        run = Run(UNKEPT, run)
    found = run if isinstance(run, Run) else find_run(str(run), Store())
    return Contents(found, layers_of(debug))


def layers_of(debug: Layers) -> tuple[Layer, ...]:
    """Return the layers of a comparison, none without one.

    Raises:
        DataError: The file cannot be read, or holds something else.
    """
    if debug is None:
        return ()
    if isinstance(debug, LayerComparison):
        return tuple(
            Layer(score.name, score.depth, score.sqnr_db, score.cosine) for score in debug.layers
        )
    return _load_layers(Path(debug))


def _load_layers(path: Path) -> tuple[Layer, ...]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Layers).layers
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(
            f"cannot read {path} ({reason}); write it with `qbench debug --json`"
        ) from error
    except msgspec.MsgspecError as error:
        raise DataError(
            f"{path} is no document of `qbench debug --json` ({error}); write it again"
        ) from error
