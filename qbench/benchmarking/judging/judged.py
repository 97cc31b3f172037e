"""How a model does: figures over samples, and how much they differ from another model's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from qbench.benchmarking.result import Accuracy, Figure, FurtherMetric, Metric
from qbench.benchmarking.stats import (
    Interval,
    paired_difference,
    proportion_interval,
    resampled_interval,
)

DRAWS = 300
"""Sets of samples that are drawn with replacement."""

SEED = 0


@dataclass(frozen=True)
class Outcome:
    """A figure over the samples of a judge.

    Attributes:
        value: The figure.
        drawn: Whether each sample is right, [n]; or, where the figure is no share of samples, its
            value over sets of samples that were drawn with replacement, [draws].
    """

    value: float
    drawn: NDArray[Any]

    @property
    def interval(self) -> Interval:
        """The figure with its interval."""
        if self.drawn.dtype == np.bool_:
            return proportion_interval(int(self.drawn.sum()), self.drawn.size)
        return resampled_interval(self.value, self.drawn)

    def minus(self, other: Outcome) -> Interval:
        """Return how much higher it is than another over the same samples, bootstrapped."""
        if self.drawn.dtype == np.bool_:
            return paired_difference(self.drawn, other.drawn, SEED)
        return resampled_interval(self.value - other.value, self.drawn - other.drawn)


@dataclass(frozen=True)
class Judged:
    """How a model does.

    Attributes:
        metric: What `outcome` is.
        names: The samples that were judged.
        outcome: The accuracy.
        others: Further figures by metric.
        decoder: What read its boxes, and should read those of the same model in other precisions;
            None but for `detect`.
    """

    metric: Metric
    names: tuple[str, ...]
    outcome: Outcome
    others: Mapping[FurtherMetric, Outcome] = field(default_factory=dict)
    decoder: str | None = None

    @property
    def accuracy(self) -> Accuracy:
        """The figures with their intervals."""
        others = tuple(
            Figure(metric, *_ends(outcome.interval)) for metric, outcome in self.others.items()
        )
        value, low, high = _ends(self.outcome.interval)
        return Accuracy(self.metric, value, len(self.names), low, high, others=others)

    def difference(self, baseline: Judged) -> Interval | None:
        """Return how much higher the accuracy is than the baseline's, bootstrapped over samples.

        None where the two were judged on other samples, or by another metric.
        """
        if (self.metric, self.names) != (baseline.metric, baseline.names):
            return None
        return self.outcome.minus(baseline.outcome)

    def compared(self, baseline: Judged) -> Accuracy:
        """Return the accuracy with the differences of all figures to the baseline's."""
        accuracy, change = self.accuracy, self.difference(baseline)
        if change is None:
            return accuracy
        others = tuple(
            replace(figure, difference=self._change(figure.metric, baseline))
            for figure in accuracy.others
        )
        return replace(accuracy, difference=change, others=others)

    def _change(self, metric: FurtherMetric, baseline: Judged) -> Interval | None:
        other = baseline.others.get(metric)
        return self.others[metric].minus(other) if other else None


def _ends(interval: Interval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high
