"""How accurate a quantized model is, and how much of its work is in INT8."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import NameFixPass

from qbench.benchmarking.judging.agreement import AgreementJudge
from qbench.benchmarking.judging.judges import TASKS, Judge
from qbench.benchmarking.judging.material import Material
from qbench.data.samples import Sample
from qbench.evaluation.agreement import by_measure
from qbench.evaluation.similarity import cosine
from qbench.model.load import load
from qbench.model.shapes import bind_shapes, macs_by_node
from qbench.placement.analysis import DATA_MOVEMENT
from qbench.runtimes.base import Tensors

_MOVES = DATA_MOVEMENT | {"Concat", "Resize", "Split"}
"""Operators that runtimes let a Q/DQ pair pass."""


def _judge_scores(material: Material) -> Judge:
    return AgreementJudge(material, "cosine", by_measure(_score_cosine))


def _score_cosine(sample: Sample, wanted: Tensors, found: Tensors) -> float:
    """Return the cosine between the class scores of YOLOv8's [N, 4 + C, A], boxes left out.

    No decoder reads them: what a bad quantization makes of scores need not be probabilities.
    """
    del sample
    name = next(iter(wanted))
    return cosine(wanted[name][:, 4:], found[name][:, 4:])


METRICS: dict[str, Callable[[Material], Judge]] = {
    "top1": TASKS["classify"],
    "map": TASKS["detect"],
    "cosine": TASKS["embed"],
    "score-cosine": _judge_scores,
}
"""What makes the judge of each metric; the cosines, to the float model's outputs or to the scores
of YOLOv8, need no labels."""


def int8_share(path: Path, feeds: dict[str, NDArray[Any]]) -> float:
    """Return the share of multiply-accumulates whose data and weight both are dequantized.

    Whether a runtime has an integer kernel for them is its own matter.

    Args:
        path: A Q/DQ model.
        feeds: A sample, for dynamic dimensions.
    """
    graph = NameFixPass()(load(path).ir).model
    macs = macs_by_node(bind_shapes(graph, {name: array.shape for name, array in feeds.items()}))
    nodes = [node for node in graph.graph if node.name in macs]
    total = sum(macs[node.name or ""] for node in nodes)
    quantized = sum(macs[node.name or ""] for node in nodes if _reads_integers(node))
    return quantized / total if total else 0.0


def _reads_integers(node: ir.Node) -> bool:
    return all(_is_dequantized(value) for value in node.inputs[:2])


def _is_dequantized(value: ir.Value | None) -> bool:
    """Return whether all that `value` holds was dequantized, and only moved about since."""
    writer = value.producer() if value is not None else None
    if writer is None:
        return False
    if writer.op_type in _MOVES:
        return all(_is_dequantized(read) for read in _moved(writer))
    return writer.op_type == "DequantizeLinear"


def _moved(node: ir.Node) -> Sequence[ir.Value | None]:
    return node.inputs if node.op_type == "Concat" else node.inputs[:1]
