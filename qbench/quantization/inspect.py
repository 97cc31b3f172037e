"""Describe a model before anything is done to it."""

from collections import Counter
from collections.abc import Iterator
from math import prod

import msgspec
import onnx_ir as ir

from qbench.artifacts import SCHEMA_VERSION
from qbench.errors import ModelError
from qbench.formatting import counted
from qbench.model.graph import recurrent_notes, subgraph_notes
from qbench.model.load import Model
from qbench.model.prepare import prepare
from qbench.model.save import stored_weights
from qbench.model.shapes import bound_to_one, macs_by_node, macs_of
from qbench.model.spec import Shape, TensorSpec
from qbench.placement.cut import faster_in_float
from qbench.placement.plan import FloatNode
from qbench.placement.targets import TARGETS, place, suited
from qbench.quantization.encodings import Encoding, encodings, is_integer_kernel
from qbench.quantization.linting.lint import tidied
from qbench.runtimes.providers import version_notes


class SpecDocument(msgspec.Struct, frozen=True):
    """An input or output, as JSON tells it."""

    name: str
    dtype: str
    shape: Shape


class TargetInspection(msgspec.Struct, frozen=True, kw_only=True):
    """What a target would do with a model.

    Attributes:
        target: Key of `placement.targets.TARGETS`.
        quantized: Number of nodes that would run on integers.
        int8_mac_fraction: Their share of multiply-accumulates, None where that is unknown.
        float_nodes: Compute nodes that stay float.
        problem: Why nothing can be quantized, or None.
    """

    target: str
    quantized: int = 0
    int8_mac_fraction: float | None = None
    float_nodes: tuple[FloatNode, ...] = ()
    problem: str | None = None


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a model.

    Attributes:
        parameters: Number of values in initializers and constants, those of subgraphs, too.
        macs: Multiply-accumulates of one sample; None where the image size stays open.
        uncounted: Nodes that multiply, too, but whose multiply-accumulates are not known.
        ops: Node count by operator, the most frequent first.
        encodings: Scale and zero-point of each tensor that Q/DQ nodes quantize.
        notes: What ONNX Runtime is too old for, what will be left alone, such as subgraphs, and
            what is not shown.
    """

    model: str
    sha256: str
    producer: str | None
    opset: int
    inputs: tuple[SpecDocument, ...]
    outputs: tuple[SpecDocument, ...]
    parameters: int
    parameter_bytes: int
    macs: int | None
    uncounted: tuple[str, ...]
    ops: dict[str, int]
    targets: tuple[TargetInspection, ...]
    encodings: tuple[Encoding, ...] = ()
    notes: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION


def inspect(model: Model, image_size: tuple[int, int] | None = None) -> Inspection:
    """Describe `model`.

    Args:
        model: Any ONNX model.
        image_size: Height and width where the model leaves them open.

    Raises:
        ModelError: The graph cannot be prepared.
    """
    prepared = prepare(model)
    bound = bound_to_one(prepared, image_size)
    macs = macs_of(prepared, bound)
    counts = macs.by_node if macs else {}
    arrays = list(_weights(model))
    ops = Counter(node.op_type for node in model.ir.graph)
    return Inspection(
        model=str(model.path),
        sha256=model.sha256,
        producer=model.ir.producer_name,
        opset=model.ir.graph.opset_imports.get("", 0),
        inputs=tuple(_document(spec) for spec in model.inputs),
        outputs=tuple(_document(spec) for spec in prepared.outputs),
        parameters=sum(prod(array.shape.numpy()) for array in arrays),
        parameter_bytes=sum(array.nbytes for array in arrays),
        macs=sum(counts.values()) if macs else None,
        uncounted=macs.uncounted if macs else (),
        ops=dict(ops.most_common()),
        targets=tuple(_inspect_target(prepared, bound, target, image_size) for target in TARGETS),
        encodings=encodings(tidied(model.ir).graph),
        notes=version_notes(model.ir)
        + subgraph_notes(model.ir)
        + recurrent_notes(model.ir)
        + _integer_notes(model),
    )


def _weights(model: Model) -> Iterator[ir.TensorProtocol]:
    yield from stored_weights(model.ir)
    for node in model.ir.graph.all_nodes():
        if node.op_type == "Constant" and (value := node.attributes.get("value")) is not None:
            yield value.as_tensor()


def _integer_notes(model: Model) -> tuple[str, ...]:
    count = sum(map(is_integer_kernel, model.ir.graph))
    nodes = counted(count, "node")
    return (f"not listed: the scales of {nodes} with integer operators",) if count else ()


def _inspect_target(
    prepared: Model, bound: ir.Model | None, target: str, image_size: tuple[int, int] | None
) -> TargetInspection:
    """Describe what a target makes of a prepared model, and of it `bound` to static shapes."""
    model = suited(prepared, target)[0]
    if model is not prepared:
        bound = bound_to_one(model, image_size)
    macs = macs_by_node(bound) if bound else {}
    try:
        plan = place(model, target)
        floats = faster_in_float(bound, plan, macs)
        plan = place(model, target, float_nodes=floats) if floats else plan
    except ModelError as error:
        return TargetInspection(target=target, problem=str(error))
    quantized, whole = sum(macs.get(name, 0) for name in plan.quantized), sum(macs.values())
    return TargetInspection(
        target=target,
        quantized=len(plan.quantized),
        int8_mac_fraction=quantized / whole if whole else None,
        float_nodes=plan.floats,
    )


def _document(spec: TensorSpec) -> SpecDocument:
    return SpecDocument(spec.name, spec.dtype.name, spec.shape)
