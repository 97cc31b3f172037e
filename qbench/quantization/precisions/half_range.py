"""Find the nodes that FP16 would ruin, since what they read or write is beyond its range.

FP16 ends at 65504 and knows nothing between 0 and 6e-8. Products are summed up in FP32 by all who
run FP16 (TensorRT, ONNX Runtime), so that a sum overflows only when it is stored.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing

import numpy as np
import onnx_ir as ir

from qbench.calibration.table import CalibrationTable
from qbench.data.samples import Sample
from qbench.model.graph import constant
from qbench.model.load import Model
from qbench.placement.analysis import DATA_MOVEMENT
from qbench.quantization.searching.samples import samples_of
from qbench.runtimes.ort.parts import open_parts

LARGEST = float(np.finfo(np.float16).max)

MARGIN = 4
"""A tensor stays FP32 from a quarter of 65504 on: other images may reach further than those that
were seen, and only some of these were seen where no table knows the tensor."""

_ROUNDS_TO_ZERO = 2.0**-25
"""Half the least FP16 number."""

_SAMPLES = 8
_BOUNDS = {"Clip", "Max", "Min"}
"""Operators whose constants may saturate: no FP16 value is beyond 65504 anyway."""


def wide_nodes(graph: ir.Graph, peaks: Mapping[str, float]) -> dict[str, str]:
    """Return the nodes that must stay FP32, by name, with the reason.

    They are those that write or read a tensor that is too large, and those with a constant that
    FP16 cannot hold (an epsilon of 1e-12 would be 0), together with the readers of their outputs.

    Args:
        graph: A prepared graph.
        peaks: Largest magnitude of tensors by name, as far as they are known.
    """
    tensors = {v.name: reason for v in graph.inputs if (reason := _too_large(v, peaks))}
    nodes: dict[str, str] = {}
    for node in graph:
        own = next((reason for value in node.inputs if (reason := _unfit(node, value))), "")
        read = next((tensors[v.name] for v in node.inputs if v and v.name in tensors), "")
        passed_on = own or (read if node.op_type in DATA_MOVEMENT else "")
        written = {v.name: _too_large(v, peaks) or passed_on for v in node.outputs}
        tensors.update((name, reason) for name, reason in written.items() if reason)
        reason = own or read or next(filter(None, written.values()), "")
        if reason:
            nodes[node.name or ""] = reason
    return nodes


def peaks_of(prepared: Model, table: CalibrationTable) -> dict[str, float]:
    """Return the largest magnitude of the tensors of a prepared model, by name.

    The table knows those that quantization needs, over all samples. All tensors are observed on the
    first samples, where the data of the table still is.
    """
    known = {name: max(-s.low, s.high) for name, s in table.statistics.items()}
    for name, peak in _observed(prepared, samples_of(prepared, table, _SAMPLES)).items():
        known[name] = max(known.get(name, 0.0), peak)
    return known


def _observed(prepared: Model, samples: Sequence[Sample]) -> dict[str, float]:
    if not samples:
        return {}
    values = (value for node in prepared.ir.graph for value in node.outputs)
    names = [value.name or "" for value in values if value.dtype == ir.DataType.FLOAT]
    peaks = dict.fromkeys(names, 0.0)
    with closing(open_parts(prepared.ir, names, samples[0].feeds)) as runner:
        for tensors in (found for sample in samples for found in runner.run(sample.feeds)):
            for name, array in tensors.items():
                peaks[name] = max(peaks[name], float(np.abs(array).max(initial=0)))
    return peaks


def _too_large(value: ir.Value, peaks: Mapping[str, float]) -> str:
    peak = peaks.get(value.name or "", 0.0)
    if peak <= LARGEST / MARGIN:
        return ""
    return f"tensor {value.name} reaches {peak:.3g}, too near to FP16's {LARGEST:.0f}"


def _unfit(node: ir.Node, value: ir.Value | None) -> str:
    """Return why FP16 cannot hold a constant that `node` reads; nothing where it can."""
    array = constant(value)
    if value is None or array is None or array.dtype != np.float32 or not array.size:
        return ""
    peak = float(max(array.max(), -array.min()))
    if peak > LARGEST and node.op_type not in _BOUNDS:
        return f"its constant {value.name} reaches {peak:.3g}, beyond FP16's {LARGEST:.0f}"
    if array.size == 1 and 0 < peak <= _ROUNDS_TO_ZERO:
        return f"its constant {peak:.3g} would be 0 in FP16"
    return ""
