"""Graphs that ONNX Runtime has optimized, which give tensors in blocks of channels as they lie.

Its CPU provider computes convolutions of floats on 8 or 16 channels side by side (NCHWc): a tensor
[N, C, H, W] lies as [N, blocks, H, W, lanes]. One that is asked for is put back in order first,
which takes 2.3 ms of EfficientNet-lite0, beside 6.0 of the convolutions themselves.
"""

import logging
import math
import tempfile
from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qbench.errors import ModelError
from qbench.model.graph import subgraph_nodes
from qbench.model.save import data_folder, weight_bytes
from qbench.runtimes.ort.graphs import open_graph, save_optimized

logger = logging.getLogger(__name__)

_DOMAIN = "com.microsoft.nchwc"
_ORDERS = "ReorderOutput"
_BLOCKED = "_nchwc"

_FEWEST_CHANNELS = 4
"""That ONNX Runtime puts into a block."""

_MOST_BYTES = 1 << 29
"""Of weights that are written to disk and read again."""


@dataclass(frozen=True)
class InBlocks:
    """A model some of whose tensors lie in blocks.

    Attributes:
        model: The model.
        is_optimized: Whether ONNX Runtime has optimized it, so that it must not do so again.
        channels: How many channels an output has that is given in blocks, by its name.
    """

    model: ir.Model
    is_optimized: bool = False
    channels: Mapping[str, int] = field(default_factory=dict)


def in_blocks(model: ir.Model, names: Container[str]) -> InBlocks:
    """Return what ONNX Runtime makes of a model, with outputs among `names` left in blocks.

    Others are as they were, as are all outputs where that would gain little, need much memory or
    not work: of models of matrix products, of those whose weights are large or lie in other files,
    of those with subgraphs, whose tensors ONNX Runtime gives the same names, and where there is no
    place for a temporary file.

    Args:
        model: A float model.
        names: Of outputs.
    """
    is_large = data_folder(model) or weight_bytes(model) > _MOST_BYTES
    if is_large or not _is_convolutional(model) or any(subgraph_nodes(model)):
        return InBlocks(model)
    try:
        optimized = _optimized(model)
    except (ModelError, OSError) as error:  # if of the model itself, it is raised again
        logger.debug("not optimized beforehand: %s", error)
        return InBlocks(model)
    return InBlocks(optimized, True, _leave_in_blocks(optimized.graph, names))


def split_blocks(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a view [N, blocks, H * W, lanes] of a tensor as it comes in blocks."""
    samples, channels, *inner = array.shape
    lanes = _lanes()
    return array.reshape(samples, channels // lanes, math.prod(inner), lanes)


def sizes_in_blocks(graph: ir.Graph, sizes: Mapping[str, int]) -> dict[str, int]:
    """Return numbers of elements by name with those of tensors in blocks, about, as well.

    ONNX Runtime makes their names up, and names a convolution after the tensor that it wrote.

    Args:
        graph: Of a model that is optimized.
        sizes: Of tensors of the model before.
    """
    known = dict(sizes)
    for node in graph:
        inputs = [known.get(value.name or "", 0) for value in node.inputs if value is not None]
        likely = sum(inputs) if node.op_type == "Concat" else max(inputs, default=0)
        for value in node.outputs:
            size = known.get((node.name or "").removesuffix(_BLOCKED), likely)
            known.setdefault(value.name or "", size)
    return known


def _is_convolutional(model: ir.Model) -> bool:
    """Return whether a model has more convolutions than matrix products."""
    number = Counter(node.op_type for node in model.graph)
    return number["Conv"] > number["MatMul"] + number["Gemm"]


def _optimized(model: ir.Model) -> ir.Model:
    with tempfile.TemporaryDirectory(prefix="qbench-") as folder:
        path = Path(folder) / "optimized.onnx"
        save_optimized(model, path)
        optimized = ir.load(path)
    for node in optimized.graph:
        for value in node.outputs:
            value.type = value.type or ir.TensorType(ir.DataType.FLOAT)  # lacking in blocks alone
    return optimized


def _leave_in_blocks(graph: ir.Graph, names: Container[str]) -> dict[str, int]:
    """Take away what puts outputs in order; return how many channels they have, by name."""
    channels: dict[str, int] = {}
    for place, value in enumerate(graph.outputs):
        name, reorder = value.name or "", _last_reorder(value)
        if name in names and reorder is not None and reorder.inputs[0] is not None:
            channels[name] = reorder.attributes.get_int("channels")
            graph.outputs[place] = blocks = reorder.inputs[0]
            graph.remove(reorder, safe=True)
            blocks.name, blocks.shape = name, None
        elif value.is_initializer():
            graph.outputs[place] = _as_computed(graph, value)
    return channels


def _last_reorder(output: ir.Value) -> ir.Node | None:
    """Return the node that puts an output in order, if that is for nothing else."""
    node = output.producer()
    if node is None or node.domain != _DOMAIN or node.op_type != _ORDERS or output.uses():
        return None
    return None if node.attributes.get_int("channels_last", 0) else node


def _as_computed(graph: ir.Graph, value: ir.Value) -> ir.Value:
    """Return what a node writes in place of an output that ONNX Runtime found to be constant."""
    name = value.name or ""
    output = ir.Value(name=name, type=value.type, shape=value.shape)
    del graph.initializers[name]
    value.name = f"{name}.constant"
    graph.register_initializer(value)
    graph.append(ir.node("Identity", [value], outputs=[output]))
    return output


@cache
def _lanes() -> int:
    """Return the channels of a block, which ONNX Runtime chooses by the processor."""
    number = ir.TensorType(ir.DataType.FLOAT)
    shape = ir.Shape([1, _FEWEST_CHANNELS, 1, 1])
    x, y = ir.Value(name="x", type=number, shape=shape), ir.Value(name="y", type=number)
    last = {"channels_last": 0}
    node = ir.node("ReorderInput", [x], outputs=[y], domain=_DOMAIN, attributes=last)
    graph = ir.Graph([x], [y], nodes=[node], opset_imports={"": 17, _DOMAIN: 1})
    runner = open_graph(ir.Model(graph, ir_version=8), threads=1)
    lanes: int = runner.run({"x": np.zeros((1, _FEWEST_CHANNELS, 1, 1), np.float32)})["y"].shape[1]
    return lanes
