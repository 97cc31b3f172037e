"""The ledger of a run: every row in the store as it is finished, and what a stopped run has."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from qbench.benchmarking import environment
from qbench.benchmarking.judging.judged import Judged
from qbench.benchmarking.ledger import Cell
from qbench.benchmarking.result import Row, RunResult
from qbench.benchmarking.timing.settings import Settings
from qbench.errors import StorageError
from qbench.runs.claim import Claim
from qbench.runs.request import Request
from qbench.runs.run import UNKEPT, Entry, Run
from qbench.runs.store import Store

logger = logging.getLogger(__name__)


class RunLedger:
    """Keeps the rows of a run in the store and in memory.

    Where the store fails, a warning says so, the measurement goes on, and the run is in memory
    only. Use it as a context: others may resume the run once it is left.

    Attributes:
        id: The run's; None as long as nothing of it is kept.
        kept: What an earlier part of the run has measured.
        judged: What was judged, by an earlier part or this one.
    """

    def __init__(self, request: Request, settings: Settings, store: Store | None = None) -> None:
        self._request = request
        self._settings = settings
        self._store = store
        self._claim: Claim | None = None
        self._entries: list[Entry] = []
        self.judged: dict[Cell, Judged] = {}
        self.id: str | None = None
        self.kept: tuple[Entry, ...] = ()

    def __enter__(self) -> RunLedger:
        return self

    def __exit__(self, *_: object) -> None:
        if self._claim is not None:
            self._claim.release()

    def resume(self) -> None:
        """Go on with the unfinished run of the same request on this machine, if there is one."""
        if self._store is None:
            return
        key = self._request.key(self._settings, environment.capture())
        try:
            found = self._store.resume(key)
            if found is not None:
                self.id, self._claim = found
                self.kept = tuple(self._store.entries(self.id))
                self.judged = self._store.judged(self.id)
        except StorageError as error:
            self._give_up(error)

    def find(self, cell: Cell) -> Row | None:
        """Return the row of `cell` that an earlier part of the run has."""
        return next((entry.row for entry in self.kept if entry.cell == cell), None)

    def save(self, cell: Cell, row: Row, samples: NDArray[np.float64] | None) -> None:
        """Keep a finished row and the seconds of its calls, [calls].

        One that failed is kept only with the whole run, since a run that goes on tries it again.
        """
        self._entries.append(Entry(cell, row, samples))
        if row.error is None:
            self._keep(lambda store, run: store.add(run, cell, row, samples))

    def find_judged(self, cell: Cell) -> Judged | None:
        """Return the accuracy that an earlier part of the run has for `cell`."""
        return self.judged.get(cell)

    def save_judged(self, cell: Cell, judged: Judged) -> None:
        """Keep an accuracy, which all rows of this `Cell.judged` share."""
        self.judged[cell] = judged
        self._keep(lambda store, run: store.add_judged(run, cell, judged))

    def finish(self, result: RunResult) -> Run:
        """Close the run and return it, with the samples of all its rows."""
        entries = _in_order(result.rows, [*self.kept, *self._entries])
        cells = [entry.cell for entry in entries]
        self._keep(lambda store, run: store.finish(run, result, cells))
        judged = {i: self.judged.get(cell.judged) for i, cell in enumerate(cells) if cell}
        return Run(
            id=self.id or UNKEPT,
            result=result,
            samples={i: e.samples for i, e in enumerate(entries) if e.samples is not None},
            judged={i: known for i, known in judged.items() if known is not None},
            request=self._request,
        )

    def _keep(self, keep: Callable[[Store, str], None]) -> None:
        """Write to the store, as long as it works; a run is begun when there is something of it."""
        if self._store is None:
            return
        try:
            if self.id is None:
                here = environment.capture()
                self.id, self._claim = self._store.begin(self._request, self._settings, here)
            keep(self._store, self.id)
        except StorageError as error:
            self._give_up(error)

    def _give_up(self, error: StorageError) -> None:
        logger.warning("this run is not kept: %s", error)
        self.id = self._store = None


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
    load = (row.batch, row.threads, row.streams, row.mode, row.rate)
    return (row.model, row.sha256, row.precision, row.provider, *load)
