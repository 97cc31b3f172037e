"""Find out how much noise each tensor causes alone, in as few runs as it takes."""

from collections.abc import Mapping
from heapq import heappop, heappush

from qbench.calibration.ranges import rounding_noise
from qbench.quantization.int8 import Quantizer
from qbench.quantization.searching.probe import GLANCE, Probe, Scaling

Scalings = Mapping[str, Scaling]

_WORTH_A_LOOK = 0.01
"""Share of the whole noise that a group may cause unseen: half of what leaving a tensor float must
take away. Of a ViT's 98 tensors, less than half are looked at, and none that matters is missed."""

_FEW = 4
"""Members of a group each of which is looked at: halves of it would take as many glances."""


def noise_of_each(
    probe: Probe, scalings: Scalings, whole: float, least: float, runs: int
) -> dict[str, float]:
    """Return the noise that each tensor causes alone; see `noise_by_halves` where runs are few.

    Args:
        probe: What tells the noise.
        scalings: Of the tensors.
        whole: The noise that they cause together.
        least: Noise that matters.
        runs: What may be spent.
    """
    if runs >= GLANCE * len(scalings):
        return {tensor: probe.glance({tensor: one}) for tensor, one in scalings.items()}
    return noise_by_halves(probe, scalings, whole, least, runs)


def noise_of_worst(probe: Probe, scalings: Scalings, quantizer: Quantizer) -> dict[str, float]:
    """Return the noise that each tensor causes alone, exactly of those worth leaving float.

    Those that lose most by rounding come first: they need not be what the output suffers from, but
    where they are, most of the others are seen in large groups.
    """
    lost = {
        tensor: rounding_noise(quantizer.statistics_of(tensor), one.range)
        for tensor, one in scalings.items()
    }
    ordered = {tensor: scalings[tensor] for tensor in sorted(lost, key=lambda name: -lost[name])}
    whole = probe.glance(scalings)
    return noise_by_halves(probe, ordered, whole, _WORTH_A_LOOK * whole, probe.left)


def noise_by_halves(
    probe: Probe, scalings: Scalings, whole: float, least: float, runs: int
) -> dict[str, float]:
    """Return the noise that each tensor causes alone, from that of ever smaller groups.

    Halves of them all are tried, then halves of what harms, the most harmful first. Tensors that
    cause less than `least` together get equal shares of it, and so do those of groups for which no
    runs are left.
    """
    until = probe.left - runs
    found: dict[str, float] = {}
    pending = [(-whole, 0, list(scalings))]
    while pending:
        noise, _, names = heappop(pending)
        if -noise < least or len(names) == 1 or probe.left <= until:
            found.update(dict.fromkeys(names, -noise / len(names)))
            continue
        for part in _parts(names):
            noise = probe.glance({name: scalings[name] for name in part})
            heappush(pending, (-noise, len(pending) + len(found), part))
    return found


def _parts(names: list[str]) -> list[list[str]]:
    """Return the halves of a group, and each member of one so small that halves save nothing."""
    if len(names) <= _FEW:
        return [[name] for name in names]
    middle = len(names) // 2
    return [names[:middle], names[middle:]]
