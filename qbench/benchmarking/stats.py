"""Statistics of timings and of accuracy: pure arrays in, values and intervals out.

A ratio is a speed-up everywhere: time of the baseline / time of the candidate, so that a value
above 1 means that the candidate is faster. All intervals have a confidence of 95 %.
"""

import math
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from qbench.errors import DataError, InconclusiveError

Verdict = Literal["faster", "slower", "same", "inconclusive"]

FEWEST_ROUNDS = 6
"""With fewer rounds even the whole range of the data covers the median less often than 95 %."""

MARGIN = 0.01
"""The smallest difference worth a verdict, relative: no timing on a shared machine settles less."""

FEWEST_SITTINGS = 3
"""With fewer loads of the candidates an interval over them is too wide to tell anything."""

_PERCENTILES = (0.025, 0.975)
_RESAMPLES = 10_000
_Z95 = 1.959963984540054

FEWEST_FOR = {0.9: 64, 0.95: 130, 0.99: 662}
"""The fewest samples for a percentile: at least two of them then lie beyond it in 99 % of cases,
so that no single outlier is given out as the tail. It is the smallest n for which a binomial draw
of n with the tail's share is 0 or 1 with a probability below 1 %."""


class Interval(msgspec.Struct, frozen=True, rename={"low": "ci_low", "high": "ci_high"}):
    """A value and its 95 % confidence interval."""

    value: float
    low: float
    high: float


def ratio_interval(log_ratios: NDArray[np.float64], seed: int) -> Interval:
    """Return the speed-up over the baseline: exp(median) of `log_ratios` over rounds.

    The interval is the percentile bootstrap over rounds. On independent rounds it covers the true
    ratio in 92 to 96 % of cases from 15 rounds on, whatever the tails of the noise.

    Args:
        log_ratios: log(block median of the baseline / block median of the candidate), [rounds].
        seed: Seed of the resampling.

    Raises:
        InconclusiveError: There are fewer than `FEWEST_ROUNDS` rounds.
    """
    if log_ratios.size < FEWEST_ROUNDS:
        raise InconclusiveError(
            f"{log_ratios.size} rounds settle no ratio; measure at least {FEWEST_ROUNDS}"
        )
    medians = _bootstrap_medians(log_ratios, np.random.default_rng(seed))
    low, high = np.quantile(medians, _PERCENTILES)
    return Interval(math.exp(np.median(log_ratios)), math.exp(low), math.exp(high))


def sittings_interval(log_ratios: NDArray[np.float64], sittings: NDArray[np.int64]) -> Interval:
    """Return the speed-up over the baseline: exp(mean over sittings of their medians over rounds).

    Student's interval of the means of sittings, which differ by what loading anew changes and by
    the noise within. In simulations of 3 to 10 sittings of 3 to 8 rounds it covers the true ratio
    in 94.7 to 95.7 % of cases, whichever of the two is larger, also where loading changes nothing
    and where one round in ten is eight times as noisy.

    Args:
        log_ratios: As of `ratio_interval`, [rounds].
        sittings: The sitting of each round, [rounds]; at least `FEWEST_SITTINGS` different ones.
    """
    medians = np.array([np.median(log_ratios[sittings == one]) for one in np.unique(sittings)])
    mean, error = medians.mean(), medians.std(ddof=1) / math.sqrt(medians.size)
    half = _student95(medians.size - 1) * error
    return Interval(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def _student95(freedom: int) -> float:
    """Return Student's quantile for 95 %, two-sided; low by 0.8 % for 2 degrees of freedom.

    By the expansion about the normal one (Abramowitz and Stegun, Handbook of Mathematical
    Functions, 1964, formula 26.7.5).
    """
    z, v = _Z95, freedom
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(sum(term / v**power for power, term in enumerate(terms)))


def _bootstrap_medians(
    values: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return medians of resamples with replacement, [_RESAMPLES], without making the resamples.

    A resample picks the sorted values at floor(n * u) for n uniform u. Of these u the k-th smallest
    follows Beta(k, n + 1 - k), and the next one is the smallest of n - k uniform draws above it
    (David and Nagaraja, Order Statistics, 2003), so that the middle of the u is all to be drawn.
    """
    n, middle = values.size, (values.size + 1) // 2
    lower = rng.beta(middle, n + 1 - middle, _RESAMPLES)
    upper = lower if n % 2 else lower + (1 - lower) * rng.beta(1, n - middle, _RESAMPLES)
    ordered = np.sort(values)
    at_lower, at_upper = (ordered[(n * u).astype(np.int64)] for u in (lower, upper))
    return (at_lower + at_upper) / 2


def half_width(ratio: Interval) -> float:
    """Return half the width of a ratio's interval, relative to the ratio (in logarithms)."""
    return math.log(ratio.high / ratio.low) / 2


def margin(noise: float) -> float:
    """Return the relative difference that a verdict must exceed: max(1 %, 2 * A/A error)."""
    return max(MARGIN, 2 * noise)


def verdict(ratio: Interval, noise: float) -> Verdict:
    """Judge a speed-up against m = `margin(noise)`.

    `faster`: the whole interval lies above 1 + m. `slower`: all of it lies below 1 / (1 + m).
    `same`: all of it lies between the two, ends included. `inconclusive`: anything else, also an
    interval that excludes 1 and yet reaches into the margin.

    Args:
        ratio: The interval of `ratio_interval`.
        noise: The A/A error, relative: see `aa_error`.
    """
    edge = 1 + margin(noise)
    if ratio.low > edge:
        return "faster"
    if ratio.high < 1 / edge:
        return "slower"
    return "same" if 1 / edge <= ratio.low and ratio.high <= edge else "inconclusive"


def aa_error(control: Interval) -> float:
    """Return how far the ratio of two identical candidates lies from 1, relative."""
    return math.exp(abs(math.log(control.value))) - 1


def is_breach(control: Interval) -> bool:
    """Tell whether the ratio of two identical candidates lies wholly beyond 1 %.

    Then something other than the candidates decided the timings, and no ratio can be trusted.
    """
    return verdict(control, 0.0) in ("faster", "slower")


def proportion_interval(correct: int, n: int) -> Interval:
    """Return `correct` / `n` with its Wilson score interval (Wilson 1927).

    Raises:
        DataError: `n` is 0, or `correct` does not lie between 0 and `n`.
    """
    if not 0 <= correct <= n or n == 0:
        raise DataError(f"{correct} correct of {n} is no proportion; evaluate at least one image")
    share = correct / n
    shrink = 1 + _Z95**2 / n
    centre = (share + _Z95**2 / (2 * n)) / shrink
    spread = _Z95 / shrink * math.sqrt(share * (1 - share) / n + _Z95**2 / (4 * n * n))
    # Rounding alone can put an end past 0, 1 or, where all are right or wrong, past the value.
    low, high = max(centre - spread, 0.0), min(centre + spread, 1.0)
    return Interval(share, min(low, share), max(high, share))


def resampled_interval(value: float, resampled: NDArray[np.float64]) -> Interval:
    """Return `value` with its percentile bootstrap interval.

    Args:
        value: The figure over all images.
        resampled: The figure over sets of images drawn with replacement, [draws]; of a difference,
            the differences over the same sets. NaN where a set gives none.
    """
    low, high = np.nanquantile(resampled, _PERCENTILES)
    return Interval(value, float(low), float(high))


def paired_difference(
    correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_], seed: int
) -> Interval:
    """Return accuracy of a minus accuracy of b, judged on the same images in the same order.

    Both arrays, [images], say which images are right. The interval is the paired percentile
    bootstrap over images. An image adds -1, 0 or 1 to the difference, so that drawing images anew
    is drawing the three counts from a multinomial. Where both agree on every image the interval has
    no width: that says nothing about other images.

    Raises:
        DataError: The arrays differ in length, or are empty.
    """
    if correct_a.shape != correct_b.shape or not correct_a.size:
        raise DataError(
            f"{correct_a.size} and {correct_b.size} outcomes cannot be paired; "
            "evaluate both models on the same images"
        )
    changes: NDArray[Any] = correct_a.astype(np.int8) - correct_b.astype(np.int8)
    n = changes.size
    shares = np.array([np.sum(changes == change) for change in (-1, 0, 1)]) / n
    counts = np.random.default_rng(seed).multinomial(n, shares, size=_RESAMPLES)
    low, high = np.quantile((counts[:, 2] - counts[:, 0]) / n, _PERCENTILES)
    return Interval(float(shares[2] - shares[0]), float(low), float(high))
