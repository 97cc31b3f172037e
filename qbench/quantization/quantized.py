"""What `qbench.quantize` returns: a quantized graph, and what is known of it."""

from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from qbench.calibration.given import GivenRanges
from qbench.calibration.table import CalibrationTable
from qbench.formatting import digits, percent
from qbench.html import counted, terms_table
from qbench.model.graph import subgraph_notes
from qbench.model.load import Model
from qbench.placement.plan import FloatNode, Plan
from qbench.quantization.choice import Step


@dataclass(frozen=True)
class QuantizedModel:
    """A quantized graph and what is known of it.

    Attributes:
        ir: The graph.
        source: The float model it was made from.
        target: Where it shall run.
        precision: One of `PRECISIONS`.
        plan: What was quantized; None for `fp16`, `bf16` and `dynamic`.
        table: What gave the scales, or for `fp16` the ranges; None where nothing did.
        int8_mac_fraction: Share of multiply-accumulates in quantized nodes; None where it is not
            known.
        uncounted: Nodes that multiply, too, but whose multiply-accumulates are not known.
        output_sqnr_db: Signal-to-noise ratio of the outputs against the float model on calibration
            samples, in dB; None where it was not measured.
        steps: What each step of the search for better scales gained; empty without a search.
        wide_nodes: Nodes that stay FP32 in `fp16` or `bf16`.
        remarks: What else a reader must know.
        path: Where it was written, or None.
    """

    ir: ir.Model
    source: Model
    target: str
    precision: str
    plan: Plan | None = None
    table: CalibrationTable | GivenRanges | None = None
    int8_mac_fraction: float | None = None
    uncounted: tuple[str, ...] = ()
    output_sqnr_db: float | None = None
    steps: tuple[Step, ...] = ()
    wide_nodes: tuple[FloatNode, ...] = ()
    remarks: tuple[str, ...] = ()
    path: Path | None = None

    @property
    def float_nodes(self) -> tuple[FloatNode, ...]:
        """Nodes that stay float, or FP32, with the reason."""
        return self.plan.floats if self.plan else self.wide_nodes

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know besides."""
        return self.remarks + subgraph_notes(self.source.ir)

    def _repr_html_(self) -> str:
        """Return what was made, for a notebook."""
        share, sqnr = self.int8_mac_fraction, self.output_sqnr_db
        reasons = counted(node.reason for node in self.float_nodes)
        return terms_table(
            {
                "target": self.target,
                "precision": self.precision,
                "multiply-accumulates in INT8": None if share is None else percent(share),
                "SQNR of the outputs": None if sqnr is None else f"{digits(sqnr)} dB",
                "nodes left float": reasons,
                "notes": "; ".join(self.notes),
                "file": None if self.path is None else str(self.path),
            }
        )
