"""The table in HTML is well formed, escaped, and has no script."""

from xml.etree import ElementTree

from msgspec.structs import replace
from runs_to_show import HOSTILE, hostile_contents, result_to_show, rows

from qbench.benchmarking.presentation.html_table import table_html


def parsed(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(f"<div>{html}</div>")


def test_each_row_moves_with_its_notes() -> None:
    bodies = parsed(table_html(result_to_show())).findall("table/tbody")
    assert len(bodies) == len(rows())
    failed = [["".join(cell.itertext()) for cell in line] for line in bodies[7]]
    assert failed[0][:2] == ["fp8", "tensorrt"]
    assert failed[1] == ["FP8 needs a GPU of compute capability 8.9; this one has 8.6"]
    assert bodies[7][1].get("class") == "error"
    assert bodies[8][1].get("class") == "note"


def test_cells_hold_what_sorts_them_but_where_there_is_nothing() -> None:
    table = parsed(table_html(result_to_show()))
    titles = ["".join(head.itertext()) for head in table.iter("th")]
    place = titles.index("speed-up")
    keys = [body[0][place].get("data-sort") for body in table.iter("tbody")]
    assert keys == ["1.0", "0.84", "2.13", "1.003", "5.2", "9.8", "9.6", None, None]


def test_a_notebook_shows_the_table_and_what_it_bears() -> None:
    html = result_to_show()._repr_html_()
    assert parsed(html).find("table") is not None
    assert "Timings passed their control" in html
    assert "<script" not in html


def test_markup_in_names_is_text() -> None:
    result = hostile_contents().result
    table = parsed(table_html(replace(result, rows=(*result.rows, rows()[0]))))
    assert {element.tag for element in table.iter()} == {
        *("div", "table", "thead", "tbody", "tr", "th", "td", "span")
    }
    assert HOSTILE in "".join(table.itertext())
