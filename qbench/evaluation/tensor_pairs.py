"""Find for each tensor of a float graph what stands for it in a converted one, whoever made that.

Tensors are known by their names, which quantizers keep. Where a tensor is quantized, its
dequantized form stands for it. Where qbench has equalized it, it is held divided by factors that
the file does not tell, so it is compared up to a factor per channel. Where qbench has padded it or
added an offset before it is quantized, these are taken off again.

What is selected by value, as boxes by non-maximum suppression, is left out: how many there are, and
which stands where, differs between two forms of a model.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import onnx_ir as ir

from qbench.errors import ModelError
from qbench.evaluation.layerwise import Layer
from qbench.model.graph import constant, is_constant
from qbench.model.load import Model
from qbench.model.passes.infer_shapes import infer_shapes
from qbench.model.prepare import prepare
from qbench.placement.analysis import channel_axis
from qbench.quantization.encodings import dequantizer, is_dequantize, quantizers
from qbench.quantization.equalization import equalized_name
from qbench.quantization.offsets import offset_name
from qbench.quantization.padding import padded_name

_FLOATS = {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE}

_INPUT = "Input"

_SELECTING = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Unique"})
"""Operators that choose by value, so that rows behind them are not those of another form."""


@dataclass(frozen=True)
class _StandIn:
    """What stands for a tensor of the test; see `Layer` for what is in it beside that tensor."""

    value: ir.Value
    offset: float = 0.0
    pads: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return self.value.name or ""


@dataclass(frozen=True)
class Pairs:
    """What is compared.

    Attributes:
        graph: The form of the reference in which the test has most tensors.
        layers: By depth.
        total: Number of tensors that could be compared if the test had them all.
    """

    graph: ir.Model
    layers: tuple[Layer, ...]
    total: int


def pair_tensors(reference: Model, test: Model, *, dequantized_only: bool = False) -> Pairs:
    """Return the tensors that `test` has in common with `reference` as it is or prepared.

    Args:
        reference: The float model.
        test: What was made from it.
        dequantized_only: Leave out what the test does not write as a dequantized tensor or output,
            since a runtime does not fuse what it must hand out. Nothing is left out of a test
            that quantizes weights only.

    Raises:
        ModelError: The reference is quantized, the inputs differ, or there is no tensor in common.
    """
    reference.check_float()
    _check_inputs(reference, test)
    stand_ins = _stand_ins(test.ir.graph, dequantized_only=dequantized_only)
    forms = [_pairs(form, stand_ins) for form in (prepare(reference).ir, _inferred(reference.ir))]
    best = max(forms, key=lambda pairs: len(pairs.layers))  # the prepared one if they are equal
    if not best.layers:
        raise ModelError(
            f"{test.path} has no tensor of {reference.path} under its name; "
            "compare it with the model that it was made from"
        )
    return best


def _check_inputs(reference: Model, test: Model) -> None:
    wanted, found = ([spec.name for spec in model.inputs] for model in (reference, test))
    if sorted(wanted) != sorted(found):
        raise ModelError(
            f"{test.path} takes {', '.join(found)} and {reference.path} takes "
            f"{', '.join(wanted)}; compare two forms of one model"
        )


def _inferred(model: ir.Model) -> ir.Model:
    copy = model.clone()
    infer_shapes(copy)
    return copy


def _stand_ins(graph: ir.Graph, *, dequantized_only: bool) -> dict[str, _StandIn]:
    """Return by name what stands for each tensor of the test: its dequantized form, or itself."""
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    found = {value.name or "": _dequantized(value) for value in values}
    for product in _shifted_products(graph, found.values()):
        found.pop(product, None)
    is_dequantized = any(_is_dequantized(one.value) for one in found.values())
    if dequantized_only and is_dequantized:
        found = {
            name: one
            for name, one in found.items()
            if _is_dequantized(one.value) or one.value.is_graph_output()
        }
    return found


def _shifted_products(graph: ir.Graph, found: Iterable[_StandIn]) -> list[str]:
    """Return the products of tensors with an offset, which the Add of the bias alone takes off."""
    shifted = {one.value for one in found if one.offset}
    multiplying = (node for node in graph if node.op_type == "MatMul")
    return [node.outputs[0].name or "" for node in multiplying if node.inputs[0] in shifted]


def _dequantized(value: ir.Value) -> _StandIn:
    for quantize in quantizers(value):
        for usage in quantize.outputs[0].uses():
            if is_dequantize(usage.node) and usage.idx == 0:
                return _StandIn(usage.node.outputs[0])
    return _behind_padding(value) or _behind_offset(value) or _StandIn(value)


def _behind_padding(value: ir.Value) -> _StandIn | None:
    for pad in _readers(value, "Pad"):
        amounts, behind = constant(pad.inputs[1]), pad.outputs[0]
        is_ours = _is_named(behind, padded_name(value.name or "")) and len(pad.inputs) == 2
        if amounts is None or amounts.min() < 0 or not is_ours:
            continue
        found = _dequantized(behind)
        if found.value is not behind:
            return replace(found, pads=tuple(map(int, amounts)))
    return None


def _behind_offset(value: ir.Value) -> _StandIn | None:
    for add in _readers(value, "Add"):
        offset, behind = constant(add.inputs[1]), add.outputs[0]
        is_ours = _is_named(behind, offset_name(value.name or ""))
        if offset is None or offset.ndim > 0 or not is_ours:
            continue
        found = _dequantized(behind)
        if found.value is not behind:
            return replace(found, offset=float(offset))
    return None


def _is_named(value: ir.Value, name: str) -> bool:
    return (value.name or "").startswith(name)


def _readers(value: ir.Value, op_type: str) -> Iterator[ir.Node]:
    return (u.node for u in value.uses() if u.idx == 0 and u.node.op_type == op_type)


def _is_dequantized(value: ir.Value) -> bool:
    """Return whether a tensor was quantized and dequantized; a constant is not computed."""
    source = dequantizer(value)
    return source is not None and not is_constant(source.inputs[0])


def _pairs(model: ir.Model, stand_ins: dict[str, _StandIn]) -> Pairs:
    finder = _Finder(stand_ins)
    finder.take_inputs(model.graph)
    for node in model.graph:
        finder.take_outputs(node)
    layers = sorted(finder.layers, key=lambda layer: layer.depth)
    return Pairs(model, tuple(layers), finder.total)


class _Finder:
    """Goes through a graph once; knows each value's depth and the layers that it is made from."""

    def __init__(self, stand_ins: dict[str, _StandIn]) -> None:
        self._stand_ins = stand_ins
        self._depths: dict[ir.Value, int] = {}
        self._nearest: dict[ir.Value, tuple[str, ...]] = {}
        self._varying: set[ir.Value] = set()
        self._selected: set[ir.Value] = set()
        self.layers: list[Layer] = []
        self.total = 0

    def take_inputs(self, graph: ir.Graph) -> None:
        """Take the inputs that the test rounds; the others are equal."""
        self._varying.update(graph.inputs)
        for value in graph.inputs:
            name = value.name or ""
            if name in self._stand_ins and self._stand_ins[name].name != name:
                self._take(value, _INPUT, 0, ())

    def take_outputs(self, node: ir.Node) -> None:
        computed = [value for value in node.inputs if value is not None]
        self._note_selection(node, computed)
        before = [name for value in computed for name in self._nearest.get(value, ())]
        inputs = tuple(dict.fromkeys(before))
        depth = 1 + max((self._depths.get(value, 0) for value in computed), default=0)
        for value in node.outputs:
            self._take(value, node.op_type, depth, inputs)

    def _note_selection(self, node: ir.Node, computed: list[ir.Value]) -> None:
        """Note whether what a node makes depends on values, and whether it is selected by them."""
        if node.op_type in {"Shape", "Size"} or self._varying.isdisjoint(computed):
            return
        self._varying.update(node.outputs)
        if node.op_type in _SELECTING or not self._selected.isdisjoint(computed):
            self._selected.update(node.outputs)

    def _take(self, value: ir.Value, op_type: str, depth: int, inputs: tuple[str, ...]) -> None:
        self._depths[value], self._nearest[value] = depth, inputs
        if value.dtype not in _FLOATS or not isinstance(value.type, ir.TensorType):
            return  # a sequence has the type of its elements, too
        if value in self._selected:
            return
        self.total += 1
        if layer := self._layer(value, op_type, depth, inputs):
            self._nearest[value] = (layer.name,)
            self.layers.append(layer)

    def _layer(
        self, value: ir.Value, op_type: str, depth: int, inputs: tuple[str, ...]
    ) -> Layer | None:
        name = value.name or ""
        equalized = self._stand_ins.get(equalized_name(name))
        one = equalized or self._stand_ins.get(name)
        axis = self._axis(value) if equalized else None
        if one is None or (equalized and axis is None):
            return None
        return Layer(name, one.name, op_type, depth, inputs, axis, one.offset, one.pads)

    def _axis(self, value: ir.Value) -> int | None:
        """Return the channel axis as those who read an equalized tensor see it."""
        axis = channel_axis(value)
        readers = [usage.node for usage in value.uses()]
        if axis is None and len(readers) == 1:  # through what the division was folded into
            return self._axis(readers[0].outputs[0])
        return axis
