"""Accuracy within a benchmark: judged once for each variant on each provider."""

from collections.abc import Callable

from qbench.benchmarking.judging.judged import Judged
from qbench.benchmarking.ledger import Cell, Ledger
from qbench.benchmarking.result import Accuracy


class Accuracies:
    """Hands out accuracies with their difference to that of the first row.

    Each goes to the ledger as soon as it is known, so that a run which goes on after it was killed
    judges none again, and still has what the others are compared with.
    """

    def __init__(self, ledger: Ledger | None) -> None:
        self._ledger = ledger
        self._known: dict[Cell, Judged] = {}
        self._first: Judged | None = None

    def recall(self, cell: Cell) -> None:
        """Note what the ledger has of a job; the first is what the others are compared with.

        Call it in the jobs' order, also for those that have no row yet: they may be judged.
        """
        found = self._find(cell.judged)
        self._first = self._first or found

    def decoder(self, cell: Cell) -> str | None:
        """Return what read the boxes of a row's model in another precision; None if unknown."""
        alike = (judged for known, judged in self._known.items() if known.sha256 == cell.sha256)
        return next((judged.decoder for judged in alike), None)

    def of(self, cell: Cell, judge: Callable[[], Judged | None]) -> Accuracy | None:
        """Return the accuracy of a row, by `judge` where it is not known; None without images."""
        found = self._find(cell.judged) or self._judged(cell.judged, judge)
        if found is None:
            return None
        self._first = self._first or found
        if found is self._first:
            return found.accuracy
        return found.compared(self._first)

    def _find(self, cell: Cell) -> Judged | None:
        if cell not in self._known and self._ledger is not None:
            kept = self._ledger.find_judged(cell)
            if kept is not None:
                self._known[cell] = kept
        return self._known.get(cell)

    def _judged(self, cell: Cell, judge: Callable[[], Judged | None]) -> Judged | None:
        judged = judge()
        if judged is not None:
            self._known[cell] = judged
            if self._ledger is not None:
                self._ledger.save_judged(cell, judged)
        return judged
