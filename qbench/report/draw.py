"""`qbench.draw_chart`: one chart of the report, for a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qbench.errors import UsageError
from qbench.evaluation.compare_layers import LayerComparison
from qbench.report.extra import check_extra
from qbench.report.sources import Source, layers_of, read_contents

if TYPE_CHECKING:
    from qbench.report.charts.common import Chart


def draw_chart(source: Source | LayerComparison, name: str = "accuracy-latency") -> Chart:
    """Return a chart of a benchmark, or of a comparison of layers, whatever the name.

    Args:
        source: What `qbench.benchmark` or `qbench.compare_layers` returned, a run, the JSON file of
            `qbench bench --json`, or the id of a run that is kept.
        name: `accuracy-latency`, `accuracy-throughput`, `speed-up`, `accuracy-change`,
            `percentiles` (of mode `paced`), `latencies` or `operators`.

    Raises:
        UsageError: No chart is called so, or there is nothing to draw.
        DataError: A file cannot be read.
        UnfitError: The `report` extra is not installed.
    """
    check_extra()
    if isinstance(source, LayerComparison):
        chart, name = _layers(source), "layers"
    else:
        chart = _figure(source, name)
    if chart is None:
        raise UsageError(f"nothing to draw for {name!r}: no row has such figures")
    return chart


def _layers(source: LayerComparison) -> Chart | None:
    from qbench.report.charts.layers import layers_chart
    from qbench.report.theme import PLAIN

    return layers_chart(layers_of(source), PLAIN)


def _figure(source: Source, name: str) -> Chart | None:
    from qbench.report.figures import FIGURES
    from qbench.report.theme import PLAIN

    known = {figure.name: figure for figure in FIGURES if figure.name != "layers"}
    if name not in known:
        raise UsageError(f"no chart is called {name!r}; choose from {', '.join(known)}")
    return known[name].draw(read_contents(source), PLAIN)
