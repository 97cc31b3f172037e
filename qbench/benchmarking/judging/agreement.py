"""How far a model agrees with the float model, where there are no labels."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qbench.benchmarking.judging.judged import DRAWS, SEED, Judged, Outcome
from qbench.benchmarking.judging.material import Material
from qbench.benchmarking.result import FurtherMetric, Metric
from qbench.errors import ModelError
from qbench.evaluation.agreement import AgreementResult, Comparison
from qbench.evaluation.numbers import WHOSE_FAULT
from qbench.evaluation.similarity import decibels
from qbench.placement.targets import half_precision
from qbench.runtimes.base import Runner
from qbench.runtimes.cpu import usable_cores
from qbench.runtimes.ort.graphs import open_graph
from qbench.runtimes.ort.runner import OrtRunner


class AgreementJudge:
    """Agreement with the float model, without labels."""

    def __init__(self, material: Material, metric: Metric, compare: Comparison) -> None:
        reference = material.float_model()
        reference.check_float()
        if (half := half_precision(reference)) is not None:
            raise ModelError(
                f"{reference.path} computes in {half.upper()}, and without labels outputs are "
                "compared with those of FP32; give the FP32 model first"
            )
        self._model, self._source = reference.ir, material.source
        self._metric, self._compare = metric, compare

    @cached_property
    def _reference(self) -> OrtRunner:
        return open_graph(self._model)

    def judge(self, runner: Runner) -> Judged:
        """Return the mean agreement; further figures that overflow are left out."""
        found = self._compare(self._reference, runner, self._source, usable_cores())
        _check_finite(found)
        others: dict[FurtherMetric, Outcome] = {}
        for name, values in found.others.items():
            if name == "powers":
                others["sqnr_db"] = _drawn(values, _sqnr_db)
            else:
                others[name] = _outcome_of(values)
        finite = {name: one for name, one in others.items() if math.isfinite(one.value)}
        return Judged(self._metric, found.names, _outcome_of(found.values), finite)


def _check_finite(found: AgreementResult) -> None:
    """Make sure that every sample has a value.

    Raises:
        ModelError: The outputs for one are too large to be compared.
    """
    for name, value in zip(found.names, found.values, strict=True):
        if not math.isfinite(value):
            raise ModelError(
                f"the outputs for {name} hold NaN, or are too large to be compared; {WHOSE_FAULT}"
            )


def _outcome_of(values: NDArray[Any]) -> Outcome:
    """Return the mean of `values` over samples, [n]."""
    if values.dtype == np.bool_:
        return Outcome(float(values.mean()), values)
    return _drawn(values, lambda drawn: float(drawn.mean()))


def _drawn(values: NDArray[Any], statistic: Callable[[NDArray[Any]], float]) -> Outcome:
    """Return a statistic of `values`, [n, ...], also over samples drawn with replacement.

    Of what is drawn, NaN stands for all that is not finite.
    """
    rng, n = np.random.default_rng(SEED), len(values)
    drawn = np.array([statistic(values[rng.integers(n, size=n)]) for _ in range(DRAWS)])
    return Outcome(statistic(values), np.where(np.isfinite(drawn), drawn, np.nan))


def _sqnr_db(powers: NDArray[np.float64]) -> float:
    """Return the ratio of the sums of signal and noise, [n, 2]; NaN where there is no noise."""
    signal, noise = powers.sum(axis=0).tolist()
    return decibels(signal, noise) if noise else math.nan
