"""Runs as they are kept below the current folder: rows in SQLite, raw samples beside it.

A row is on disk before the next one is measured, and its samples before the row that names them, so
that a run that dies can go on where it stopped.
"""

import secrets
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from qbench.benchmarking.environment import Environment
from qbench.benchmarking.ledger import Cell
from qbench.benchmarking.result import Row, RunResult
from qbench.benchmarking.settings import Settings
from qbench.errors import StorageError
from qbench.runs.claim import Claim
from qbench.runs.database import connected, is_usable, prepare, transaction
from qbench.runs.names import new_id, resolved
from qbench.runs.request import Request
from qbench.runs.run import Run
from qbench.runs.samples import read_samples, write_samples

FOLDER = Path(".qbench")
"""Folder of the store, below the current one."""

_encode = msgspec.json.Encoder().encode


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A run in a list.

    Attributes:
        began: In UTC, ISO 8601.
        finished: False where it was stopped half-way, or still runs.
        trusted: None as long as it is not finished.
        models: Names of the files, each once.
        rows: How many are kept.
    """

    id: str
    began: str
    finished: bool
    trusted: bool | None
    models: tuple[str, ...]
    rows: int


@dataclass(frozen=True)
class Entry:
    """A row as it is kept: what it measures, where that is known, and its samples."""

    cell: Cell | None
    row: Row
    samples: NDArray[np.float64] | None = None


class Store:
    """The runs in a folder. Every call opens the file anew, so that many processes can share it."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._samples = folder / "samples"
        self.path = folder / "runs.sqlite"
        self._is_checked = False

    def begin(
        self, request: Request, settings: Settings, environment: Environment
    ) -> tuple[str, Claim]:
        """Begin a run; return its id, and the claim that tells others that it is being worked on.

        Raises:
            StorageError: Nothing can be kept here.
        """
        self._prepare()
        key, began = request.key(settings, environment), datetime.now(UTC)
        names = list(dict.fromkeys(model.name for model in request.models))
        result = RunResult(environment=environment, settings=settings, rows=())
        values = (key, began.isoformat(timespec="seconds"), *map(_text, (names, request, result)))
        with transaction(self.path) as database:
            name = new_id(known for (known,) in database.execute("SELECT id FROM runs"))
            claim = Claim(self._claim_path(name))
            database.execute(
                "INSERT INTO runs (id, key, began, models, request, result) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (name, *values),
            )
        return name, claim

    def resume(self, key: str) -> tuple[str, Claim] | None:
        """Return the latest unfinished run of this key that nobody works on, and its claim.

        Raises:
            StorageError: The store cannot be read.
        """
        unfinished = "SELECT id FROM runs WHERE key = ? AND finished IS NULL ORDER BY number DESC"
        for (name,) in self._query(unfinished, key):
            try:
                claim = Claim(self._claim_path(name))
            except StorageError:
                continue  # another process works on it
            if (name,) in self._query(unfinished, key):
                return name, claim
            claim.release()  # it was finished in the meantime
        return None

    def add(self, run: str, cell: Cell, row: Row, samples: NDArray[np.float64] | None) -> None:
        """Keep a row of an unfinished run, after the rows that it has.

        Raises:
            StorageError: It cannot be kept.
        """
        file = None if samples is None else self._write(run, samples)
        with transaction(self.path) as database:
            (position,) = database.execute(
                "SELECT ifnull(max(position) + 1, 0) FROM rows WHERE run = ?", (run,)
            ).fetchone()
            _insert(database, run, position, cell, row, file)

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
                _insert(database, run, position, cell, row, file)
            database.execute(
                "UPDATE runs SET finished = ?, trusted = ?, result = ? WHERE id = ?",
                (_now(), result.trusted, _text(head), run),
            )

    def summaries(self, model: str | None = None) -> list[Summary]:
        """Return all runs, the latest first; only those of a model where its file name is given.

        Raises:
            StorageError: The store cannot be read.
        """
        found = self._query(
            "SELECT id, began, finished, trusted, models, "
            "(SELECT count(*) FROM rows WHERE run = id) FROM runs WHERE ?1 IS NULL OR "
            "EXISTS (SELECT 1 FROM json_each(models) WHERE value = ?1) ORDER BY number DESC",
            model,
        )
        return [
            Summary(
                id=name,
                began=began,
                finished=finished is not None,
                trusted=None if trusted is None else bool(trusted),
                models=msgspec.json.decode(models, type=tuple[str, ...]),
                rows=rows,
            )
            for name, began, finished, trusted, models, rows in found
        ]

    def resolve(self, name: str) -> str:
        """Return the id of a run, given whole, by its first letters, or as `latest`.

        Raises:
            UsageError: No run, or more than one, is called so.
            StorageError: The store cannot be read.
        """
        ids = [found for (found,) in self._query("SELECT id FROM runs ORDER BY number DESC")]
        return resolved(name, ids, self.path)

    def load(self, name: str) -> Run:
        """Return a run by its id, the first letters of it, or `latest`.

        Raises:
            UsageError: No run, or more than one, is called so.
            StorageError: The store cannot be read.
        """
        run = self.resolve(name)
        ((request, result, finished),) = self._query(
            "SELECT request, result, finished FROM runs WHERE id = ?", run
        )
        entries = self.entries(run)
        head = msgspec.json.decode(result, type=RunResult)
        return Run(
            id=run,
            result=msgspec.structs.replace(head, rows=tuple(entry.row for entry in entries)),
            samples={i: e.samples for i, e in enumerate(entries) if e.samples is not None},
            cells={i: e.cell for i, e in enumerate(entries) if e.cell is not None},
            request=msgspec.json.decode(request, type=Request),
            finished=finished is not None,
        )

    def entries(self, run: str) -> list[Entry]:
        """Return the rows of a run, by its whole id, in their order.

        Raises:
            StorageError: The store cannot be read.
        """
        found = self._query(
            "SELECT cell, row, samples FROM rows WHERE run = ? ORDER BY position", run
        )
        return [
            Entry(
                None if cell is None else msgspec.json.decode(cell, type=Cell),
                msgspec.json.decode(row, type=Row),
                None if file is None else read_samples(self._samples / file),
            )
            for cell, row, file in found
        ]

    def _prepare(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StorageError(
                f"cannot make {self.path.parent}: {reason}; run where files can be written"
            ) from error
        prepare(self.path)

    def _query(self, query: str, *values: str | None) -> list[tuple[Any, ...]]:
        if not self._is_checked and not is_usable(self.path):
            return []
        self._is_checked = True
        with connected(self.path) as database:
            return database.execute(query, values).fetchall()

    def _claim_path(self, run: str) -> Path:
        return self._samples / run / "claim"

    def _write(self, run: str, samples: NDArray[np.float64]) -> str:
        """Write samples under a name of their own; return it, below the samples' folder."""
        file = f"{run}/{secrets.token_hex(4)}.npy"
        write_samples(self._samples / file, samples)
        return file


def _insert(
    database: sqlite3.Connection,
    run: str,
    position: int,
    cell: Cell | None,
    row: Row,
    file: str | None,
) -> None:
    database.execute(
        "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (run, position, row.model, row.precision, row.provider, _text(cell), _text(row), file),
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


def _text(value: object) -> str | None:
    return None if value is None else _encode(value).decode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
