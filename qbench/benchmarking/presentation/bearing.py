"""What the figures of a benchmark can bear, in plain sentences."""

from qbench.benchmarking.presentation.columns import difference_text
from qbench.benchmarking.presentation.metric_text import is_share
from qbench.benchmarking.presentation.naming import is_baseline, metric_name, named_rows
from qbench.benchmarking.result import Ratio, Row, RunResult
from qbench.benchmarking.stats import MARGIN, aa_error, half_width, margin
from qbench.formatting import counted, digits, interval_text, percent


def bearing(result: RunResult) -> list[str]:
    """Return the sentences: whether to trust the run, what it found, and what it leaves open."""
    makers = (_control, _fastest, _verdicts, _widths, _images, _failed)
    return [sentence for make in makers if (sentence := make(result))]


def is_noisy(result: RunResult) -> bool:
    """Tell whether the control passed only because its interval is wide."""
    is_wide = result.control is not None and half_width(result.control) > MARGIN
    return result.trusted and is_wide


def _control(result: RunResult) -> str:
    control = result.control
    if control is None:
        return "Nothing was timed."
    found = (
        f"{percent(aa_error(control))} (ratio {interval_text(control.low, control.high, _four)})"
    )
    if is_noisy(result):
        return (
            f"Timings are noisy: two identical candidates differed by {found}, which may be chance "
            "but hides small differences."
        )
    if result.trusted:
        return f"Timings passed their control: two identical candidates differed by {found}."
    return (
        f"Timings failed their control: two identical candidates differed by {found}, "
        "so that something else decided them. Do not trust them; run again on a quiet machine."
    )


def _fastest(result: RunResult) -> str:
    """Name the fastest row and what it costs, where one baseline serves all rows."""
    timed = _timed(result)
    bases = [name for name, _, ratio in timed if is_baseline(ratio)]
    if len(bases) != 1 or len(timed) < 2:
        return ""
    faster = [found for found in timed if found[2].verdict == "faster"]
    if not faster:
        return f"No row is faster than {bases[0]} beyond doubt."
    name, row, ratio = max(faster, key=lambda found: found[2].value)
    ends = interval_text(ratio.ci_low, ratio.ci_high)
    return f"Fastest: {name}, {digits(ratio.value)} {ends} times as fast as {bases[0]}{_cost(row)}."


def _cost(row: Row) -> str:
    if row.accuracy is None or row.accuracy.difference is None:
        return ""
    unit = "points of " if is_share(row.accuracy.metric) else ""
    return f", at {difference_text(row.accuracy)} {unit}{metric_name(row.accuracy.metric)}"


def _verdicts(result: RunResult) -> str:
    judged = [ratio for _, _, ratio in _timed(result) if not is_baseline(ratio)]
    if not judged or result.control is None:
        return ""
    # Rows that were timed together share a control.
    errors = [aa_error(row.control or result.control) for _, row, _ in _timed(result)]
    limits = dict.fromkeys(percent(margin(end(errors))) for end in (min, max))
    text = (
        "A row is called faster or slower where its whole interval lies beyond a margin of "
        f"{' to '.join(limits)}"
    )
    open_ones = sum(ratio.verdict == "inconclusive" for ratio in judged)
    return f"{text}; {open_ones} of {len(judged)} are inconclusive." if open_ones else f"{text}."


def _widths(result: RunResult) -> str:
    asked = result.settings.half_width
    widths = [
        half_width(ratio.interval) for _, _, ratio in _timed(result) if not is_baseline(ratio)
    ]
    wide = sum(width > asked for width in widths)
    if not wide:
        return ""
    return (
        f"{wide} of {len(widths)} speed-ups have intervals wider than the {percent(asked)} to each "
        "side that were asked for."
    )


def _images(result: RunResult) -> str:
    judged = [row.accuracy for row in result.rows if row.accuracy]
    if not judged:
        return "Accuracy was not measured."
    texts = (f"{metric_name(a.metric)} on {counted(a.n, 'image')}" for a in judged)
    images = ", ".join(dict.fromkeys(texts))
    changes = [a.difference for a in judged if a.difference]
    if not changes:
        return f"Accuracy is {images}."
    open_ones = sum(change.low <= 0 <= change.high for change in changes)
    return (
        f"Accuracy is {images}; {open_ones} of {len(changes)} differences to the first row "
        "may be chance: their intervals hold 0."
    )


def _failed(result: RunResult) -> str:
    failed = sum(row.error is not None for row in result.rows)
    if not failed:
        return ""
    return f"{failed} of {len(result.rows)} rows could not run; the reason stands below each."


def _timed(result: RunResult) -> list[tuple[str, Row, Ratio]]:
    """Return the name, row and speed-up of all rows that were compared."""
    return [(name, row, row.ratio) for name, row in named_rows(result) if row.ratio]


def _four(value: float) -> str:
    return f"{value:.4f}"
