import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbench.report.charts.common import by_precision, log_scale, record, ticks
from qbench.report.theme import DARK, LIGHT, NARROW, PLAIN, WIDE, style_variables


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0.28, 0.48, [0.3, 0.35, 0.4, 0.45]),
        (0.4, 5.2, [0.5, 1.0, 2.0, 5.0]),
        (0.9, 2000.0, [1.0, 10.0, 100.0, 1000.0]),
        (0.97, 1.04, [0.98, 1.0, 1.02, 1.04]),
    ],
)
def test_ticks_are_round(low: float, high: float, wanted: list[float]) -> None:
    assert ticks(low, high) == wanted


@given(st.floats(1e-4, 1e4), st.floats(1.05, 1e4))
def test_there_are_always_some_ticks_and_never_a_crowd(low: float, ratio: float) -> None:
    found = ticks(low, low * ratio)
    assert 1 <= len(found) <= 12
    assert all(low * 0.999 <= tick <= low * ratio * 1.001 for tick in found)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=8))
def test_a_scale_holds_all_its_values_with_room(values: list[float]) -> None:
    scale, _ = log_scale(values)
    low, high = scale.domain
    assert 0 < low < min(values) <= max(values) < high


def test_a_record_tells_its_facts_one_a_line() -> None:
    assert record({"row": "int8 cpu", "median": "2 ms"}, ms=2.0) == {
        "ms": 2.0,
        "row": "int8 cpu",
        "median": "2 ms",
        "tip": "row: int8 cpu\nmedian: 2 ms",
    }


def test_colours_go_by_precision_and_an_unknown_one_has_its_own() -> None:
    names = ["int8", "fp32", "int8", "int2"]
    scale = by_precision([{"precision": name} for name in names], PLAIN).to_dict()["scale"]
    assert scale["domain"] == ["int8", "fp32", "int2"]
    assert scale["range"] == [LIGHT["int8"], LIGHT["fp32"], LIGHT["other"]]


def test_the_page_has_every_colour_in_both_schemes() -> None:
    assert LIGHT.keys() == DARK.keys() == WIDE.colours.keys()
    assert WIDE["int8"] == "var(--int8)"
    assert "--int8: #d55e00;" in style_variables(LIGHT)
    assert (WIDE.is_narrow, NARROW.is_narrow) == (False, True)


def contrast(colour: str, paper: str) -> float:
    """WCAG 2's contrast ratio."""

    def luminance(text: str) -> float:
        parts = [int(text[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(colour), luminance(paper)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_marks_stand_out_from_the_paper(colours: dict[str, str]) -> None:
    paper = colours["paper"]
    for name in ("ink", "muted", "accent", "alarm"):
        assert contrast(colours[name], paper) >= 4.5, name
        assert contrast(colours[name], colours["band"]) >= 4.5, name
    marks = ("fp32", "fp16", "bf16", "fp8", "int8", "int4", "weight-only", "dynamic", "other")
    for name in marks:
        assert contrast(colours[name], paper) >= 2.8, name
