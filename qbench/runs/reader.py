"""Read the runs that are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from qbench.benchmarking.judging.judged import Judged
from qbench.benchmarking.ledger import Cell
from qbench.benchmarking.presentation.naming import told_apart
from qbench.benchmarking.result import Row, RunResult
from qbench.errors import StorageError, UsageError
from qbench.runs.database import connected, is_usable
from qbench.runs.names import LATEST, resolved
from qbench.runs.request import Request
from qbench.runs.run import Entry, Run
from qbench.runs.samples import read_judged, read_samples

_Kept = TypeVar("_Kept")

FOLDER = Path(".qbench")
"""Folder of the store, below the current one."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A run in a list.

    Attributes:
        began: In UTC, ISO 8601.
        finished: False where it was stopped half-way, or still runs.
        trusted: None as long as it is not finished.
        models: Names of the files, each once; with folders where another run or model shares one.
        rows: How many are kept.
    """

    id: str
    began: str
    finished: bool
    trusted: bool | None
    models: tuple[str, ...]
    rows: int


class Reader:
    """The runs in a folder. Every call opens the file anew, so that many processes can share it."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._samples = folder / "samples"
        self._is_checked = False
        self.path = folder / "runs.sqlite"

    def summaries(self, model: str | None = None) -> list[Summary]:
        """Return all runs, the latest first; only those of a model where its file name is given.

        Folders in front of the name count, too.

        Raises:
            StorageError: The store cannot be read.
        """
        found = self._query(
            "SELECT id, began, finished, trusted, (SELECT count(*) FROM rows WHERE run = id), "
            "(SELECT json_group_array(json_extract(value, '$.path')) FROM json_each(request, "
            "'$.models')) FROM runs ORDER BY number DESC"
        )
        paths = [list(map(Path, msgspec.json.decode(run[-1]))) for run in found]
        names = told_apart(path for of_run in paths for path in of_run)
        return [
            Summary(
                id=name,
                began=began,
                finished=finished is not None,
                trusted=None if trusted is None else bool(trusted),
                models=tuple(dict.fromkeys(names[path] for path in of_run)),
                rows=rows,
            )
            for (name, began, finished, trusted, rows, _), of_run in zip(found, paths, strict=True)
            if model is None or any(_is_called(path, model) for path in of_run)
        ]

    def resolve(self, name: str, *, finished: bool = False) -> str:
        """Return the id of a run, given whole, by its first letters, or as `latest`.

        Args:
            name: What names it.
            finished: Whether `latest` is the latest of those that are finished.

        Raises:
            UsageError: No run, or more than one, is called so.
            StorageError: The store cannot be read.
        """
        found = self._query("SELECT id, finished FROM runs ORDER BY number DESC")
        if finished and name == LATEST and found:
            found = [one for one in found if one[1] is not None]
            if not found:
                raise UsageError(f"no run in {self.path} is finished; name one by its id")
        return resolved(name, [run for run, _ in found], self.path)

    def load(self, name: str, *, finished: bool = False) -> Run:
        """Return a run by its id, the first letters of it, or `latest`; see `resolve`.

        Raises:
            UsageError: No run, or more than one, is called so.
            StorageError: The store or the run cannot be read.
        """
        run = self.resolve(name, finished=finished)
        ((request, result, ended),) = self._query(
            "SELECT request, result, finished FROM runs WHERE id = ?", run
        )
        entries = self.entries(run)
        rows = tuple(entry.row for entry in entries)
        head = _decoded(run, result, RunResult)
        whole = msgspec.structs.replace(head, rows=rows)
        return Run(
            id=run,
            result=head.with_rows(rows) if ended is None else whole,
            samples={i: e.samples for i, e in enumerate(entries) if e.samples is not None},
            judged={i: e.judged for i, e in enumerate(entries) if e.judged is not None},
            request=_decoded(run, request, Request),
            finished=ended is not None,
        )

    def entries(self, run: str) -> list[Entry]:
        """Return the rows of a run, by its whole id, in their order.

        Raises:
            StorageError: The store cannot be read.
        """
        judged = self.judged(run)
        found = self._query(
            "SELECT cell, row, samples FROM rows WHERE run = ? ORDER BY position", run
        )
        entries = []
        for cell_text, row, file in found:
            cell = None if cell_text is None else _decoded(run, cell_text, Cell)
            samples = None if file is None else read_samples(self._samples / file)
            known = None if cell is None else judged.get(cell.judged)
            entries.append(Entry(cell, _decoded(run, row, Row), samples, known))
        return entries

    def judged(self, run: str) -> dict[Cell, Judged]:
        """Return the accuracies of a run, by its whole id.

        Raises:
            StorageError: The store cannot be read.
        """
        found = self._query("SELECT cell, outcomes FROM judged WHERE run = ?", run)
        known = {
            _decoded(run, cell, Cell): read_judged(self._samples / file) for cell, file in found
        }
        return {cell: judged for cell, judged in known.items() if judged is not None}

    def _query(self, query: str, *values: str | None) -> list[tuple[Any, ...]]:
        if not self._is_checked and not is_usable(self.path):
            return []
        self._is_checked = True
        with connected(self.path) as database:
            return database.execute(query, values).fetchall()


def _is_called(path: Path, name: str) -> bool:
    """Return whether a path ends in a file name, or in folders and a file name."""
    parts = Path(name).parts
    return path.parts[-len(parts) :] == parts


def _decoded(run: str, text: str, kind: type[_Kept]) -> _Kept:
    """Return a part of a run.

    Raises:
        StorageError: It is not as this qbench writes it.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as error:
        raise StorageError(
            f"run {run} cannot be read: {error}; measure it again with --restart"
        ) from error
