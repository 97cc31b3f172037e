"""What a comparison of two runs says."""

from typing import Literal

import msgspec

from qbench.artifacts import SCHEMA_VERSION
from qbench.benchmarking.result import FurtherMetric, Metric
from qbench.benchmarking.stats import Verdict

Basis = Literal["time", "own baseline"]
"""What a change of speed compares: milliseconds, or each row's speed-up within its own run."""

AccuracyVerdict = Literal["better", "worse", "within noise"]


class AccuracyChange(msgspec.Struct, frozen=True, kw_only=True):
    """Accuracy then and now.

    Attributes:
        difference: It has an interval where the images were the same.
        others: Of further figures; they have intervals where both runs keep the outcomes.
    """

    metric: Metric | FurtherMetric
    before: float
    after: float
    difference: float
    ci_low: float | None = None
    ci_high: float | None = None
    verdict: AccuracyVerdict | None = None
    others: tuple["AccuracyChange", ...] = ()


class SpeedChange(msgspec.Struct, frozen=True, kw_only=True):
    """Speed then and now.

    Attributes:
        basis: What `before` and `after` are: milliseconds, or speed-ups over the own baseline.
        ratio: Above 1 where the row became faster.
        ci_low: None, as the verdict, where nothing is known of the spread.
    """

    basis: Basis
    before: float
    after: float
    ratio: float
    ci_low: float | None = None
    ci_high: float | None = None
    verdict: Verdict | None = None


class RowChange(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a row.

    Attributes:
        model: As in the row, now.
        label: What it measures, in a few words, the model first.
        broken: Whether it ran then and does not now.
        unjudged: Whether its accuracy was known then and is not now, though it runs.
    """

    model: str
    label: str
    accuracy: AccuracyChange | None = None
    speed: SpeedChange | None = None
    broken: bool = False
    unjudged: bool = False
    notes: tuple[str, ...] = ()


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What changed between two runs, or between two models in one run.

    Attributes:
        together: Whether both were measured interleaved, in one session.
        machine: What differs between the machines; then milliseconds are not compared.
        software: What differs in the software, which may be the reason of a change.
        only_before: Rows without a counterpart now.
        only_after: Rows without a counterpart then.
    """

    schema_version: int = SCHEMA_VERSION
    before: str
    after: str
    together: bool
    trusted: bool
    machine: tuple[str, ...]
    software: tuple[str, ...]
    rows: tuple[RowChange, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
