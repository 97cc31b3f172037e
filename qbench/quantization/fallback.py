"""Leave float what INT8 ruins: the smallest number of nodes that brings the output back."""

from collections.abc import Mapping, Set
from dataclasses import dataclass

import onnx_ir as ir

from qbench.placement.analysis import COMPUTE
from qbench.placement.cpu import final_output
from qbench.placement.plan import Plan

GOAL = 0.002
"""Relative noise power of the output that needs no mending at all: 27 dB."""

_ALLOWANCES = ((0.004, 0.95, 0.98), (0.03, 0.9, 0.95), (0.3, 0.75, 0.75), (1.0, 0.0, 0.0))
"""What may be spent: up to this noise of the output, these shares of the planned compute nodes and
of their work must stay in INT8. Above 24 dB of signal to noise a model is worth 2 % of its work,
above 15 dB 5 %; below, it is harmed, and below 5 dB ruined, where there is no limit. Where a
quarter was given from 10 dB on only, a text detector stayed at 11 dB with all of it in INT8."""

_PRICE = 5.0
_LEAST_GAIN = 0.02


def least_gain(work: float) -> float:
    """Return the share of the output's noise that leaving `work` float must take away.

    Five times the share of the work that is lost to INT8, but more than chance can give.
    """
    return max(_LEAST_GAIN, _PRICE * work)


def least_shares(noise: float) -> tuple[float, float]:
    """Return the shares of nodes and of work that must stay INT8 while the output has `noise`."""
    return next((nodes, work) for limit, nodes, work in _ALLOWANCES if noise <= limit)


@dataclass(frozen=True)
class Work:
    """The multiplications of a model.

    Attributes:
        macs: Multiply-accumulates by node name, also of recurrent layers, which no target
            quantizes; empty where they are not known.
        compute: Names of all compute nodes.
        planned: Those that the target quantizes as long as none is kept float.
    """

    macs: Mapping[str, int]
    compute: Set[str]
    planned: Set[str]

    def shares_kept(self, plan: Plan) -> tuple[float, float]:
        """Return the shares of compute nodes and of their work that `plan` quantizes.

        Of all of them; where the target alone leaves more than a twentieth float, of the others.
        """
        kept = self.compute & set(plan.quantized)
        whole, planned, left = (self._macs(names) for names in (self.compute, self.planned, kept))
        by_count = _share(len(kept), len(self.planned), len(self.compute))
        return by_count, _share(left, planned, whole)

    def int8_fraction(self, plan: Plan) -> float | None:
        """Return the share of multiply-accumulates in quantized nodes; None where it is unknown."""
        whole = sum(self.macs.values())
        return self._macs(self.compute & set(plan.quantized)) / whole if whole else None

    def _macs(self, names: Set[str]) -> int:
        return sum(self.macs.get(name, 0) for name in names)


def work_of(graph: ir.Graph, plan: Plan, macs: Mapping[str, int]) -> Work:
    """Return the work of a graph; `plan` keeps no node float but those that the target must."""
    compute = {node.name or "" for node in graph if node.op_type in COMPUTE}
    return Work(macs, compute, compute & set(plan.quantized))


def nodes_to_free(graph: ir.Graph, plan: Plan, tensor: str) -> set[str]:
    """Return the planned nodes that must be float for `tensor` to be float.

    Those that read it; and where the plan quantizes outputs (`cpu`), or none of them is planned,
    those that write it.
    """
    planned = set(plan.quantized)
    same = [activation for activation in plan.activations if activation.scale_from == tensor]
    names = {reader.node for activation in same for reader in activation.readers}
    if not plan.symmetric or not names & planned:
        tensors = {activation.tensor for activation in same}
        writers = {n.name or "" for n in graph if final_output(n).name in tensors}
        names |= writers - set(plan.products)
    return names & planned


def _share(kept: int, planned: int, whole: int) -> float:
    base = whole if planned >= 0.95 * whole else planned
    return kept / base if base else 1.0
