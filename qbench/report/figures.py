"""The figures of the report, in their order: what each shows, and how to read it."""

from collections.abc import Callable
from dataclasses import dataclass

from qbench.benchmarking.result import RunResult
from qbench.report.charts.common import Chart
from qbench.report.charts.intervals import draw_changes, draw_speedups
from qbench.report.charts.latencies import draw_latencies
from qbench.report.charts.layers import draw_layers
from qbench.report.charts.operators import draw_operators
from qbench.report.charts.percentiles import draw_percentiles
from qbench.report.charts.tradeoff import draw_throughput, draw_tradeoff
from qbench.report.contents import Contents
from qbench.report.theme import Theme


@dataclass(frozen=True)
class Figure:
    """A chart and the words around it.

    Attributes:
        name: Of its files.
        title: What it shows.
        reading: How to read it.
        missing: What stands in its place where there is nothing to draw; empty leaves it out.
        draw: Returns the chart, or None.
        suits: Whether it is for runs of this kind.
    """

    name: str
    title: str
    reading: str
    missing: str
    draw: Callable[[Contents, Theme], Chart | None]
    suits: Callable[[RunResult], bool] = lambda _: True


def _is_of_throughput(result: RunResult) -> bool:
    return any(row.mode == "throughput" for row in result.rows)


def _tells_throughput(result: RunResult) -> bool:
    """Tell whether throughput says more than latency: in its mode, and over batch sizes."""
    return _is_of_throughput(result) or len({row.batch for row in result.rows}) > 1


FIGURES = (
    Figure(
        "accuracy-latency",
        "Accuracy against latency",
        "Up and to the left is better. Bars are 95 % intervals: of the accuracy over images, and "
        "of the latency as wide as that of the speed-up. The dashed line joins the filled points, "
        "which no other row beats in both; where bars overlap, two may change places.",
        "No row has both an accuracy and a latency.",
        draw_tradeoff,
        lambda result: not _is_of_throughput(result),
    ),
    Figure(
        "accuracy-throughput",
        "Accuracy against throughput",
        "Up and to the right is better. Bars are 95 % intervals: of the accuracy over images, and "
        "of the throughput as wide as that of the speed-up. The dashed line joins the filled "
        "points, which no other row beats in both, whatever its batch size.",
        "No row has both an accuracy and a throughput.",
        draw_throughput,
        _tells_throughput,
    ),
    Figure(
        "speed-up",
        "What each row gains",
        "Speed-up over the baseline with its 95 % interval, from paired rounds. A verdict needs "
        "the whole interval outside of the grey band, which is as wide as the noisiest rows "
        "need it. The last line is the baseline against itself.",
        "",
        draw_speedups,
    ),
    Figure(
        "accuracy-change",
        "What each row costs",
        "Accuracy minus that of the first row, on the same images, with its 95 % interval. An "
        "interval that holds 0 may be chance.",
        "",
        draw_changes,
    ),
    Figure(
        "percentiles",
        "Latency percentiles at a fixed rate",
        "Half, 90, 95 and 99 % of the calls took no longer, from when they were due: so that "
        "waiting for the call before counts. A percentile is left out where calls are too few. "
        "Right of the dashed line a call was not done when the next was due.",
        "",
        draw_percentiles,
    ),
    Figure(
        "latencies",
        "How latencies spread",
        "All timed calls of each row, none left out; heights are counts, the tallest of each row "
        "alike. The line is the median.",
        "The single timings are not in this file: report a run that `qbench bench` kept to see how "
        "latencies spread.",
        draw_latencies,
    ),
    Figure(
        "operators",
        "Where the time goes",
        "Time by kind of operator, as the runtime names it after its own optimization, and by what "
        "it computes in.",
        "No operators were profiled: `qbench bench --profile` tells where the time goes.",
        draw_operators,
    ),
    Figure(
        "layers",
        "Where accuracy is lost",
        "Signal-to-noise ratio of each layer's output against the float model: lower is worse, and "
        "a fall of 6 dB is twice the error. The line joins the lowest of each depth; the lowest of "
        "all are ringed and listed. Points above 100 dB or below -20 dB stand at the edge; what is "
        "equal has none.",
        "",
        draw_layers,
    ),
)


def figures_for(contents: Contents) -> list[Figure]:
    """Return the figures that suit a run."""
    return [figure for figure in FIGURES if figure.suits(contents.result)]
