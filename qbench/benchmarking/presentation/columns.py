"""The columns of a benchmark's table on a page: what they hold, and how it is written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from qbench.benchmarking.presentation.metric_text import change_text, figure_text
from qbench.benchmarking.presentation.naming import is_baseline, metric_name
from qbench.benchmarking.result import Accuracy, Row
from qbench.formatting import digits, interval_text, percent

_MIB = 1 << 20

Value = float | str | None


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        title: Its heading, with the unit.
        about: What it holds, in a few words.
        value: What sorts a row; None where the row has nothing there.
        text: How a value is written, given its row, too.
        usual: The value of most benchmarks, which is not worth a column.
    """

    title: str
    about: str
    value: Callable[[Row], Value]
    text: Callable[[Row, float], str] | None = None
    usual: Value = None

    def cell(self, row: Row) -> tuple[Value, str]:
        """Return what sorts `row`, and its text."""
        value = self.value(row)
        if value is None:
            return None, "\N{EN DASH}"
        if self.text is None or isinstance(value, str):
            return value, str(value)
        return value, self.text(row, value)

    def is_shown(self, rows: Sequence[Row]) -> bool:
        """Tell whether the column says anything about `rows`."""
        return any(self.value(row) not in (None, self.usual) for row in rows)


def columns_for(rows: Sequence[Row]) -> list[Column]:
    """Return the columns that say something about `rows`, in their order."""
    several = len({row.model for row in rows}) > 1
    model = [Column("model", "Its file", lambda row: row.model)] if several else []
    found = [column for column in _COLUMNS if column.is_shown(rows)]
    place = next((i for i, column in enumerate(found, 1) if column.title == "verdict"), len(found))
    return model + found[:place] + _further(rows) + found[place:]


def _further(rows: Sequence[Row]) -> list[Column]:
    """Return a column for each further figure beside accuracy."""
    metrics = dict.fromkeys(
        other.metric for row in rows if row.accuracy for other in row.accuracy.others
    )
    return [_further_column(metric) for metric in metrics]


def _further_column(metric: str) -> Column:
    def value(row: Row) -> float | None:
        others = row.accuracy.others if row.accuracy else ()
        return next((other.value for other in others if other.metric == metric), None)

    title, about = metric.replace("_", " "), f"{metric_name(metric)}, on the same images"
    return Column(title, about, value, lambda _, figure: figure_text(metric, figure))


def accuracy_text(accuracy: Accuracy) -> str:
    """Return an accuracy with its interval."""
    form = partial(figure_text, accuracy.metric)
    ends = interval_text(accuracy.ci_low, accuracy.ci_high, form).replace(" %", "")
    return f"{form(accuracy.value)} {ends}"


def difference_text(accuracy: Accuracy) -> str:
    """Return the difference to the first row with its interval; empty if there is none."""
    change = accuracy.difference
    if change is None:
        return ""
    return change_text(accuracy.metric, change.value, change.low, change.high)


def speedup_text(row: Row) -> str:
    """Return the speed-up over the baseline with its interval; empty where there is none."""
    ratio = row.ratio
    if ratio is None or is_baseline(ratio):
        return "1" if ratio else ""
    return f"{digits(ratio.value)} {interval_text(ratio.ci_low, ratio.ci_high)}"


def verdict_text(row: Row) -> str | None:
    """Return what the speed-up bears, `baseline` or `failed`; None where nothing was timed."""
    if row.error:
        return "failed"
    if row.ratio is None:
        return None
    return "baseline" if is_baseline(row.ratio) else row.ratio.verdict


def _change(row: Row) -> float | None:
    change = row.accuracy.difference if row.accuracy else None
    return change.value if change else None


def _figure(title: str, about: str, value: Callable[[Row], float | None]) -> Column:
    return Column(title, about, value, lambda _, figure: digits(figure))


def _latency(title: str, about: str, field: str) -> Column:
    return _figure(title, about, lambda row: getattr(row.latency_ms, field, None))


def _scaled(title: str, about: str, field: str, unit: float) -> Column:
    def value(row: Row) -> float | None:
        kept: float | None = getattr(row, field)
        return None if kept is None else kept / unit

    return _figure(title, about, value)


def _count(title: str, about: str, field: str, usual: Value) -> Column:
    return Column(title, about, lambda row: getattr(row, field), usual=usual)


_TAIL = "Longest of this share of the calls; left out where samples are too few"

_COLUMNS = (
    Column("precision", "What weights and activations are held in", lambda row: row.precision),
    Column("provider", "What ran it; simulated: in exact arithmetic", lambda row: row.provider),
    _count("mode", "How calls follow each other", "mode", "latency"),
    _count("batch", "Images per call", "batch", 1),
    _count("threads", "Threads within an operator; 0 leaves them to the runtime", "threads", 0),
    _count("streams", "Calls in flight", "streams", 1),
    _count("calls/s", "Calls that are started per second", "rate", None),
    Column(
        "accuracy",
        "With its 95 % interval over images",
        lambda row: row.accuracy.value if row.accuracy else None,
        lambda row, _: accuracy_text(row.accuracy) if row.accuracy else "",
    ),
    Column(
        "change",
        "Accuracy minus that of the first row on the same images, in points, with 95 % interval",
        _change,
        lambda row, _: difference_text(row.accuracy) if row.accuracy else "",
    ),
    _latency("median ms", "Half of the calls took no longer", "median"),
    Column(
        "speed-up",
        "How many times as fast as the baseline, per image, with 95 % interval",
        lambda row: row.ratio.value if row.ratio else None,
        lambda row, _: speedup_text(row),
    ),
    Column("verdict", "What the interval of the speed-up bears", verdict_text),
    _latency("p90 ms", _TAIL, "p90"),
    _latency("p95 ms", _TAIL, "p95"),
    _latency("p99 ms", _TAIL, "p99"),
    _figure("images/s", "Throughput, in the row's mode", lambda row: row.throughput_per_s),
    Column(
        "late",
        "Share of the calls that were not done when the next was due",
        lambda row: row.missed_share,
        lambda _, share: percent(share),
    ),
    _scaled("size MiB", "The model's files", "size_bytes", _MIB),
    _scaled("host MiB", "Peak memory of the process that ran it", "peak_rss_bytes", _MIB),
    _scaled("GPU MiB", "Memory on the GPU", "device_memory_bytes", _MIB),
    _scaled("make s", "Making the variant or the engine", "build_seconds", 1.0),
    _scaled("load s", "Loading, with the runtime's optimization", "load_seconds", 1.0),
    _scaled("first ms", "The first call after loading", "first_inference_seconds", 1e-3),
    _count("voided", "Rounds thrown away because the GPU was disturbed", "voided_rounds", 0),
)
