"""What a benchmark tells as it goes, so that a run that is killed can go on where it stopped."""

from __future__ import annotations

from typing import Protocol

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from qbench.benchmarking.judging.judged import Judged
from qbench.benchmarking.result import Mode, Row


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """What a row measures: its place in the matrix of a benchmark.

    Attributes:
        sha256: Of the original model's file, or of the engine's.
        simulated: Judged with exact arithmetic, not timed.
        batch: Asked for; 1 where the model's own was.
        rate: Calls started per second in mode `paced`.
    """

    model: str
    sha256: str
    precision: str
    provider: str
    simulated: bool = False
    batch: int = 1
    threads: int = 0
    streams: int = 1
    mode: Mode = "latency"
    rate: float | None = None

    @property
    def judged(self) -> Cell:
        """Where its accuracy is kept, which batch, threads, streams and mode do not change."""
        return replace(self, batch=1, threads=0, streams=1, mode="latency", rate=None)


class Ledger(Protocol):
    """Keeps what is finished: rows, and before them the accuracies that go into rows.

    The two are kept apart, so that an accuracy without a latency is never taken for a row.
    """

    def find(self, cell: Cell) -> Row | None:
        """Return the row of `cell` that was saved; None where there is none.

        A row with an error is tried again, whatever is returned.
        """

    def save(self, cell: Cell, row: Row, samples: NDArray[np.float64] | None) -> None:
        """Keep a finished row, and the seconds of its calls, [calls]; None if it was not timed."""

    def find_judged(self, cell: Cell) -> Judged | None:
        """Return the accuracy that was saved for `cell`, which is a `Cell.judged`."""

    def save_judged(self, cell: Cell, judged: Judged) -> None:
        """Keep an accuracy, which all rows of this `Cell.judged` share, as soon as it is known."""
