"""The ledger of a run: every row in the store as it is finished, and what a stopped run has."""

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qbench.benchmarking import environment
from qbench.benchmarking.ledger import Cell
from qbench.benchmarking.result import Row, RunResult
from qbench.benchmarking.settings import Settings
from qbench.errors import StorageError
from qbench.runs.claim import Claim
from qbench.runs.request import Request
from qbench.runs.run import Run
from qbench.runs.store import Entry, Store

logger = logging.getLogger(__name__)

UNKEPT = "unkept"
"""The id of a run that is in memory only."""


class RunLedger:
    """Keeps the rows of a run in the store and in memory.

    Where the store fails, a warning says so, the measurement goes on, and the run is in memory
    only. Use it as a context: others may resume the run once it is left.

    Attributes:
        id: The run's; None where it is not kept.
        kept: What an earlier part of the run has measured.
    """

    def __init__(self, request: Request, store: Store | None = None) -> None:
        self._request = request
        self._store = store
        self._claim: Claim | None = None
        self._entries: list[Entry] = []
        self.id: str | None = None
        self.kept: tuple[Entry, ...] = ()

    def __enter__(self) -> "RunLedger":
        return self

    def __exit__(self, *_: object) -> None:
        if self._claim is not None:
            self._claim.release()

    def open(self, settings: Settings, *, restart: bool = False) -> None:
        """Go on with the unfinished run of the same request on this machine, or begin one.

        Args:
            settings: What is measured with.
            restart: Begin a run whatever there is.
        """
        if self._store is None:
            return
        try:
            self._open(self._store, settings, restart=restart)
        except StorageError as error:
            self._give_up(error)

    def find(self, cell: Cell) -> Row | None:
        """Return the row of `cell` that an earlier part of the run has; None where it failed."""
        for entry in self.kept:
            if entry.cell == cell and entry.row.error is None:
                return entry.row
        return None

    def save(self, cell: Cell, row: Row, samples: NDArray[np.float64] | None) -> None:
        """Keep a finished row and the seconds of its calls, [calls]."""
        self._entries.append(Entry(cell, row, samples))
        if self._store is None or self.id is None:
            return
        try:
            self._store.add(self.id, cell, row, samples)
        except StorageError as error:
            self._give_up(error)

    def finish(self, result: RunResult) -> Run:
        """Close the run and return it, with the samples of all its rows."""
        again = {entry.cell for entry in self._entries}
        earlier = [entry for entry in self.kept if entry.cell not in again]
        entries = _in_order(result.rows, [*earlier, *self._entries])
        cells = [entry.cell for entry in entries]
        if self._store is not None and self.id is not None:
            try:
                self._store.finish(self.id, result, cells)
            except StorageError as error:
                self._give_up(error)
        return Run(
            id=self.id or UNKEPT,
            result=result,
            samples={i: e.samples for i, e in enumerate(entries) if e.samples is not None},
            cells={i: cell for i, cell in enumerate(cells) if cell is not None},
            request=self._request,
        )

    def _open(self, store: Store, settings: Settings, *, restart: bool) -> None:
        here = environment.capture()
        key = self._request.key(settings, here)
        found = None if restart else store.resume(key)
        self.id, self._claim = found or store.begin(self._request, settings, here)
        self.kept = tuple(store.entries(self.id))

    def _give_up(self, error: StorageError) -> None:
        logger.warning("this run is not kept: %s", error)
        self.id = None


def _in_order(rows: Sequence[Row], entries: list[Entry]) -> list[Entry]:
    """Return an entry for each row, in the rows' final form; what has none has no cell."""
    places = [_place(entry.row) for entry in entries]
    found = []
    for row in rows:
        cell, samples = None, None
        if _place(row) in places:
            index = places.index(_place(row))
            cell, samples = entries[index].cell, entries[index].samples
            del places[index], entries[index]
        found.append(Entry(cell, row, samples))
    return found


def _place(row: Row) -> tuple[object, ...]:
    shape = (row.batch, row.threads, row.streams, row.mode)
    return (row.model, row.precision, row.provider, *shape)
