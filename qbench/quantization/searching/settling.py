"""Take those settlements of single tensors that do the whole model good."""

from collections.abc import Sequence
from functools import reduce

from qbench.quantization.searching.refine import Settlement
from qbench.quantization.searching.trial import Rivalry, Trial

_SPLIT = 4
"""Settlements of a group that harms, of which each half is tried."""

_HEARD = 1.01
"""Noise, relative to that before, of a group whose members do harm and may do good as well."""


def settled(best: Trial, settlements: Sequence[Settlement], rival: Rivalry) -> tuple[Trial, int]:
    """Return `best` with those settlements that make it better, and how many these are.

    What helps a tensor alone, on few samples, need not help the model. So settlements are taken in
    ever larger groups, those that gain most first; of a group that harms, each half is.

    Args:
        best: What was found so far.
        settlements: Of tensors, those that gain most first.
        rival: Judges a choice against the best.
    """
    pending, taken = _growing(settlements), 0
    while pending:
        group = pending.pop(0)
        candidate = rival(reduce(lambda c, one: one.added_to(c), group, best.choice), best)
        if candidate.is_better_than(best):
            best, taken = candidate, taken + len(group)
        elif len(group) >= _SPLIT and candidate.noise > best.noise * _HEARD:
            middle = len(group) // 2
            pending[:0] = [group[:middle], group[middle:]]
    return best, taken


def _growing(settlements: Sequence[Settlement]) -> list[Sequence[Settlement]]:
    """Return groups of 1, 2, 4, ... settlements."""
    groups, start = [], 0
    while start < len(settlements):
        groups.append(settlements[start : 2 * start + 1])
        start = 2 * start + 1
    return groups
