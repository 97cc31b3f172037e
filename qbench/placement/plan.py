"""The plan: what a target wants quantized, and what stays float and why."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

FLOAT_REASON = "qbench.float"
"""Key of the metadata in which a quantized file says of a node why it stays float."""


class Reader(NamedTuple):
    """One input of one node."""

    node: str
    position: int


@dataclass(frozen=True)
class Activation:
    """A tensor that gets a QuantizeLinear/DequantizeLinear pair.

    Attributes:
        tensor: Name of the tensor.
        scale_from: Tensor whose statistics give scale and zero-point: the tensor itself, or the
            source of pure data movement, which must keep its scale to run on integers.
        readers: Node inputs that read the dequantized value; the others read the float one.
        feeds_output: Whether a graph output reads the dequantized value.
        takes_offset: Whether whatever is added to the tensor can be taken off again behind those
            who compute with it, so that its range need not be symmetric.
    """

    tensor: str
    scale_from: str
    readers: tuple[Reader, ...]
    feeds_output: bool = False
    takes_offset: bool = False


@dataclass(frozen=True)
class Weight:
    """A constant that is stored as integers behind a DequantizeLinear.

    Attributes:
        tensor: Name of the initializer.
        reader: The input that reads it.
        axis: Per-channel axis, or None for one scale.
    """

    tensor: str
    reader: Reader
    axis: int | None


@dataclass(frozen=True)
class Bias:
    """A constant that is stored as int32 with the scale of input times weight.

    Attributes:
        tensor: Name of the initializer, [channels]; of one that a correction may add, where there
            is none yet.
        reader: The input that reads it.
        data: Tensor whose scale the node's activations have (an `Activation.scale_from`).
        weight: What the node multiplies with.
    """

    tensor: str
    reader: Reader
    data: str
    weight: Weight


@dataclass(frozen=True)
class FloatNode:
    """A node that stays float, and the reason in a few words."""

    name: str
    op_type: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """What to quantize for one target.

    Attributes:
        target: Key of `placement.targets.TARGETS`.
        symmetric: Activations are int8, and are written with zero-point 0; else uint8 with a
            zero-point.
        activations: In graph order.
        weights: In graph order.
        quantized: Names of the nodes that shall run on integers.
        floats: Compute nodes that stay float.
        biases: Biases that the target wants as integers; all others stay float.
        products: Names of pointwise convolutions that are written as a MatMul over channels that
            come last, so that their integer kernel writes floats.
    """

    target: str
    symmetric: bool
    activations: tuple[Activation, ...]
    weights: tuple[Weight, ...]
    quantized: tuple[str, ...]
    floats: tuple[FloatNode, ...]
    biases: tuple[Bias, ...] = ()
    products: tuple[str, ...] = ()

    @property
    def observed(self) -> tuple[str, ...]:
        """Tensors whose statistics the plan needs, each once, in graph order."""
        return tuple(dict.fromkeys(a.scale_from for a in self.activations))

    def is_carried_on(self, tensor: str) -> bool:
        """Return whether other tensors have the scale of this one, an `Activation.scale_from`.

        Data movement may have put their channels elsewhere, so one scale must serve all values.
        """
        return self._sharing[tensor] > 1

    def is_symmetric(self, tensor: str) -> bool:
        """Return whether the range of a tensor, an `Activation.scale_from`, must be symmetric."""
        return self.symmetric and tensor not in self._with_offset

    @cached_property
    def _sharing(self) -> Counter[str]:
        return Counter(activation.scale_from for activation in self.activations)

    @cached_property
    def _with_offset(self) -> frozenset[str]:
        return frozenset(a.scale_from for a in self.activations if a.takes_offset)
