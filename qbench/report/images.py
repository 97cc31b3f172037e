"""Charts as images, rendered offline."""

import io
from pathlib import Path

import altair as alt

from qbench.artifacts import write_bytes
from qbench.report.charts.common import Chart
from qbench.report.contents import Contents
from qbench.report.figures import figures_for
from qbench.report.theme import PLAIN

_PNG_SCALE = 2.0


def svg_text(chart: Chart) -> str:
    """Return a chart as SVG."""
    out = io.StringIO()
    chart.save(out, format="svg")
    return out.getvalue()


def write_svgs(contents: Contents, folder: Path) -> list[Path]:
    """Write every chart that has something to show as SVG; return the files.

    Raises:
        StorageError: The folder cannot be written.
    """
    return [
        _written(folder / f"{name}.svg", svg_text(chart).encode())
        for name, chart in _titled(contents).items()
    ]


def write_pngs(contents: Contents, folder: Path) -> list[Path]:
    """Write every chart that has something to show as PNG of double resolution; return the files.

    Raises:
        StorageError: The folder cannot be written.
    """
    return [
        _written(folder / f"{name}.png", _png_bytes(chart))
        for name, chart in _titled(contents).items()
    ]


def _titled(contents: Contents) -> dict[str, Chart]:
    """Return the charts by name, each with its title on paper of its own."""
    drawn = ((figure, figure.draw(contents, PLAIN)) for figure in figures_for(contents))
    return {
        figure.name: chart.properties(title=alt.Title(figure.title), background=PLAIN["paper"])
        for figure, chart in drawn
        if chart is not None
    }


def _png_bytes(chart: Chart) -> bytes:
    out = io.BytesIO()
    chart.save(out, format="png", scale_factor=_PNG_SCALE)
    return out.getvalue()


def _written(path: Path, content: bytes) -> Path:
    write_bytes(path, content)
    return path
