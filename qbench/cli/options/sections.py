"""A command whose many options are listed in sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

_OTHERS = "Options"


class SectionedCommand(click.Command):
    """Lists its options under the titles of `sections`, and those in none of them last."""

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[str]], **kwargs: Any) -> None:
        """Make the command.

        Args:
            args: As `click.Command` takes them.
            sections: Names of parameters by title.
            kwargs: As `click.Command` takes them.
        """
        super().__init__(*args, **kwargs)
        self._sections = sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, section by section."""
        rows: dict[str, list[tuple[str, str]]] = {title: [] for title in (*self._sections, _OTHERS)}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                rows[self._title(parameter.name)].append(record)
        for title, records in rows.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records, col_max=24)

    def _title(self, name: str | None) -> str:
        return next((title for title, names in self._sections.items() if name in names), _OTHERS)
