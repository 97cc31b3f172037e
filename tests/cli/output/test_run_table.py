"""A kept run as Markdown: no name ends a cell or becomes markup."""

import run_parts

from qbench.cli.output.run_table import markdown


def test_names_are_shown_as_they_are_whatever_marks_they_hold() -> None:
    rows = [run_parts.row(model=name) for name in ("a|b`c_d.onnx", "<b>*e*</b>\\.onnx")]
    lines = markdown(run_parts.result(*rows)).splitlines()
    assert lines[0].startswith("| model | precision | ")
    assert lines[2].startswith("| a\\|b\\`c\\_d.onnx | fp32 | ")
    assert lines[3].startswith("| \\<b>\\*e\\*\\</b>\\\\.onnx | fp32 | ")


def test_a_note_is_one_item_of_the_list_below() -> None:
    row = run_parts.row(notes=("first\nsecond",))
    assert "- fp32 cpu: first second" in markdown(run_parts.result(row)).splitlines()
