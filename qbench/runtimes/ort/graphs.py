"""Graphs in memory as ONNX Runtime takes them, and as it gives them back.

The graph library, whose import takes seconds, is loaded by those functions alone that need graphs.
"""

from __future__ import annotations

import tempfile
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from qbench.runtimes.ort.providers import ProviderChoice
from qbench.runtimes.ort.runner import GraphInMemory, OrtRunner
from qbench.runtimes.ort.session import create_session, session_options, share_arena

if TYPE_CHECKING:
    import onnx_ir as ir

_HANDED_OVER = 1 << 20
"""Bytes of a weight from which ONNX Runtime gets it as an array: as a part of the model's bytes it
would be copied three times, which took 4 s and 1.1 GB for a VGG-16 of 553 MB."""


def open_graph(
    model: ir.Model,
    *,
    threads: int = 0,
    simulate: bool = False,
    shares_arena: bool = False,
    is_optimized: bool = False,
) -> OrtRunner:
    """Load a graph that is in memory into ONNX Runtime's CPU provider.

    Args:
        model: The graph.
        threads: Of a run; 0 leaves the choice to ONNX Runtime.
        simulate: Keep Q/DQ nodes; see `OrtRunner`.
        shares_arena: See `session.share_arena`.
        is_optimized: Run the nodes as they are; see `save_optimized`.

    Raises:
        ModelError: ONNX Runtime refuses the graph.
    """
    graph = replace(_in_memory(model), shares_arena=shares_arena, is_optimized=is_optimized)
    return OrtRunner(graph, threads=threads, simulate=simulate)


def save_optimized(model: ir.Model, path: Path) -> None:
    """Write the graph that ONNX Runtime's CPU provider runs for a model; fit for this machine.

    Raises:
        ModelError: ONNX Runtime refuses the model.
    """
    graph, options = _in_memory(model), session_options(threads=1)
    graph.prepare(options)
    options.optimized_model_filepath = str(path)
    create_session(graph.data, ProviderChoice("cpu"), options)


def empty_arena() -> None:
    """Give back what the shared arena keeps and no tensor needs; see `session.share_arena`.

    ONNX Runtime does so behind a run alone, so a model runs that copies one number.
    """
    import onnx_ir as ir

    number = ir.TensorType(ir.DataType.FLOAT)
    x, y = (ir.Value(name=name, type=number, shape=ir.Shape([1])) for name in "xy")
    nodes = [ir.node("Identity", [x], outputs=[y])]
    model = ir.Model(ir.Graph([x], [y], nodes=nodes, opset_imports={"": 17}), ir_version=8)
    options, run_options = session_options(threads=1), ort.RunOptions()
    share_arena(options)
    run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    data = ir.to_proto(model).SerializeToString()
    session = create_session(data, ProviderChoice("cpu"), options)
    session.run(None, {"x": np.zeros(1, np.float32)}, run_options)


def _in_memory(model: ir.Model) -> GraphInMemory:
    from qbench.model.save import data_folder

    folder = data_folder(model)
    data, weights = _taken_apart(model, folder)
    return GraphInMemory(data, weights, folder)


def _taken_apart(model: ir.Model, folder: Path | None) -> tuple[bytes, dict[str, NDArray[Any]]]:
    """Return a model as bytes, and the large weights that are left out of them, by name.

    Weights whose files lie in `folder` are left there, where ONNX Runtime maps them.
    """
    import onnx_ir as ir

    from qbench.model.graph import standing_in

    weights: dict[str, NDArray[Any]] = {}
    tensors: dict[ir.Value, ir.TensorProtocol] = {}
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None:
            continue
        if isinstance(tensor, ir.ExternalTensor):
            if Path(tensor.base_dir) == folder:
                continue
            tensor = copy(tensor)  # whose file is mapped no longer than the array lives
            tensors[value] = ir.Tensor(tensor.numpy(), tensor.dtype, name=name)
        if _is_large(value):
            array, dtype = tensor.numpy(), tensor.dtype
            weights[name], shape = array, ir.Shape(array.shape)
            tensors[value] = ir.ExternalTensor("", 0, array.nbytes, dtype, shape=shape, name=name)
    with standing_in(tensors):
        return ir.to_proto(model).SerializeToString(), weights


def _is_large(value: ir.Value) -> bool:
    """Whether a weight is handed over; not those that a caller may replace, or of new types."""
    tensor = value.const_value
    if tensor is None or value.is_graph_input() or tensor.nbytes < _HANDED_OVER:
        return False
    is_used = bool(value.uses()) or value.is_graph_output()
    return is_used and tensor.dtype.numpy().isbuiltin == 1


def optimized_graph(model: Path) -> ir.Graph:
    """Return the graph that ONNX Runtime's CPU provider runs for `model`, before layout changes.

    Layout changes rename tensors and choose no other kernels, so they are left out.

    Raises:
        ModelError: ONNX Runtime refuses the model.
    """
    import onnx_ir as ir

    with tempfile.TemporaryDirectory(prefix="qbench-") as folder:
        path = Path(folder) / "optimized.onnx"
        options = session_options()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(path)
        # A graph with its weights inside could not be written beyond protobuf's 2 GiB.
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", "weights"
        )
        create_session(model, ProviderChoice("cpu"), options)
        return ir.load(path).graph
