"""Whether a change is a regression beyond what is allowed, for the exit code of CI."""

from collections.abc import Iterator

import msgspec

from qbench.benchmarking.presentation.naming import metric_name
from qbench.errors import BudgetError, InconclusiveError, UsageError
from qbench.formatting import share_from_text
from qbench.runs.comparing.changes import AccuracyChange, Comparison, RowChange, SpeedChange

_METRICS = ("latency", "accuracy")
_MOST_NAMED = 3
_ROUNDING = 1e-9


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a newer run may lose.

    Attributes:
        latency: How much longer a call may take, as a share of its time then; None for no limit.
        accuracy: How far the metric may drop, in points of 1: 0.01 from .855 to .845.
        named: Whether each limit must have something to hold; else one of both is enough.
    """

    latency: float | None = None
    accuracy: float | None = None
    named: bool = False


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What a comparison says about limits, one line for each finding.

    Attributes:
        regressions: Losses whose whole 95 % interval lies beyond the limit, and rows that no longer
            run.
        inconclusive: Changes whose interval holds the limit, or that have no interval, and rows
            that are gone.
    """

    regressions: tuple[str, ...] = ()
    inconclusive: tuple[str, ...] = ()

    def check(self) -> None:
        """Make sure that nothing was lost.

        Raises:
            BudgetError: There is a regression.
            InconclusiveError: Whether there is one is not settled.
        """
        if self.regressions:
            raise BudgetError(f"regression: {_joined(self.regressions)}")
        if self.inconclusive:
            raise InconclusiveError(
                f"not settled: {_joined(self.inconclusive)}; measure with --strict or on more "
                "images, or allow more"
            )


def parse_limits(text: str) -> Limits:
    """Return the limits in a text: `3%` for both metrics, or `latency=3%,accuracy=1%`.

    Raises:
        UsageError: It is neither.
    """
    if "=" not in text:
        share = _share(text)
        return Limits(latency=share, accuracy=share)
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, share_text = part.strip().partition("=")
        if name in found:
            raise UsageError(f"limit {part.strip()!r} is the second of {name}; drop one")
        if name not in _METRICS:
            raise UsageError(
                f"limit {part.strip()!r} names no metric; write 3% or latency=3%,accuracy=1%"
            )
        found[name] = _share(share_text)
    return Limits(latency=found.get("latency"), accuracy=found.get("accuracy"), named=True)


def judge(comparison: Comparison, limits: Limits) -> Judgement:
    """Hold a comparison against limits.

    A slowdown or drop is a regression where its whole interval lies beyond the limit, and none
    where its whole interval lies within. A run that cannot be trusted settles nothing of latency.
    """
    found: list[tuple[bool | None, str]] = []
    for row in comparison.rows:
        if row.broken:
            found.append((True, f"{row.label} {row.notes[-1]}"))
        found += _slowdowns(row, limits, comparison.trusted)
        found += _drops(row, limits)
    found += [
        (None, f"{label} was measured then and is not now") for label in comparison.only_before
    ]
    found += [(None, text) for text in _missing(comparison, limits)]
    return Judgement(
        regressions=tuple(text for loss, text in found if loss),
        inconclusive=tuple(text for loss, text in found if loss is None),
    )


def _missing(comparison: Comparison, limits: Limits) -> list[str]:
    """Return what limits were given for and nothing was compared by, in no row or in some."""
    held = {
        "latency": any(row.speed for row in comparison.rows),
        "accuracy": any(row.accuracy for row in comparison.rows),
    }
    asked = [name for name in _METRICS if getattr(limits, name) is not None]
    is_judged = "accuracy" in asked and held["accuracy"]
    unjudged = [row.label for row in comparison.rows if is_judged and row.unjudged]
    found = [f"the accuracy of {label} was known then and is not now" for label in unjudged]
    if not limits.named and any(held[name] for name in asked):
        return found
    why = f" ({comparison.machine[0]})" if comparison.machine else ""
    return found + [f"no row's {name} can be compared{why}" for name in asked if not held[name]]


def _slowdowns(
    row: RowChange, limits: Limits, is_trusted: bool
) -> Iterator[tuple[bool | None, str]]:
    """Yield whether a row takes longer than allowed, None where that is open; and how to say it."""
    if limits.latency is not None and row.speed is not None:
        loss, text = _slowdown(row.label, row.speed, limits.latency)
        yield (loss, text) if is_trusted else (None, f"{text}, in a run that is not trusted")


def _drops(row: RowChange, limits: Limits) -> Iterator[tuple[bool | None, str]]:
    """Yield whether a row lost more accuracy than allowed, as `_slowdowns`."""
    if limits.accuracy is not None and row.accuracy is not None:
        yield _drop(row.label, row.accuracy, limits.accuracy)


def _slowdown(label: str, speed: SpeedChange, limit: float) -> tuple[bool | None, str]:
    text = f"{label} takes {_signed(1 / speed.ratio - 1)}"
    if speed.ci_low is None or speed.ci_high is None:
        return None, f"{text} time, of unknown spread"
    least, most = 1 / speed.ci_high - 1, 1 / speed.ci_low - 1
    said = f"{text} [{_signed(least)}, {_signed(most)}] time (limit +{100 * limit:.3g} %)"
    return _verdict(least, most, limit), said


def _drop(label: str, accuracy: AccuracyChange, limit: float) -> tuple[bool | None, str]:
    text = f"{label} has {_points(accuracy.difference)}"
    name = f"points of {metric_name(accuracy.metric)}"
    if accuracy.ci_low is None or accuracy.ci_high is None:
        return None, f"{text} {name}, on images that may differ"
    interval = f"[{_points(accuracy.ci_low)}, {_points(accuracy.ci_high)}]"
    said = f"{text} {interval} {name} (limit -{100 * limit:.3g})"
    return _verdict(-accuracy.ci_high, -accuracy.ci_low, limit), said


def _verdict(least: float, most: float, limit: float) -> bool | None:
    """Return whether a loss, known to lie between two ends, is beyond the limit."""
    if least > limit + _ROUNDING:
        return True
    return False if most <= limit + _ROUNDING else None


def _signed(share: float) -> str:
    return f"{_points(share)} %"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _share(text: str) -> float:
    share = share_from_text(text.strip())
    if share is None or share >= 1:
        raise UsageError(f"limit {text!r} is no percentage below 100 %; write 3%")
    return share


def _joined(findings: tuple[str, ...]) -> str:
    more = len(findings) - _MOST_NAMED
    return "; ".join(findings[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")
