"""What commands print."""

import pytest
from rich.table import Table

from qbench.cli.output.render import print_table


@pytest.mark.parametrize("name", ["a[/b]c", "m[b]x.engine", "block:x:out"])
def test_names_in_tables_are_no_markup(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("layer", box=None)
    table.add_row(name)
    print_table(table)
    assert capsys.readouterr().out.split() == ["layer", name]
