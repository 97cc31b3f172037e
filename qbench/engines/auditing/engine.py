"""What an engine really computes in, by its layers."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import msgspec

from qbench.engines.auditing.qdq import Neighbours, likely_reason
from qbench.placement.analysis import COMPUTE
from qbench.runtimes.tensorrt.layers import AROUND, INT8, NARROW, EngineLayer

_UNKNOWN = "unknown"
_QDQ_OPS = frozenset({"QuantizeLinear", "DequantizeLinear"})


class NodeFinding(msgspec.Struct, frozen=True):
    """An ONNX node that is not in INT8 or not absorbed: its layer's type, and why if known."""

    node: str
    op_type: str
    dtype: str
    reason: str


class EngineAudit(msgspec.Struct, frozen=True):
    """Which ONNX nodes an engine runs in which type.

    Attributes:
        layers_by_dtype: Number of engine layers that compute in each type.
        nodes_by_dtype: For each operator of `COMPUTE`, the number of nodes in each type.
        not_int8: The nodes among them that are not in INT8.
        own_qdq: Q/DQ nodes in layers of their own, which do nothing but quantize or dequantize,
            with the likely reason.
    """

    layers_by_dtype: dict[str, int]
    nodes_by_dtype: dict[str, dict[str, int]]
    not_int8: tuple[NodeFinding, ...]
    own_qdq: tuple[NodeFinding, ...]

    def fraction(self, op_type: str, dtype: str = INT8) -> float | None:
        """Return the share of `op_type` nodes that run in `dtype`; None where there are none."""
        counts = self.nodes_by_dtype.get(op_type, {})
        return counts.get(dtype, 0) / sum(counts.values()) if counts else None


def count_in(nodes_by_dtype: Mapping[str, Mapping[str, int]], dtype: str = INT8) -> tuple[int, int]:
    """Return how many nodes run in `dtype`, and how many there are in all."""
    counts = nodes_by_dtype.values()
    return sum(c.get(dtype, 0) for c in counts), sum(sum(c.values()) for c in counts)


def audit(
    layers: Sequence[EngineLayer],
    nodes: Mapping[str, str],
    reasons: Mapping[str, str] = MappingProxyType({}),
    neighbours: Mapping[str, Neighbours] = MappingProxyType({}),
) -> EngineAudit:
    """Say which nodes run in which type.

    A node counts as INT8 where the layer that computes it takes activations and weights in INT8.
    With several such layers (equal node names, split nodes) all of them must.

    Args:
        layers: The layers of the engine.
        nodes: Operator of each ONNX node, by the name that `node_name` gives.
        reasons: Why nodes cannot be in INT8, as far as it is known from the plan or the graph; of
            the others it is said what the layers prove.
        neighbours: What stands around Q/DQ nodes, by the same names.
    """
    homes = _homes(layers)
    unpacked = {tensor.name for layer in layers if not layer.inputs for tensor in layer.outputs}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    findings = []
    for name, op_type in nodes.items():
        if op_type not in COMPUTE:
            continue
        dtype, layer = _verdict(homes.get(name, ()))
        counts[op_type][dtype] += 1
        if dtype != INT8:
            reason = reasons.get(name) or _reason(layer, unpacked)
            findings.append(NodeFinding(name, op_type, dtype, reason))
    working = (layer for layer in layers if layer.outputs)
    floats = {f.node: f.dtype for f in findings if f.dtype not in NARROW | {_UNKNOWN}}
    return EngineAudit(
        layers_by_dtype=dict(Counter(layer.dtype for layer in working)),
        nodes_by_dtype={op_type: dict(counter) for op_type, counter in counts.items()},
        not_int8=tuple(findings),
        own_qdq=tuple(
            NodeFinding(
                name, nodes[name], layer.dtype, likely_reason(neighbours.get(name), nodes, floats)
            )
            for layer in layers
            if _only_qdq(layer, nodes)
            for name in layer.nodes
        ),
    )


def _homes(layers: Iterable[EngineLayer]) -> dict[str, list[EngineLayer]]:
    """Return the layers that compute each node; those around it only where it has no others."""
    homes: dict[str, list[EngineLayer]] = defaultdict(list)
    for layer in sorted(layers, key=lambda layer: layer.kind in AROUND):
        for node in layer.nodes:
            if layer.kind not in AROUND or not homes[node] or homes[node][0].kind in AROUND:
                homes[node].append(layer)
    return homes


def _verdict(homes: Sequence[EngineLayer]) -> tuple[str, EngineLayer | None]:
    if not homes:
        return _UNKNOWN, None
    worst = next((layer for layer in homes if layer.dtype != INT8), homes[0])
    return worst.dtype, worst


def _reason(layer: EngineLayer | None, unpacked: set[str]) -> str:
    """Say why a layer is not in INT8, from what the list of layers proves."""
    if layer is None:
        return "no engine layer names it; it was folded or merged away"
    if layer.dtype in NARROW:
        return f"its model asks for {layer.dtype}"
    if layer.kind == "deconv":
        return "this TensorRT has no Int8 kernel for transposed convolutions"
    if unpacked.intersection(tensor.name for tensor in layer.inputs):
        return (
            "its weights are quantized but dequantized at run time: its input carries no Q/DQ, "
            "or one that cannot be fused"
        )
    held = next((tensor.dtype for tensor in layer.constants if tensor.dtype in NARROW), None)
    if held is not None:
        return f"its weights are {held}, which the layer dequantizes; its input is not quantized"
    return "its weights are not quantized"


def _only_qdq(layer: EngineLayer, nodes: Mapping[str, str]) -> bool:
    return bool(layer.nodes) and all(nodes.get(node) in _QDQ_OPS for node in layer.nodes)
