import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbench.engines.compiling.progress import BuildProgress
from qbench.engines.compiling.protocol import Progress

PHASES = st.sampled_from("abc")
EVENTS = st.builds(
    Progress,
    PHASES,
    st.none() | PHASES,
    st.integers(0, 9),
    st.integers(0, 9),
)


def test_a_phase_is_one_step_of_its_parent() -> None:
    progress = BuildProgress()
    events = [
        (Progress("build", None, 0, 2), 0.0),
        (Progress("parse", "build", 1, 2), 0.25),
        (Progress("fold", "parse", 1, 4), 0.25 + 0.25 / 4),
        (Progress("parse", "build", 2, 2), 0.5),
        (Progress("build", None, 1, 2), 0.5),
        (Progress("time", "build", 1, 4), 0.5 + 0.5 / 4),
        (Progress("build", None, 2, 2), 1.0),
    ]
    for event, expected in events:
        assert progress.after(event) == pytest.approx(expected)


@given(st.lists(EVENTS))
def test_it_never_falls_nor_exceeds_one(events: list[Progress]) -> None:
    progress = BuildProgress()
    fractions = [progress.after(event) for event in events]
    assert fractions == sorted(fractions)
    assert all(0 <= fraction <= 1 + 1e-9 for fraction in fractions)
