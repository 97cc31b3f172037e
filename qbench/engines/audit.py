"""What an engine really computes in, read from the compiler's log.

The verbose log of TensorRT for RTX ends in a list of layers, each with the types of its tensors and
the names of the ONNX nodes that went into it. So the audit needs no GPU and loads no engine.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import msgspec

from qbench.engines.audit_qdq import Neighbours, likely_reason

INT8 = "Int8"
COMPUTE_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators with weights or products, where INT8 pays."""

_UNKNOWN = "unknown"
_QDQ_OPS = frozenset({"QuantizeLinear", "DequantizeLinear"})
_NARROW = frozenset({INT8, "FP8", "FP4", "Int4"})
# Generated element-wise kernels and copies: what stands around the layer that computes.
_AROUND = frozenset({"kgen", "NoOp", "PointWise", "PointWiseV2", "Reformat"})

_LAYER = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*?)\], "
    r"Constants: \[(?P<constants>.*?)\], Outputs: \[(?P<outputs>.*?)\], "
    r"TacticName: (?P<tactic>.*?), StreamId: .*?Metadata: ?(?P<metadata>.*)"
)
_TENSOR = re.compile(r"\{ Name: (?P<name>.*?), Dimensions: \[[^]]*\],.*?Datatype: (?P<dtype>\w+)")
# Node names are separated by the ASCII unit separator, so that one may hold brackets itself.
_NODE = re.compile(r"\[ONNX Layer: (.*?)\](?=\x1f|$)")


class EngineTensor(msgspec.Struct, frozen=True):
    """A tensor that a layer reads or writes; its type in TensorRT's words (`Int8`, `Float`)."""

    name: str
    dtype: str


class EngineLayer(msgspec.Struct, frozen=True):
    """One layer of an engine, as the compiler lists it.

    Attributes:
        name: The compiler's name.
        kind: The compiler's layer type (`correlation`, `gemm`, `deconv`, `kgen`, ...).
        inputs: What it reads; the activations come first.
        constants: What is stored with it: weights, scales, biases.
        outputs: What it writes.
        nodes: The ONNX nodes that went into it, wholly or in part.
        tactic: The kernel, where one is named.
    """

    name: str
    kind: str
    inputs: tuple[EngineTensor, ...]
    constants: tuple[EngineTensor, ...]
    outputs: tuple[EngineTensor, ...]
    nodes: tuple[str, ...]
    tactic: str

    @property
    def dtype(self) -> str:
        """The type that it computes in: a narrow one only where both operands enter in it."""
        operands = {tensor.dtype for tensor in (*self.constants, *self.inputs[1:2])}
        first = self.inputs[0].dtype if self.inputs else ""
        if self.kind not in _AROUND and first in _NARROW and first in operands:
            return first
        wide = [tensor.dtype for tensor in (*self.inputs, *self.outputs)]
        return next((dtype for dtype in wide if dtype not in _NARROW), first)


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
        nodes_by_dtype: For each operator of `COMPUTE_OPS`, the number of nodes in each type.
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


def layers_from_log(text: str) -> tuple[EngineLayer, ...]:
    """Return the layers that a verbose build log lists; none where it lists none."""
    _, found, listing = text.rpartition("Layers:\n")
    lines = listing.split("\n") if found else []
    matches = (_LAYER.fullmatch(line) for line in lines)
    return tuple(_layer(match) for match in matches if match)


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
        if op_type not in COMPUTE_OPS:
            continue
        dtype, layer = _verdict(homes.get(name, ()))
        counts[op_type][dtype] += 1
        if dtype != INT8:
            reason = reasons.get(name) or _reason(layer, unpacked)
            findings.append(NodeFinding(name, op_type, dtype, reason))
    working = (layer for layer in layers if layer.outputs)
    floats = {f.node: f.dtype for f in findings if f.dtype not in _NARROW | {_UNKNOWN}}
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


def _layer(match: re.Match[str]) -> EngineLayer:
    return EngineLayer(
        name=match["name"],
        kind=match["kind"],
        inputs=_tensors(match["inputs"]),
        constants=_tensors(match["constants"]),
        outputs=_tensors(match["outputs"]),
        nodes=tuple(_NODE.findall(match["metadata"])),
        tactic=match["tactic"],
    )


def _tensors(text: str) -> tuple[EngineTensor, ...]:
    return tuple(EngineTensor(match["name"], match["dtype"]) for match in _TENSOR.finditer(text))


def _homes(layers: Iterable[EngineLayer]) -> dict[str, list[EngineLayer]]:
    """Return the layers that compute each node; those around it only where it has no others."""
    homes: dict[str, list[EngineLayer]] = defaultdict(list)
    for layer in sorted(layers, key=lambda layer: layer.kind in _AROUND):
        for node in layer.nodes:
            if layer.kind not in _AROUND or not homes[node] or homes[node][0].kind in _AROUND:
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
    if layer.dtype in _NARROW:
        return f"its model asks for {layer.dtype}"
    if layer.kind == "deconv":
        return "this TensorRT has no Int8 kernel for transposed convolutions"
    if unpacked.intersection(tensor.name for tensor in layer.inputs):
        return (
            "its weights are quantized but dequantized at run time: its input carries no Q/DQ, "
            "or one that cannot be fused"
        )
    return "its weights are not quantized"


def _only_qdq(layer: EngineLayer, nodes: Mapping[str, str]) -> bool:
    return bool(layer.nodes) and all(nodes.get(node) in _QDQ_OPS for node in layer.nodes)
