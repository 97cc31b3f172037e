"""Divide a graph between float and integers at the least cost: a minimum cut.

Every node costs its time on the side where it ends up, and every tensor that changes sides costs a
pass over it. A tensor that an integer node reads or writes is rounded, which costs its noise, at a
price. The cheapest division is the minimum cut of a network whose source is float and whose sink is
integer (the project selection problem: Picard, "Maximal Closure of a Graph", 1976).

NetworkX takes a fifth of a second to import, so only what really cuts loads it: where every node
saves time by itself, the cheapest division is known without.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import permutations
from types import MappingProxyType
from typing import NamedTuple

import onnx_ir as ir

from qbench.model.graph import values_by_name
from qbench.placement.cpu import final_output, moves
from qbench.placement.cpu_times import NodeTime, dequantize_time, node_time, quantize_time
from qbench.placement.plan import Plan


class _Tensor(NamedTuple):
    name: str


_End = str | _Tensor
"""A vertex of the network: a node, by its name, or a tensor."""

_FLOAT, _INTEGER = "(float)", "(integer)"
"""Source and sink."""

_Edge = tuple[_End, _End]

_Capacities = dict[_Edge, int]
"""Nanoseconds by edge; an edge that is not among them has no limit."""


class _Cost(NamedTuple):
    time: float
    noise: float


_FAVOURS = (1.0, 1.05, 1.1, 1.2, 1.3, 1.5, 2.0, 3.0, 4.0)
"""What nodes may take on integers, relative to float, where nothing is faster."""

_SMALL = 600.0
"""Microseconds of nodes that could be quantized. Fitted times are too long for tensors that stay in
a cache: of a model of 480, all INT8 should have been 0.76 times as fast as float, and was 1.24."""


_FASTER = "takes no longer in float on a CPU"


@dataclass(frozen=True)
class Division:
    """One division of a graph.

    Attributes:
        floats: Names of the nodes that are float though the plan could quantize them.
        integers: Number of the nodes that it leaves on integers.
        time: Microseconds of all nodes that the plan could quantize, and of passes between sides.
        noise: Relative noise power of the output that the quantized tensors cause together.
    """

    floats: frozenset[str]
    integers: int
    time: float
    noise: float


class Divider:
    """Divides the nodes that a plan could quantize.

    Args:
        graph: The prepared graph, with static shapes.
        values: Its tensors by name.
        plan: What could be quantized.
        times: Of each node that the plan quantizes, by name.
        noise: Relative noise power of the output that each tensor causes alone, by `scale_from`.
    """

    def __init__(
        self,
        graph: ir.Graph,
        values: Mapping[str, ir.Value],
        plan: Plan,
        times: Mapping[str, NodeTime],
        noise: Mapping[str, float],
    ) -> None:
        self._times = times
        self._costs: dict[_Edge, _Cost | None] = {}
        for name, time in times.items():
            self._join(_FLOAT, name, time.in_int8)
            self._join(name, _INTEGER, time.in_float)
        writing = times.keys() - set(plan.products)  # which write floats in any case
        writers = {final_output(n).name or "": n.name or "" for n in graph if n.name in writing}
        for source in plan.observed:
            tensor, writer = _Tensor(source), writers.get(source)
            self._join(_FLOAT, tensor, noise=noise.get(source, 0.0))
            self._join(writer or _FLOAT, tensor, quantize_time(values[source]))
            if writer is not None:
                self._tie(tensor, writer)
        for activation in plan.activations:
            source = activation.scale_from
            self._join_readers(values[activation.tensor], _Tensor(source), writers.get(source))
        self._join_streams(graph, plan.products)

    @property
    def float_time(self) -> float:
        """Microseconds of the nodes in float."""
        return sum(time.in_float for time in self._times.values())

    def cheapest(self, price: float = 0.0, favour: float = 1.0) -> Division:
        """Return the cheapest division where one unit of noise is worth `price` microseconds.

        The higher the price, the more nodes are float: those of a lower price are among them.

        Args:
            price: Of noise.
            favour: Times that a node may take on integers, relative to its time in float.
        """
        capacities = {
            (one, other): round(
                # Whole nanoseconds: with fractions the cut found is not always the least.
                1e3 * (cost.time * (favour if other == _INTEGER else 1.0) + price * cost.noise)
            )
            for (one, other), cost in self._costs.items()
            if cost is not None
        }
        is_known = self._surely_all_integer(capacities)
        floats = {_FLOAT} if is_known else self._float_side(capacities)
        paid = [
            cost
            for (one, other), cost in self._costs.items()
            if cost is not None and one in floats and other not in floats
        ]
        names = frozenset(name for name in self._times if name in floats)
        return Division(
            names,
            len(self._times) - len(names),
            sum(cost.time for cost in paid),
            sum(cost.noise for cost in paid),
        )

    def fastest(self) -> Division | None:
        """Return the division of least time among those that leave something on integers.

        Where integers save no time anywhere, they go where they lose least; None where they would
        take several times as long, and for models so small that these times say nothing.
        """
        favours = _FAVOURS if self.float_time > _SMALL else _FAVOURS[:1]
        divisions = (self.cheapest(favour=favour) for favour in favours)
        return next((division for division in divisions if division.integers), None)

    def _join_readers(self, value: ir.Value, tensor: _Tensor, writer: str | None) -> None:
        """Let integer readers quantize a tensor, and float ones wait for what integers wrote."""
        for usage in value.uses():
            name = usage.node.name or ""
            if name in self._times:
                self._tie(tensor, name)
            if writer is not None and not moves(usage.node):
                side = name if name in self._times else _FLOAT
                self._join(side, writer, dequantize_time(value, usage.node))

    def _join_streams(self, graph: ir.Graph, products: Collection[str]) -> None:
        """Let float nodes amid a residual stream wait for channels that come last elsewhere.

        So do convolutions that read it, and Adds one term of which a float convolution writes.
        """
        behind: dict[ir.Value, str] = {}  # one of the products that write a stream
        for node in graph:
            name, written = node.name or "", node.outputs[0]
            read = {value: behind[value] for value in node.inputs if value in behind}
            if name in products:
                behind[written] = name
            elif node.op_type == "Add" and name not in self._times and read:
                behind[written] = next(iter(read.values()))
                for one, other in permutations(dict.fromkeys(read.values()), 2):
                    self._join(one, other, dequantize_time(written, node))
            for value, product in read.items() if name in self._times else ():
                self._join(name, product, dequantize_time(value, node))

    def _surely_all_integer(self, capacities: _Capacities) -> bool:
        """Return whether it is plain that nothing is float in any least cut.

        One node after the other is found to be integer in all of them. In a cut where a node is
        float, let it be integer, and with it the tensors that are tied to it; tensors themselves
        need nothing else. This saves the node's edges to what is integer: to the sink and to what
        was found before. It costs, at most, all edges that come to the node and these tensors from
        elsewhere, but for those from what was found before. So where it saves more than it costs,
        the cut was not a least one.
        """
        into: dict[_End, list[tuple[_End, int]]] = defaultdict(list)
        out_of: dict[_End, list[tuple[_End, int]]] = defaultdict(list)
        for (one, other), nanoseconds in capacities.items():
            into[other].append((one, nanoseconds))
            out_of[one].append((other, nanoseconds))
        groups: dict[_End, set[_End]] = {name: {name} for name in self._times}
        for one, other in self._costs.keys() - capacities.keys():
            groups[other].add(one)
        found: set[_End] = {_INTEGER}
        left = list(self._times)
        while left:
            pending, left = left, []
            for name in reversed(pending):
                group = groups[name]
                saved = sum(cost for end, cost in out_of[name] if end in found)
                coming = (edge for end in group for edge in into[end] if edge[0] not in group)
                if saved > sum(cost for end, cost in coming if end not in found):
                    found |= group
                else:
                    left.append(name)
            if len(left) == len(pending):
                return False
        return all(other in found for _, other in self._costs)

    def _float_side(self, capacities: _Capacities) -> set[_End]:
        """Return the source and all that is float in the least cut."""
        import networkx as nx

        network: nx.DiGraph[_End] = nx.DiGraph()
        for edge in self._costs:
            network.add_edge(*edge)
            if edge in capacities:
                network.edges[edge]["capacity"] = capacities[edge]
        _, (floats, _) = nx.minimum_cut(network, _FLOAT, _INTEGER)
        return set(floats)

    def _join(self, one: _End, other: _End, time: float = 0.0, noise: float = 0.0) -> None:
        """Let it cost something that `one` is float and `other` integer."""
        known = self._costs.get((one, other), _Cost(0.0, 0.0))
        if known is not None:
            self._costs[one, other] = _Cost(known.time + time, known.noise + noise)

    def _tie(self, one: _Tensor, other: str) -> None:
        """Forbid that `one` is float and `other` integer."""
        self._costs[one, other] = None


def faster_in_float(bound: ir.Model | None, plan: Plan, macs: Mapping[str, int]) -> dict[str, str]:
    """Return the planned nodes that integers make no faster, and that reason, by name.

    Args:
        bound: See `divider_of`.
        plan: See `divider_of`.
        macs: See `divider_of`.
    """
    divider = divider_of(bound, plan, macs)
    division = divider.fastest() if divider else None
    return dict.fromkeys(division.floats, _FASTER) if division else {}


def divider_of(
    bound: ir.Model | None,
    plan: Plan,
    macs: Mapping[str, int],
    noise: Mapping[str, float] = MappingProxyType({}),
) -> Divider | None:
    """Return what divides a plan; None where times are not known, as on other targets than `cpu`.

    Args:
        bound: The prepared model, with static shapes; None where they are not known.
        plan: What could be quantized.
        macs: Multiply-accumulates by node name.
        noise: See `Divider`.
    """
    if bound is None or plan.target != "cpu":
        return None
    graph = bound.graph
    nodes = {node.name or "": node for node in graph}
    known = ((n, node_time(nodes[n], macs.get(n, 0))) for n in plan.quantized if n in nodes)
    times = {name: time for name, time in known if time is not None}
    values = values_by_name(graph)
    if len(times) < len(plan.quantized) or any(a.tensor not in values for a in plan.activations):
        return None
    return Divider(graph, values, plan, times, noise)
