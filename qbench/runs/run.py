"""A benchmark that was run, with the samples behind its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from qbench.benchmarking.judging.judged import Judged
from qbench.benchmarking.ledger import Cell
from qbench.benchmarking.result import Row, RunResult
from qbench.runs.request import Request

UNKEPT = "unkept"
"""The id of a run that is in memory only."""


@dataclass(frozen=True)
class Entry:
    """A row as it is kept.

    Attributes:
        cell: What it measures; None where only the row is known.
        row: Its figures.
        samples: Seconds of its calls, [calls]; None where it was not timed, or they are lost.
        judged: Its accuracy, sample by sample; None where it was not judged, or they are lost.
    """

    cell: Cell | None
    row: Row
    samples: NDArray[np.float64] | None = None
    judged: Judged | None = None


@dataclass(frozen=True)
class Run:
    """A run as it is kept.

    Attributes:
        id: What a user names it by.
        result: Its rows and environment.
        samples: Seconds of every timed call, [calls], by the index of the row; what was not timed
            or not kept is missing.
        judged: Outcomes of the samples that accuracy was judged on, by the index of the row.
        request: What was asked for; None where only the document of a run is known.
        finished: False where it was stopped half-way.
    """

    id: str
    result: RunResult
    samples: Mapping[int, NDArray[np.float64]] = field(default_factory=dict)
    judged: Mapping[int, Judged] = field(default_factory=dict)
    request: Request | None = None
    finished: bool = True

    @property
    def kept_id(self) -> str | None:
        """Its id; None where nothing of it is kept."""
        return None if self.id == UNKEPT else self.id

    def document(self) -> dict[str, Any]:
        """Return its JSON document: the result, its id and whether it was finished."""
        known = msgspec.to_builtins(self.result)
        return {**known, "run": self.kept_id, "finished": self.finished}
