import altair as alt
from hypothesis import given
from hypothesis import strategies as st

from qbench.report.charts.labels import Name, Spot, apart, placed
from qbench.report.theme import PLAIN

SCALES = alt.Scale(domain=[1.0, 10.0]), alt.Scale(domain=[0.0, 100.0])


def name(left: float, y: float, width: float = 50.0) -> Name:
    spot = Spot(1.0, 1.0, "name")
    return Name(spot, left - 9.0, left, left + width, y, is_before=False, shift=9.0)


@given(st.lists(st.tuples(st.floats(0, 300), st.floats(0, 200)), max_size=10))
def test_no_name_lies_on_another_or_on_a_point(places: list[tuple[float, float]]) -> None:
    moved = apart([name(*place) for place in places])
    assert len(moved) == len(places)
    for i, a in enumerate(moved):
        for b in moved[:i]:
            meets = a.left < b.right and b.left < a.right
            assert not meets or abs(a.y + a.shift - b.y - b.shift) >= 14.999
        for b in moved:
            is_over = a is not b and a.left < b.x + 6 and b.x - 6 < a.right
            assert not is_over or abs(a.y + a.shift - b.y) >= 11.999


def test_names_with_room_stay_where_they_are() -> None:
    assert [found.shift for found in apart([name(0, 10), name(0, 60), name(100, 10)])] == [9.0] * 3


def test_a_name_at_the_right_edge_stands_left_of_its_point() -> None:
    spots = [Spot(1.1, 50.0, "a first name"), Spot(9.9, 50.0, "a second name")]
    layers = placed(spots, PLAIN, 300, SCALES)
    shown = [(layer.mark.align, layer.data.values[0]["text"]) for layer in layers[1::2]]
    assert shown == [("right", "a second name"), ("left", "a first name")]


def test_nothing_to_name() -> None:
    assert placed([], PLAIN, 300, SCALES) == []
