"""The layers of an engine, as the compiler's log lists them.

The verbose log of TensorRT for RTX ends in a list of layers, each with the types of its tensors and
the names of the ONNX nodes that went into it. So an audit needs no GPU and loads no engine.
"""

import re
from collections import Counter

import msgspec

INT8 = "Int8"
NARROW = frozenset({INT8, "FP8", "FP4", "Int4"})
"""Types that only hold codes, in TensorRT's words."""

# Generated element-wise kernels and copies: what stands around the layer that computes.
AROUND = frozenset({"kgen", "NoOp", "PointWise", "PointWiseV2", "Reformat"})

_ATTENDED = 3
"""Query, key and value, which a layer of fused attention reads."""

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
        if self.kind not in AROUND and first in NARROW and first in operands:
            return first
        wide = [tensor.dtype for tensor in (*self.inputs, *self.outputs)]
        return self._attention_dtype() or next((d for d in wide if d not in NARROW), first)

    def _attention_dtype(self) -> str | None:
        """The narrow type of query, key, value and result, whatever mask stands among them."""
        counts = Counter(tensor.dtype for tensor in self.inputs)
        results = {tensor.dtype for tensor in self.outputs}
        found = (dtype for dtype in NARROW if counts[dtype] >= _ATTENDED and results == {dtype})
        return next(found, None)


def layers_from_log(text: str) -> tuple[EngineLayer, ...]:
    """Return the layers that a verbose build log lists; none where it lists none."""
    _, found, listing = text.rpartition("Layers:\n")
    lines = listing.split("\n") if found else []
    matches = (_LAYER.fullmatch(line) for line in lines)
    return tuple(_layer(match) for match in matches if match)


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
