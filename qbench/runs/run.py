"""A benchmark that was run, with the samples behind its rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qbench.benchmarking.ledger import Cell
from qbench.benchmarking.result import RunResult
from qbench.runs.request import Request


@dataclass(frozen=True)
class Run:
    """A run as it is kept.

    Attributes:
        id: What a user names it by.
        result: Its rows and environment.
        samples: Seconds of every timed call, [calls], by the index of the row; what was not timed
            or not kept is missing.
        cells: What a row measures, by its index; missing where only the row is known.
        request: What was asked for; None where only the document of a run is known.
        finished: False where it was stopped half-way.
    """

    id: str
    result: RunResult
    samples: Mapping[int, NDArray[np.float64]] = field(default_factory=dict)
    cells: Mapping[int, Cell] = field(default_factory=dict)
    request: Request | None = None
    finished: bool = True
