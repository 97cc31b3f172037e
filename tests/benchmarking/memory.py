"""A ledger in memory."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qbench.benchmarking.judging.judged import Judged
from qbench.benchmarking.ledger import Cell
from qbench.benchmarking.result import Row


@dataclass
class Memory:
    """What was saved, in order; `find` answers from it."""

    rows: dict[Cell, Row] = field(default_factory=dict)
    samples: dict[Cell, NDArray[np.float64] | None] = field(default_factory=dict)
    judged: dict[Cell, Judged] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def find(self, cell: Cell) -> Row | None:
        return self.rows.get(cell)

    def save(self, cell: Cell, row: Row, samples: NDArray[np.float64] | None) -> None:
        self.rows[cell], self.samples[cell] = row, samples
        self.log.append(f"row {row.precision} {row.batch}")

    def find_judged(self, cell: Cell) -> Judged | None:
        return self.judged.get(cell)

    def save_judged(self, cell: Cell, judged: Judged) -> None:
        self.judged[cell] = judged
        self.log.append(f"accuracy {cell.precision}")
