"""Colours and type of the charts and of the page.

The hues of precisions follow Okabe and Ito's set, which people with any colour vision tell apart;
shapes and labels say the same again.
"""

from collections.abc import Mapping
from dataclasses import dataclass

FONT = "Helvetica, Arial, sans-serif"

LIGHT = {
    "paper": "#ffffff",
    "ink": "#1b222c",
    "muted": "#5a6675",
    "line": "#dde2e8",
    "band": "#eef1f5",
    "accent": "#0b5fa5",
    "alarm": "#a83200",
    "fp32": "#3d4653",
    "fp16": "#0072b2",
    "bf16": "#3a9bd1",
    "fp8": "#b3629a",
    "int8": "#d55e00",
    "int4": "#009270",
    "weight-only": "#c98a00",
    "dynamic": "#867d00",
    "other": "#7b8794",
}

DARK = {
    "paper": "#14181e",
    "ink": "#e6eaef",
    "muted": "#9aa6b4",
    "line": "#2d3540",
    "band": "#1e242c",
    "accent": "#6cb6f2",
    "alarm": "#ff9a70",
    "fp32": "#c8d0da",
    "fp16": "#4ba6e6",
    "bf16": "#9ad4f7",
    "fp8": "#e49cca",
    "int8": "#f58a42",
    "int4": "#3ecb9f",
    "weight-only": "#f2b93f",
    "dynamic": "#d6cc57",
    "other": "#8e9aa8",
}


@dataclass(frozen=True)
class Theme:
    """How a chart is drawn.

    Attributes:
        width: Of the whole chart, in pixels.
        colours: By the names of `LIGHT`.
    """

    width: int
    colours: Mapping[str, str]

    @property
    def is_narrow(self) -> bool:
        """Whether it is for a telephone."""
        return self.width < 500

    def __getitem__(self, name: str) -> str:
        """Return a colour; of an unknown name, that of `other`."""
        return self.colours.get(name, self.colours["other"])


PLAIN = Theme(720, LIGHT)
"""For notebooks and image files: colours as they are."""

_VARIABLES = {name: f"var(--{name})" for name in LIGHT}

WIDE, NARROW = Theme(560, _VARIABLES), Theme(340, _VARIABLES)
"""For the page, whose style sheet sets the colours by the reader's scheme."""


def style_variables(colours: Mapping[str, str]) -> str:
    """Return the colours as custom properties of a style sheet."""
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())
