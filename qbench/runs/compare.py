"""Two runs beside each other: what changed in accuracy and in speed, row by row."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import msgspec

from qbench.artifacts import SCHEMA_VERSION
from qbench.benchmarking.presentation.naming import row_name
from qbench.benchmarking.result import RunResult
from qbench.errors import DataError
from qbench.runs.comparing.accuracy import accuracy_change
from qbench.runs.comparing.changes import Comparison, RowChange
from qbench.runs.comparing.pairs import Pair, Sides
from qbench.runs.comparing.speed import speed_change
from qbench.runs.machine import software_differences
from qbench.runs.reader import Reader
from qbench.runs.run import Run

ENDING = ".json"
"""By which the name of a document is told from that of a run."""


def find_run(name: str, store: Reader, *, finished: bool = False) -> Run:
    """Return a run of the store, or the one in a JSON document of `qbench bench`.

    Args:
        name: What names it.
        store: Where it is kept.
        finished: Whether `latest` is the latest of those that are finished.

    Raises:
        UsageError: No run, or more than one, is called so.
        DataError: The document cannot be read.
        StorageError: The store cannot be read.
    """
    return (
        read_document(Path(name))
        if name.lower().endswith(ENDING)
        else store.load(name, finished=finished)
    )


def read_document(path: Path) -> Run:
    """Return the run in a JSON document, which holds no samples.

    Raises:
        DataError: It cannot be read.
    """
    try:
        data = path.read_bytes()
        result = msgspec.json.decode(data, type=RunResult)
        is_finished = msgspec.json.decode(data, type=_Ending).finished
    except FileNotFoundError:
        raise DataError(f"no document at {path}; write one with `qbench bench --json`") from None
    except (OSError, msgspec.MsgspecError) as error:
        raise DataError(
            f"{path} is no document of `qbench bench --json` ({error}); write it again"
        ) from error
    if result.schema_version != SCHEMA_VERSION:
        raise DataError(
            f"{path} has schema_version {result.schema_version}, this qbench reads "
            f"{SCHEMA_VERSION}; update qbench"
        )
    return Run(path.name, result, finished=is_finished)


class _Ending(msgspec.Struct, frozen=True):
    finished: bool = True


def part_of(run: Run, hashes: Collection[str]) -> Run:
    """Return the rows of those models whose SHA-256 is in `hashes`."""
    rows = [i for i, row in enumerate(run.result.rows) if row.sha256 in hashes]
    return replace(
        run,
        result=msgspec.structs.replace(run.result, rows=tuple(run.result.rows[i] for i in rows)),
        samples={new: run.samples[i] for new, i in enumerate(rows) if i in run.samples},
        judged={new: run.judged[i] for new, i in enumerate(rows) if i in run.judged},
    )


def compare(before: Run, after: Run, *, together: bool = False) -> Comparison:
    """Compare what two runs say of the same rows.

    Args:
        before: The older run.
        after: The newer one.
        together: Whether both are parts of one run, whose candidates were timed interleaved.
    """
    sides = Sides(before, after, together)
    pairs = sides.pairs()
    return Comparison(
        before=before.id,
        after=after.id,
        together=together,
        trusted=sides.trusted,
        machine=sides.machine,
        software=software_differences(before.result.environment, after.result.environment),
        rows=tuple(_change(sides, pair) for pair in pairs),
        only_before=_others(before, {pair.before for pair in pairs}),
        only_after=_others(after, {pair.after for pair in pairs}),
    )


def _change(sides: Sides, pair: Pair) -> RowChange:
    before, after = sides.before.result.rows[pair.before], sides.after.result.rows[pair.after]
    notes = [f"{before.model} then, {after.model} now"] if before.model != after.model else []
    if after.error is not None:
        notes.append(f"does not run now: {after.error}")
    elif before.error is not None:
        notes.append(f"did not run then: {before.error}")
    return RowChange(
        model=after.model,
        label=row_name(after),
        accuracy=accuracy_change(sides, pair),
        speed=speed_change(sides, pair),
        broken=after.error is not None and before.error is None,
        unjudged=after.error is None and after.accuracy is None and before.accuracy is not None,
        notes=tuple(notes),
    )


def _others(run: Run, paired: Collection[int]) -> tuple[str, ...]:
    return tuple(row_name(row) for i, row in enumerate(run.result.rows) if i not in paired)
