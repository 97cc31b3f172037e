"""Intervals of all rows below each other: of their speed-ups, and of what they cost."""

from collections.abc import Sequence

import altair as alt

from qbench.benchmarking.presentation.columns import difference_text, speedup_text, verdict_text
from qbench.benchmarking.presentation.metric_text import is_share
from qbench.benchmarking.presentation.naming import is_baseline, metric_name, named_rows
from qbench.benchmarking.result import RunResult
from qbench.benchmarking.stats import Interval, aa_error, margin
from qbench.formatting import digits, interval_text
from qbench.report.charts.common import (
    Chart,
    Record,
    by_precision,
    by_row,
    data,
    dressed,
    log_scale,
    record,
    told,
)
from qbench.report.contents import Contents
from qbench.report.theme import Theme

CONTROL = "same candidate twice"
_LINE = 30
_AXIS = 56


def draw_speedups(contents: Contents, theme: Theme) -> Chart | None:
    """Return the speed-ups over the baseline, with the control and the band of the verdicts."""
    control = contents.result.control
    records = _speedups(contents.result)
    if not records or control is None:
        return None
    records.append(_control(control))
    edge = 1 + margin(aa_error(control))
    ends = [item[end] for item in records for end in ("low", "high")]
    scale, values = log_scale([*ends, edge, 1 / edge])
    axis = alt.Axis(
        title="times as fast as the baseline, log scale", values=values, format="~g", grid=False
    )
    x = alt.X("value:Q", scale=scale, axis=axis)
    return _stacked(records, theme, x, (1 / edge, 1.0, edge), ("row", "speed-up", "verdict"))


def draw_changes(contents: Contents, theme: Theme) -> Chart | None:
    """Return the differences of accuracy to the first row."""
    records = _changes(contents.result)
    if not records:
        return None
    metric = next(row.accuracy.metric for row in contents.result.rows if row.accuracy)
    unit = ", points" if is_share(metric) else ""
    axis = alt.Axis(title=f"change of {metric_name(metric)}{unit}", tickCount=6, grid=False)
    ends = [0.0, *(item[end] for item in records for end in ("low", "high"))]
    room = 0.08 * (max(ends) - min(ends)) or 0.1
    scale = alt.Scale(domain=[min(ends) - room, max(ends) + room], nice=False, zero=False)
    x = alt.X("value:Q", scale=scale, axis=axis)
    return _stacked(records, theme, x, (0.0, 0.0, 0.0), ("row", "change"))


def _speedups(result: RunResult) -> list[Record]:
    return [
        record(
            {"row": name, "speed-up": speedup_text(row), "verdict": verdict_text(row) or ""},
            precision=row.precision,
            value=row.ratio.value,
            low=row.ratio.ci_low,
            high=row.ratio.ci_high,
        )
        for name, row in named_rows(result)
        if row.ratio and not is_baseline(row.ratio)
    ]


def _changes(result: RunResult) -> list[Record]:
    found = [
        (row, name, row.accuracy, row.accuracy.difference)
        for name, row in named_rows(result)
        if row.accuracy and row.accuracy.difference
    ]
    return [
        record(
            {"row": name, "change": difference_text(accuracy)},
            precision=row.precision,
            value=unit * change.value,
            low=unit * change.low,
            high=unit * change.high,
        )
        for row, name, accuracy, change in found
        for unit in [100.0 if is_share(accuracy.metric) else 1.0]
    ]


def _control(control: Interval) -> Record:
    text = f"{digits(control.value)} {interval_text(control.low, control.high)}"
    return record(
        {"row": CONTROL, "speed-up": text, "verdict": "what timing alone makes of no difference"},
        precision="other",
        value=control.value,
        low=control.low,
        high=control.high,
    )


def _stacked(
    records: Sequence[Record],
    theme: Theme,
    x: alt.X,
    band: tuple[float, float, float],
    facts: Sequence[str],
) -> Chart:
    """Return the intervals below each other, over a band that means no difference."""
    low, middle, high = band
    zone = alt.Chart(data([{"low": low, "high": high, "value": middle}]))
    rows = alt.Chart(data(records)).encode(
        y=by_row(records, theme), color=by_precision(records, theme)
    )
    layers = [
        zone.mark_rect(color=theme["band"], aria=False).encode(x="low:Q", x2="high:Q"),
        zone.mark_rule(color=theme["muted"], strokeWidth=1, aria=False).encode(x=x),
        rows.mark_rule(strokeWidth=2, aria=False).encode(x="low:Q", x2="high:Q"),
        rows.mark_point(filled=True, size=90, opacity=1).encode(x=x, **told(facts)),
    ]
    return dressed(layers, theme, _LINE * len(records) + _AXIS)
