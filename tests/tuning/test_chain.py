from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from qbench.tuning.chain import shortest_prefix, without_needless

NAMES = [f"n{i}" for i in range(20)]
needed_sets = st.sets(st.sampled_from(NAMES))


@given(needed_sets, st.integers(0, len(NAMES)))
def test_the_shortest_prefix_ends_with_the_last_node_that_is_needed(
    needed: set[str], first: int
) -> None:
    found = shortest_prefix(NAMES, first, lambda nodes: needed <= set(nodes))
    last = max((NAMES.index(name) for name in needed), default=-1)
    assert found == NAMES[: last + 1]


@given(needed_sets)
def test_what_is_left_is_what_is_needed(needed: set[str]) -> None:
    kept = without_needless(NAMES, lambda nodes: needed <= set(nodes))
    assert set(kept) == needed


@given(st.lists(st.sets(st.sampled_from(NAMES[:6])), min_size=1, max_size=4))
def test_no_single_node_can_go_even_where_more_float_nodes_may_be_worse(
    fitting: list[set[str]],
) -> None:
    def meets(nodes: Sequence[str]) -> bool:
        return set(nodes) in fitting or len(nodes) == 6

    kept = without_needless(NAMES[:6], meets)
    assert meets(kept)
    assert not any(meets([other for other in kept if other != node]) for node in kept)


def test_no_prefix_is_found_where_none_meets_the_budget() -> None:
    asked: list[int] = []

    def meets(nodes: Sequence[str]) -> bool:
        asked.append(len(nodes))
        return False

    assert shortest_prefix(NAMES, 2, meets) is None
    assert asked == [2, 3, 5, 9, 17, 20]


def test_few_questions_are_asked() -> None:
    asked: list[int] = []

    def meets(nodes: Sequence[str]) -> bool:
        asked.append(len(nodes))
        return len(nodes) >= 13

    assert shortest_prefix(NAMES, 0, meets) == NAMES[:13]
    assert len(asked) <= 9


def test_many_needless_nodes_go_together() -> None:
    asked: list[int] = []

    def meets(nodes: Sequence[str]) -> bool:
        asked.append(len(nodes))
        return "n1" in nodes

    assert without_needless(NAMES, meets) == ["n1"]
    assert len(asked) <= 12
