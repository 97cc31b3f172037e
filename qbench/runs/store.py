"""Runs as they are kept below the current folder: rows in SQLite, raw samples beside it.

A row is on disk before the next one is measured, and its samples before the row that names them, so
that a run that dies can go on where it stopped.
"""

from __future__ import annotations

import secrets
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from qbench.benchmarking.environment import Environment
from qbench.benchmarking.judging.judged import Judged
from qbench.benchmarking.ledger import Cell
from qbench.benchmarking.result import Row, RunResult
from qbench.benchmarking.timing.settings import Settings
from qbench.errors import StorageError
from qbench.runs.claim import Claim
from qbench.runs.database import prepare, transaction
from qbench.runs.names import new_id
from qbench.runs.reader import Reader
from qbench.runs.request import Request
from qbench.runs.samples import write_judged, write_samples

_encode = msgspec.json.Encoder().encode


class Store(Reader):
    """The runs in a folder, to read and to write."""

    def begin(
        self, request: Request, settings: Settings, environment: Environment
    ) -> tuple[str, Claim]:
        """Begin a run; return its id, and the claim that tells others that it is being worked on.

        Raises:
            StorageError: Nothing can be kept here.
        """
        self._prepare()
        key = request.key(settings, environment)
        names = list(dict.fromkeys(model.name for model in request.models))
        result = RunResult(environment=environment, settings=settings, rows=())
        with ExitStack() as undo:
            with transaction(self.path) as database:
                same = "SELECT 1 FROM runs WHERE id = ?"
                run = new_id(lambda name: database.execute(same, (name,)).fetchone() is not None)
                undo.callback(shutil.rmtree, self._samples / run, ignore_errors=True)
                database.execute(
                    "INSERT INTO runs (id, key, began, models, request, result) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    (run, key, _now(), *map(_text, (names, request, result))),
                )
                claim = Claim(self._claim_path(run))
                undo.callback(claim.release)
            undo.pop_all()  # it is kept
        return run, claim

    def resume(self, key: str) -> tuple[str, Claim] | None:
        """Return the latest run of this key, and its claim.

        None where it is finished, or another process works on it: an older one that was stopped
        has been begun anew since.

        Raises:
            StorageError: The store cannot be read.
        """
        run = self._unfinished(key)
        if run is None:
            return None
        try:
            claim = Claim(self._claim_path(run))
        except StorageError:
            return None  # another process works on it
        if self._unfinished(key) == run:
            return run, claim
        claim.release()  # it was finished in the meantime
        return None

    def _unfinished(self, key: str) -> str | None:
        """Return the latest run of this key, unless it is finished."""
        latest = "SELECT id, finished FROM runs WHERE key = ? ORDER BY number DESC LIMIT 1"
        return next((run for run, finished in self._query(latest, key) if finished is None), None)

    def add(self, run: str, cell: Cell, row: Row, samples: NDArray[np.float64] | None) -> None:
        """Keep a row of an unfinished run, after those that it has, with its seconds, [calls].

        Raises:
            StorageError: It cannot be kept.
        """
        file = None
        if samples is not None:
            file = _new_file(run, "npy")
            write_samples(self._samples / file, samples)
        with transaction(self.path) as database:
            (position,) = database.execute(
                "SELECT ifnull(max(position) + 1, 0) FROM rows WHERE run = ?", (run,)
            ).fetchone()
            _insert(database, (run, position), cell, row, file)

    def add_judged(self, run: str, cell: Cell, judged: Judged) -> None:
        """Keep an accuracy of an unfinished run, which all rows of this `Cell.judged` share.

        Raises:
            StorageError: It cannot be kept.
        """
        file = _new_file(run, "msgpack")
        write_judged(self._samples / file, judged)
        with transaction(self.path) as database:
            database.execute(
                "INSERT OR REPLACE INTO judged VALUES (?, ?, ?)", (run, _text(cell), file)
            )

    def finish(self, run: str, result: RunResult, cells: Sequence[Cell | None]) -> None:
        """Close a run: its rows in their final order and form, each with its cell.

        Raises:
            StorageError: It cannot be kept.
        """
        head = msgspec.structs.replace(result, rows=())
        with transaction(self.path) as database:
            files = _files(database, run)
            database.execute("DELETE FROM rows WHERE run = ?", (run,))
            for position, (cell, row) in enumerate(zip(cells, result.rows, strict=True)):
                file = next(files[_text(cell)], None)
                _insert(database, (run, position), cell, row, file)
            database.execute(
                "UPDATE runs SET finished = ?, trusted = ?, result = ? WHERE id = ?",
                (_now(), result.trusted, _text(head), run),
            )

    def _prepare(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StorageError(
                f"cannot make {self.path.parent}: {reason}; run where files can be written"
            ) from error
        if not self._is_checked or not self.path.exists():
            prepare(self.path)
        self._is_checked = True

    def _claim_path(self, run: str) -> Path:
        return self._samples / run / "claim"


def _insert(
    database: sqlite3.Connection,
    place: tuple[str, int],
    cell: Cell | None,
    row: Row,
    file: str | None,
) -> None:
    """Write a row at a place, which is its run and its position there."""
    database.execute(
        "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*place, row.model, row.precision, row.provider, _text(cell), _text(row), file),
    )


def _files(database: sqlite3.Connection, run: str) -> dict[str | None, Iterator[str]]:
    """Return the files of samples by the text of their cell, in the order in which they came."""
    found: dict[str | None, list[str]] = defaultdict(list)
    for cell, file in database.execute(
        "SELECT cell, samples FROM rows WHERE run = ? AND samples IS NOT NULL ORDER BY position",
        (run,),
    ):
        found[cell].append(file)
    return defaultdict(lambda: iter(()), {cell: iter(files) for cell, files in found.items()})


def _new_file(run: str, ending: str) -> str:
    """Return a name that no other file has, below the samples' folder."""
    return f"{run}/{secrets.token_hex(6)}.{ending}"


def _text(value: object) -> str | None:
    return None if value is None else _encode(value).decode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
