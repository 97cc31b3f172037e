"""What a benchmark tells as it goes, so that a run that is killed can go on where it stopped."""

from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from qbench.benchmarking.result import Mode, Row


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """What a row measures: its place in the matrix of a benchmark.

    Attributes:
        sha256: Of the model's file, or of the engine's.
        simulated: Judged with exact arithmetic, not timed.
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


class Ledger(Protocol):
    """Keeps rows as they are finished."""

    def find(self, cell: Cell) -> Row | None:
        """Return the finished row of `cell`; None where it must be measured."""

    def save(self, cell: Cell, row: Row, samples: NDArray[np.float64] | None) -> None:
        """Keep a finished row, and the seconds of its calls, [calls]; None if it was not timed."""
