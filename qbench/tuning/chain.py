"""Which nodes must be float, found with few trials: over names and a question, nothing else."""

from collections.abc import Callable, Sequence

Meets = Callable[[Sequence[str]], bool]
"""Tells whether a model with these nodes float meets its budget; False where nobody knows."""


def shortest_prefix(order: Sequence[str], first: int, meets: Meets) -> Sequence[str] | None:
    """Return the shortest prefix of `order` that is found to meet the budget, or None.

    Looks at the first `first` nodes, from there on in growing steps until a prefix meets it, and
    then halves what lies between that one and the longest that does not.

    Args:
        order: Nodes in the order in which they shall be freed.
        first: Length of the prefix to start with.
        meets: Tells whether a prefix meets the budget.
    """
    low, high, step = -1, first, 1
    while not meets(order[:high]):
        if high == len(order):
            return None
        low, high, step = high, min(high + step, len(order)), 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if meets(order[:middle]) else (middle, high)
    return order[:high]


def without_needless(nodes: Sequence[str], meets: Meets) -> Sequence[str]:
    """Return `nodes` less those that need not be float, so that none of the rest can go alone.

    Tries to do without half of them, the last ones first, then without smaller and smaller parts
    (after the ddmin algorithm of Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing
    Input, 2002); single nodes again and again, until none can go.
    """
    kept, size = list(nodes), max(len(nodes) // 2, 1)
    while True:
        before = kept
        for part in reversed(_parts(before, size)):
            fewer = [node for node in kept if node not in part]
            kept = fewer if meets(fewer) else kept
        if size == 1 and kept == before:
            return kept
        size = max(size // 2, 1)


def _parts(nodes: Sequence[str], size: int) -> list[Sequence[str]]:
    return [nodes[start : start + size] for start in range(0, len(nodes), size)]
