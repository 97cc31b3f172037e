"""What commands print."""

import pytest
from rich.table import Table

from qbench.cli.output.render import print_floats, print_not_int8, print_table
from qbench.engines.auditing.engine import NodeFinding
from qbench.placement.plan import FloatNode


@pytest.mark.parametrize("name", ["a[/b]c", "m[b]x.engine", "block:x:out"])
def test_names_in_tables_are_no_markup(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("layer", box=None)
    table.add_row(name)
    print_table(table)
    assert capsys.readouterr().out.split() == ["layer", name]


def test_nodes_that_stay_float_for_one_reason_share_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    convs = [FloatNode(f"conv{number}", "Conv", "not for INT4") for number in range(5)]
    print_floats(2, [convs[0], FloatNode("fc", "Gemm", "excluded by name"), *convs[1:]])
    first, second = capsys.readouterr().out.splitlines()
    assert first == "  float     conv0, conv1, conv2 and 2 more (Conv): not for INT4"
    assert second == "  float     fc (Gemm): excluded by name"


def test_audited_nodes_share_a_line_where_type_and_reason_are_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    nodes = [NodeFinding(f"conv{i}", "Conv", "Float", "as fast in float") for i in range(5)]
    half = NodeFinding("head", "Conv", "Half", "as fast in float")
    print_not_int8(2, [*nodes[:2], half, *nodes[2:]])
    first, second = capsys.readouterr().out.splitlines()
    assert first == "  Float     conv0, conv1, conv2 and 2 more (Conv): as fast in float"
    assert second == "  Half      head (Conv): as fast in float"


def test_lines_of_tables_end_without_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("layer", "long title", box=None)
    table.add_row("conv", "1")
    print_table(table)
    assert all(line == line.rstrip() for line in capsys.readouterr().out.splitlines())
