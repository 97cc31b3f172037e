"""Derive clipping ranges of any method from stored statistics; no data is read.

Each method returns (low, high) with low <= 0 <= high, the range that an 8-bit format should cover.
`symmetric` asks for the best range of the form (-t, t), as TensorRT's INT8 wants it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qbench.calibration.kernels import BINS
from qbench.calibration.statistics import TensorStatistics
from qbench.errors import UsageError

Range = tuple[float, float]

_PERCENTILE = 99.99
_CANDIDATES = 64
_SMALLEST_SHARE = 1 / 16
"""Narrower than this share of the largest magnitude, a histogram bin would be wider than a step."""


def clipping_range(statistics: TensorStatistics, method: str, *, symmetric: bool) -> Range:
    """Return the range that `method` chooses for a tensor.

    Args:
        statistics: What calibration saw of the tensor.
        method: A key of `METHODS`.
        symmetric: Optimize for a range of the form (-t, t).

    Raises:
        UsageError: The method is unknown.
    """
    if method not in METHODS:
        raise UsageError(f"unknown range method {method!r}; choose one of {', '.join(METHODS)}")
    low, high = METHODS[method](statistics, symmetric)
    return min(low, 0.0), max(high, 0.0)


def minmax(statistics: TensorStatistics, symmetric: bool) -> Range:
    """Return the exact extremes."""
    return _shape(statistics.low, statistics.high, symmetric)


def percentile(statistics: TensorStatistics, symmetric: bool) -> Range:
    """Return the range that holds 99.99 % of the values; of the magnitudes when symmetric."""
    edges = _edges(statistics)
    if symmetric:
        limit = _quantile(_folded(statistics.counts), edges[BINS // 2 :], _PERCENTILE / 100)
        return _shape(max(statistics.low, -limit), min(statistics.high, limit), symmetric)
    tail = (1 - _PERCENTILE / 100) / 2
    low = _quantile(statistics.counts, edges, tail)
    high = _quantile(statistics.counts, edges, 1 - tail)
    return max(statistics.low, low), min(statistics.high, high)


def mse(statistics: TensorStatistics, symmetric: bool) -> Range:
    """Return the range with the least mean squared error of 8-bit rounding and clipping.

    Candidates shrink the extremes evenly down to a sixteenth; the error is summed over the
    histogram's bin centres.
    """
    centres, weights = _occupied(statistics)
    low, high = minmax(statistics, symmetric)
    low, high = min(low, 0.0), max(high, 0.0)
    if high == low:
        return low, high
    shares = np.linspace(1.0, _SMALLEST_SHARE, _CANDIDATES)
    errors = [_rounding_error(centres, weights, low * s, high * s) for s in shares]
    best = float(shares[int(np.argmin(errors))])
    return low * best, high * best


def rounding_noise(statistics: TensorStatistics, clip: Range) -> float:
    """Return the error of 8-bit rounding and clipping to a range, relative to the mean square."""
    centres, weights = _occupied(statistics)
    power = float(np.dot(weights, np.square(centres)))
    return _rounding_error(centres, weights, *clip) / power if power else 0.0


def mse_behind(statistics: TensorStatistics, function: str) -> Range:
    """Return the range with the least mean squared error behind a saturating function.

    What a Sigmoid or SiLU reads may reach far below zero, where its output hardly changes; steps
    are better spent elsewhere. First the lower end shrinks, then the upper one, evenly down to a
    sixteenth; the error is that of the function's output, summed over the histogram's bin centres.

    Args:
        statistics: Of the function's input.
        function: A key of `SATURATING`.
    """
    centres, weights = _occupied(statistics)
    low, high = min(statistics.low, 0.0), max(statistics.high, 0.0)
    if high == low:
        return low, high
    apply = SATURATING[function]
    exact = apply(centres)

    def error(ends: Range) -> float:
        return float(np.dot(weights, np.square(apply(_rounded(centres, *ends)) - exact)))

    shares = np.linspace(1.0, _SMALLEST_SHARE, _CANDIDATES)
    low = min((low * float(share) for share in shares), key=lambda end: error((end, high)))
    high = min((high * float(share) for share in shares), key=lambda end: error((low, end)))
    return low, high


def entropy(statistics: TensorStatistics, symmetric: bool) -> Range:
    """Return the range whose 128 levels lose the least information (Kullback-Leibler divergence).

    The method of TensorRT's entropy calibrator: magnitudes in 2048 bins over the observed range;
    for each threshold, outliers are added to the last bin to give P, P's bins are merged into 128
    levels and spread evenly over the occupied bins to give Q, and the threshold of the least
    KL(P||Q) wins.
    """
    magnitudes = _folded(statistics.counts).reshape(-1, 2).sum(axis=1)
    # Zeros are exact in any range. Counted, those behind a ReLU would outweigh all other values.
    magnitudes[0] = magnitudes[1]
    used = int(np.flatnonzero(magnitudes)[-1]) + 1 if magnitudes.any() else 0
    levels = 128
    if used <= levels:
        return minmax(statistics, symmetric)
    widths = range(levels, used + 1, 4)
    divergences = [_divergence(magnitudes, width, levels) for width in widths]
    threshold = widths[int(np.argmin(divergences))] * 2 * statistics.bin_width
    return _shape(max(statistics.low, -threshold), min(statistics.high, threshold), symmetric)


def _sigmoid(values: NDArray[Any]) -> NDArray[Any]:
    result: NDArray[Any] = 1 / (1 + np.exp(-np.clip(values, -80, 80)))
    return result


SATURATING: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "sigmoid": _sigmoid,
    "silu": lambda values: values * _sigmoid(values),
}
"""Functions behind which `mse_behind` measures the error."""

METHODS: dict[str, Callable[[TensorStatistics, bool], Range]] = {
    "minmax": minmax,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}
"""Range methods by name."""


def _shape(low: float, high: float, symmetric: bool) -> Range:
    limit = max(-low, high)
    return (-limit, limit) if symmetric else (low, high)


def _edges(statistics: TensorStatistics) -> NDArray[Any]:
    return (np.arange(BINS + 1) - BINS // 2) * statistics.bin_width


def _folded(counts: NDArray[Any]) -> NDArray[Any]:
    """Return the histogram of magnitudes, int64 [BINS / 2]."""
    half = BINS // 2
    folded: NDArray[Any] = counts[half:] + counts[half - 1 :: -1]
    return folded


def _quantile(counts: NDArray[Any], edges: NDArray[Any], share: float) -> float:
    """Return the value below which `share` of the counts lie, linear within a bin."""
    cumulative = np.concatenate([[0], np.cumsum(counts)])
    return float(np.interp(share * cumulative[-1], cumulative, edges))


def _occupied(statistics: TensorStatistics) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return centres and counts of the bins that hold values."""
    occupied = np.flatnonzero(statistics.counts)
    centres = (occupied - BINS // 2 + 0.5) * statistics.bin_width
    return centres, statistics.counts[occupied].astype(np.float64)


def _rounded(centres: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    """Return `centres` after rounding to 255 steps of the range and clipping to it."""
    if high == low:
        return np.zeros_like(centres)
    step = (high - low) / 255
    rounded: NDArray[Any] = np.clip(
        np.rint(centres / step), np.rint(low / step), np.rint(high / step)
    )
    return rounded * step


def _rounding_error(centres: NDArray[Any], weights: NDArray[Any], low: float, high: float) -> float:
    return float(np.dot(weights, np.square(centres - _rounded(centres, low, high))))


def _divergence(magnitudes: NDArray[Any], width: int, levels: int) -> float:
    kept = magnitudes[:width].astype(np.float64)
    reference = kept.copy()
    reference[-1] += magnitudes[width:].sum()
    starts = (np.arange(levels) * width) // levels
    sums = np.add.reduceat(kept, starts)
    occupied = np.add.reduceat((kept > 0).astype(np.float64), starts)
    level_of_bin = np.repeat(np.arange(levels), np.diff(np.append(starts, width)))
    spread = np.divide(sums, occupied, out=np.zeros(levels), where=occupied > 0)[level_of_bin]
    spread[kept == 0] = 0
    return _kullback_leibler(reference, spread)


def _kullback_leibler(reference: NDArray[Any], test: NDArray[Any]) -> float:
    """Return KL(P||Q) of two unnormalized histograms; a mass that Q misses counts as 1e-9."""
    p = reference / reference.sum()
    q = np.maximum(test / max(test.sum(), 1.0), 1e-9)
    mass = p > 0
    return float(np.sum(p[mass] * np.log(p[mass] / q[mass])))
