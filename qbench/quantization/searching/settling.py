"""Take those settlements of single tensors that do the whole model good."""

from collections.abc import Sequence
from functools import reduce

from qbench.quantization.searching.noise import HARM
from qbench.quantization.searching.refine import Settlement
from qbench.quantization.searching.trial import Rivalry, Trial

_SPLIT = 4
"""Settlements of a group that harms, of which each half is tried."""

_HEARD = 0.01
"""Share of the noise that a group promises to take, or is not tried, and by which it makes the
noise worse whose members may do good as well. Of a text classifier, groups of less were a quarter
of all that was written to be judged, and none of them did good. Of a harmed model, what tensors do
alone tells less."""


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
        if _promised(group) < best.noise * _HEARD and best.noise <= HARM:
            continue
        candidate = rival(reduce(lambda c, one: one.added_to(c), group, best.choice), best)
        if candidate.is_better_than(best):
            best, taken = candidate, taken + len(group)
        elif len(group) >= _SPLIT and candidate.noise > best.noise * (1 + _HEARD):
            middle = len(group) // 2
            pending[:0] = [group[:middle], group[middle:]]
    return best, taken


def _promised(group: Sequence[Settlement]) -> float:
    """Return how much less noise settlements leave if their gains alone add up."""
    return sum(settlement.gain for settlement in group)


def _growing(settlements: Sequence[Settlement]) -> list[Sequence[Settlement]]:
    """Return groups of 1, 2, 4, ... settlements."""
    groups, start = [], 0
    while start < len(settlements):
        groups.append(settlements[start : 2 * start + 1])
        start = 2 * start + 1
    return groups
