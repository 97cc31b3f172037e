"""Choose the nodes that stay float, by the noise that each tensor causes alone.

Where the times of kernels are known, by what their integers save; else by the work that they do.
"""

from collections.abc import Mapping
from dataclasses import replace
from operator import lt

from qbench.errors import ModelError
from qbench.formatting import percent
from qbench.placement.cut import Divider, Division
from qbench.placement.plan import Plan
from qbench.quantization.choice import Choice
from qbench.quantization.equalization import equalized_name
from qbench.quantization.fallback import GOAL, least_gain, least_shares, nodes_to_free
from qbench.quantization.int8 import Quantizer
from qbench.quantization.searching.noise import HARM
from qbench.quantization.searching.trial import Attempt, Trial

_TOLERABLE = 0.02
"""A relative noise power of the output, 17 dB, that is as bad as taking twice the time. With 16 dB,
YOLOv8n is 1.29 times as fast as FP32 and its scores' cosine 0.991, with this 1.23 and 0.994."""

_PRICES = tuple(2.0**step for step in range(-6, 7))
"""Prices of noise at which a division is looked for, relative to that of a tolerable one."""

_ROUNDS = 3
"""Times that more nodes are left float, each of which is judged."""

_DIVISIONS = 3
"""Divisions between float and integers that are judged."""

_IN_VAIN = 0.005
"""Share of the time that noise may cost, as 25 dB do, where no node could be worth freeing."""

_TOO_NOISY = "its INT8 noise costs more than the time that it saves"


def _cost(time: float, noise: float) -> float:
    """Return what a model costs that takes `time` and leaves `noise`; less is better.

    Noise counts little as long as it is small, and soon more than any time: at 25 dB half a percent
    of the time, at 20 dB an eighth, at 14 dB eight times.
    """
    return time * (1 + (noise / _TOLERABLE) ** 3)


def could_pay(noise: float, divider: Divider | None) -> bool:
    """Return whether leaving nodes float could be worth its time where the output has `noise`."""
    return noise > GOAL if divider is None else _cost(1.0, noise) > 1 + _IN_VAIN


def _best_division(divider: Divider, scale: float) -> Division:
    """Return the division of least cost.

    Args:
        divider: Knows the noise that each tensor causes alone.
        scale: What the noise of the model is, relative to the sum over its tensors.
    """
    unit = divider.float_time * scale / _TOLERABLE
    found = [divider.cheapest(price * unit) for price in (0.0, *_PRICES)]
    integer = [division for division in found if division.integers] or found[:1]
    return min(integer, key=lambda division: _cost(division.time, scale * division.noise))


def _divided(choice: Choice, division: Division) -> Choice:
    """Return `choice` with the nodes float that are so by `division`, and no others."""
    return replace(choice, float_nodes=dict.fromkeys(sorted(division.floats), _TOO_NOISY))


def best_divided(best: Trial, divider: Divider, start: Division, attempt: Attempt) -> Trial:
    """Return the trial of least cost in time and noise.

    Noises that tensors cause alone do not quite add up to that of the model. So the ratio of the
    two is taken from what was judged last.

    Args:
        best: What was judged with all on integers that may be.
        divider: Divides further.
        start: The division of least time.
        attempt: Judges a choice.
    """
    tried = {start: attempt(_divided(best.choice, start)) if start.floats else best}
    division = start
    for _ in range(_DIVISIONS):
        scale = tried[division].noise / division.noise if division.noise else 0.0
        division = _best_division(divider, scale)
        if division in tried:
            break
        tried[division] = attempt(_divided(best.choice, division))
    return min(tried.items(), key=lambda pair: _cost(pair[0].time, pair[1].noise))[1]


def freed_by_work(
    best: Trial, quantizer: Quantizer, alone: Mapping[str, float], attempt: Attempt
) -> Trial:
    """Return the trial with the least noise, as more nodes are left float.

    Noise of the output is limited, so that of a ruined model says little of what will be left, and
    the first nodes to be freed may do no visible good: so more are, where the output is still
    harmed.

    Args:
        best: What was found so far.
        quantizer: Of the model.
        alone: The noise that each tensor causes alone.
        attempt: Judges a choice.
    """
    last = best
    for _ in range(_ROUNDS):
        choice = freed(quantizer, last.choice, last.graph.plan, last.noise, alone)
        if choice.float_nodes == last.choice.float_nodes:
            break
        last = attempt(choice)
        best = min(best, last, key=lambda trial: trial.noise)
        if last.noise <= HARM:
            break
    return best


def freed(
    quantizer: Quantizer, choice: Choice, plan: Plan, noise: float, alone: Mapping[str, float]
) -> Choice:
    """Return `choice` with the nodes float whose tensors disturb the output most.

    Only the outcome should be judged: any change lets all errors behind it fall otherwise, so that
    the judged noise of one set of nodes and of the next differ by chance as much as one node in
    twenty matters.

    Args:
        quantizer: Of the model.
        choice: What was found so far.
        plan: What it quantizes.
        noise: What it leaves: relative noise power of the output.
        alone: The noise that each tensor causes alone.
    """
    kept = quantizer.work.shares_kept(plan)[1]
    tensors = {tensor for tensor in alone if {tensor, equalized_name(tensor)} & set(plan.observed)}
    left = whole = sum(alone[tensor] for tensor in tensors) or 1.0
    for tensor in sorted(tensors, key=lambda tensor: -alone[tensor]):
        now = noise * left / whole
        if now <= GOAL or alone[tensor] <= least_gain(0) * left:
            break
        candidate = _without(quantizer, tensor, alone[tensor] / left, choice)
        shares = _shares_kept(quantizer, candidate.float_nodes)
        if shares is None or any(map(lt, shares, least_shares(now))):
            continue
        work = shares[1]
        if alone[tensor] >= least_gain(kept - work) * left:
            choice, kept, left = candidate, work, left - alone[tensor]
    return choice


def _shares_kept(
    quantizer: Quantizer, float_nodes: Mapping[str, str]
) -> tuple[float, float] | None:
    """Return the shares of nodes and of work that float nodes leave in INT8; None for nothing.

    Of the model without factors, which takes a twentieth of the time: where a tensor is equalized,
    the same nodes read it.
    """
    try:
        _, plan = quantizer.placed(Choice(float_nodes=float_nodes))
    except ModelError:
        return None
    return quantizer.work.shares_kept(plan)


def _without(quantizer: Quantizer, tensor: str, share: float, base: Choice) -> Choice:
    """Return `base` with `tensor` left float, which makes a `share` of the noise that is left."""
    reason = f"in INT8, tensor {tensor} would make {percent(share)} of the noise that is left"
    nodes = nodes_to_free(quantizer.prepared.ir.graph, quantizer.plan, tensor)
    factors = {name: by for name, by in base.factors.items() if name != tensor}
    floats = dict.fromkeys(nodes, reason) | dict(base.float_nodes)
    return Choice(base.ranges, factors, floats)
