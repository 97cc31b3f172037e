"""The report as one HTML page that needs nothing else: no network, no other file.

Charts are drawn beforehand, so that the page's own script only sorts and shows tooltips. All text
is escaped by the template, and a content security policy lets no other script run.
"""

import base64
import hashlib
from dataclasses import dataclass
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from qbench.benchmarking.presentation.bearing import bearing
from qbench.benchmarking.presentation.html_table import table_html
from qbench.benchmarking.presentation.naming import named_rows
from qbench.benchmarking.result import OperatorTime
from qbench.formatting import digits, percent
from qbench.report.about import float_groups, machine_terms, method_terms
from qbench.report.charts.common import Chart
from qbench.report.charts.layers import worst_layers
from qbench.report.contents import Contents
from qbench.report.figures import Figure, figures_for
from qbench.report.images import svg_text
from qbench.report.theme import DARK, LIGHT, NARROW, WIDE, style_variables


@dataclass(frozen=True)
class _Drawn:
    """A figure as it stands in the page; without `wide`, its `missing` sentence stands there."""

    figure: Figure
    wide: Markup | None
    narrow: Markup | None


def page_html(contents: Contents) -> str:
    """Return the page."""
    script = _resource("page.js")
    pages = Environment(autoescape=True, undefined=StrictUndefined)
    pages.filters.update(percent=percent, digits=digits)
    result = contents.result
    return pages.from_string(_resource("page.html")).render(
        title=", ".join(dict.fromkeys(row.model for row in result.rows)),
        run=contents.run,
        colours=Markup(_colours()),
        style=Markup(_resource("page.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        bearing=bearing(result),
        table=Markup(table_html(result)),
        drawn=_drawn(contents),
        profiles=_profiles(contents),
        worst=worst_layers(contents.layers),
        floats=float_groups(result),
        machine=machine_terms(result.environment),
        method=method_terms(result.settings),
    )


def _drawn(contents: Contents) -> list[_Drawn]:
    """Return the figures that have something to show or to say."""
    found = []
    for figure in figures_for(contents):
        wide, narrow = (_svg(figure.draw(contents, theme)) for theme in (WIDE, NARROW))
        if wide or figure.missing:
            found.append(_Drawn(figure, wide, narrow))
    return found


def _svg(chart: Chart | None) -> Markup | None:
    return None if chart is None else Markup(svg_text(chart))


def _profiles(contents: Contents) -> list[tuple[str, tuple[OperatorTime, ...]]]:
    return [(name, row.profile) for name, row in named_rows(contents.result) if row.profile]


def _colours() -> str:
    """Return the style sheet's colours: light, but dark on the screen of who prefers that."""
    dark = f":root {{ {style_variables(DARK)} }}"
    return (
        f":root {{ {style_variables(LIGHT)} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ {dark} }}"
    )


def _resource(name: str) -> str:
    return resources.files("qbench.report").joinpath(name).read_text(encoding="utf-8")
