"""A benchmark that was run, with the samples behind its rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qbench.benchmarking.result import RunResult


@dataclass(frozen=True)
class Run:
    """A run as it is kept.

    Attributes:
        id: What a user names it by.
        result: Its rows and environment.
        samples: Seconds of every timed call, [calls], by the index of the row; what was not timed
            or not kept is missing.
    """

    id: str
    result: RunResult
    samples: Mapping[int, NDArray[np.float64]] = field(default_factory=dict)
