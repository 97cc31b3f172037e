"""`qbench.quantize`: a float model and its calibration table in, a quantized model out."""

from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from qbench.artifacts import check_name, check_writable
from qbench.calibration.calibrate import load_found_table
from qbench.calibration.given import GivenRanges
from qbench.calibration.table import CalibrationTable, find_table, load_table
from qbench.errors import UsageError
from qbench.formatting import digits, percent
from qbench.html import counted, terms_table
from qbench.model.graph import recurrent_notes, subgraph_notes
from qbench.model.load import Model, load
from qbench.model.prepare import prepare
from qbench.model.save import needs_external_data, save
from qbench.model.shapes import Macs, bound_to_one, macs_of
from qbench.placement.analysis import excluded_nodes
from qbench.placement.plan import FloatNode, Plan
from qbench.placement.targets import check_computes_in_float32
from qbench.quantization.choice import Step
from qbench.quantization.int8 import Int8Options, default_weight_bits
from qbench.quantization.options import NEED_TABLE, Options, check_precision, options_for
from qbench.quantization.precisions.dynamic import float_remarks, multiplying, to_dynamic_int8
from qbench.quantization.precisions.fp8 import to_fp8
from qbench.quantization.precisions.half import TYPES, HalfOptions, to_half
from qbench.quantization.precisions.half_range import peaks_of, wide_nodes
from qbench.quantization.precisions.weight_only import (
    BLOCKS,
    WeightOptions,
    to_int4,
    to_weight_only,
)
from qbench.quantization.searching.search import to_int8

_SMALLER_ONLY = "runtimes dequantize the weights of convolutions in every call: smaller, not faster"

_UNCHECKED = (
    "without a calibration table no tensor was checked for FP16's range; "
    "--data IMAGES finds those that overflow"
)

_PLAIN_RANGES = "given ranges: no bias correction, no search; those need `qbench calibrate`"

TABLES = Path("calibration")
"""Folder of calibration tables, below the current one."""


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


def quantize(
    model: Model | Path | str,
    *,
    target: str,
    precision: str = "int8",
    table: CalibrationTable | GivenRanges | Path | str | None = None,
    output: Path | str | None = None,
    options: Options | None = None,
) -> QuantizedModel:
    """Quantize a float ONNX model for `target`.

    Args:
        model: A float ONNX file, or one that is loaded.
        target: `cpu` or `tensorrt`.
        precision: `int8` or `fp8` (static Q/DQ; FP8 for `tensorrt`), `fp16`, `bf16` (`tensorrt`),
            `int4` or `weight-only` (INT8) weights, or `dynamic` (INT8 with scales found at run
            time, for transformers on `cpu`).
        table: Calibration table or its path; None looks in `calibration/` by the model's hash.
            FP16 takes one where there is one, to find tensors beyond its range. `int8` also takes
            the ranges of another tool; see `calibration.given.load_ranges`.
        output: Where to write the model; None keeps it in memory.
        options: How to quantize, of the type that `OPTIONS` names.

    Raises:
        ModelError: The model cannot be read, is quantized already, or has nothing to quantize.
        QuantizationError: It has no weights that the precision could hold.
        CalibrationError: There is no table, it was made from another model, or given ranges lack
            a tensor.
        UsageError: Target, precision or method is unknown, the target cannot do the precision, a
            pattern matches no node, given ranges have no use, or the output is the model itself.
        StorageError: The output cannot be written.
    """
    model = model if isinstance(model, Model) else load(model)
    model.check_float()
    check_precision(precision, target)
    options = options_for(precision, options)
    check_output(model, output)
    known = table_if_used(model, precision, table)
    result = _make(model, target, precision, known, options)
    return result if output is None else _saved(result, Path(output))


def table_if_used(
    model: Model, precision: str, table: CalibrationTable | GivenRanges | Path | str | None
) -> CalibrationTable | GivenRanges | None:
    """Return the table that `precision` takes: one is needed, may help, or has no use.

    Raises:
        UsageError: Ranges are given, which serve INT8 alone.
        ModelError: The model is quantized already.
        CalibrationError: There is no table where one is needed, or it is damaged.
    """
    if isinstance(table, GivenRanges):
        if precision != "int8":
            raise UsageError(f"ranges from {table.path} serve --int8 alone, not --{precision}")
        return table
    helps = precision == "fp16" and (table is not None or find_table(TABLES, model.sha256))
    return load_or_find_table(model, table) if precision in NEED_TABLE or helps else None


def load_or_find_table(
    model: Model, table: CalibrationTable | Path | str | None
) -> CalibrationTable:
    """Return `table`, read where it is a path, or the one in `calibration/` where it is None.

    Raises:
        ModelError: The model is quantized already.
        CalibrationError: There is no table, or it is damaged.
    """
    if table is None:
        return load_found_table(model, TABLES)
    return table if isinstance(table, CalibrationTable) else load_table(table)


def check_output(model: Model, output: Path | str | None) -> None:
    """Make sure, before any work, that an output can be written, and not over the model itself.

    Raises:
        UsageError: It is the model.
        StorageError: It cannot be written, or its name is not in UTF-8.
    """
    if output is None:
        return
    check_name(output)
    check_writable(Path(output))
    if model.path is not None and _same_file(Path(output), model.path):
        raise UsageError(f"{output} is the model itself; choose another output with -o")


def _same_file(one: Path, other: Path) -> bool:
    return one.exists() and one.samefile(other)


def _make(
    model: Model,
    target: str,
    precision: str,
    table: CalibrationTable | GivenRanges | None,
    options: Options,
) -> QuantizedModel:
    if precision == "int8" and isinstance(options, Int8Options) and table is not None:
        return _to_int8(model, target, table, options)
    assert not isinstance(table, GivenRanges)  # which serve INT8 alone
    if isinstance(options, HalfOptions):
        return _to_half(model, target, precision, table, options)
    if isinstance(options, WeightOptions):
        return _to_integer_weights(model, target, precision, options)
    if table is None:
        return _to_dynamic(model, target, options)
    return _to_fp8(model, target, table, options)


def _to_int8(
    model: Model, target: str, table: CalibrationTable | GivenRanges, options: Int8Options
) -> QuantizedModel:
    result = to_int8(model, target, table, options)
    return QuantizedModel(
        ir=result.graph.ir,
        source=model,
        target=target,
        precision="int8",
        plan=result.graph.plan,
        table=table,
        int8_mac_fraction=result.graph.mac_fraction,
        uncounted=result.graph.uncounted,
        output_sqnr_db=result.output_sqnr_db,
        steps=result.steps,
        remarks=recurrent_notes(model.ir)
        + ((_PLAIN_RANGES,) if isinstance(table, GivenRanges) else ()),
    )


def _to_fp8(
    model: Model, target: str, table: CalibrationTable, options: Int8Options
) -> QuantizedModel:
    table.check_model(model.sha256, str(model.path))
    found = to_fp8(prepare(model), table, options.exclude)
    return QuantizedModel(
        ir=found.ir,
        source=model,
        target=target,
        precision="fp8",
        plan=found.plan,
        table=table,
        output_sqnr_db=found.output_sqnr_db,
    )


def _to_half(
    model: Model,
    target: str,
    precision: str,
    table: CalibrationTable | None,
    options: HalfOptions,
) -> QuantizedModel:
    prepared = prepare(model)
    check_computes_in_float32(prepared)
    excluded = excluded_nodes(prepared.ir.graph, options.exclude)
    wide = dict.fromkeys(excluded, "excluded by name")
    remarks: tuple[str, ...] = ()
    if precision == "fp16":
        if table is None:
            remarks = (_UNCHECKED,)
        else:
            table.check_model(model.sha256, str(model.path))
        wide |= wide_nodes(prepared.ir.graph, peaks_of(prepared, table) if table else {})
    half = to_half(prepared.ir, TYPES[precision], keep_io=options.keep_io, wide=wide)
    return QuantizedModel(
        ir=half.ir,
        source=model,
        target=target,
        precision=precision,
        table=table,
        wide_nodes=half.floats,
        remarks=remarks,
    )


def _to_integer_weights(
    model: Model, target: str, precision: str, options: WeightOptions
) -> QuantizedModel:
    prepared = prepare(model)
    check_computes_in_float32(prepared, alone=False)
    remarks: tuple[str, ...] = ()
    if precision == "int4":
        graph, plan = to_int4(prepared.ir, target, options.block or BLOCKS[0], options.exclude)
    else:
        graph, plan = to_weight_only(prepared.ir, target, options.exclude)
        if any(node.op_type == "Conv" for node in prepared.ir.graph if node.name in plan.quantized):
            remarks = (_SMALLER_ONLY,)
    return QuantizedModel(graph, model, target, precision, plan=plan, remarks=remarks)


def _to_dynamic(model: Model, target: str, options: Int8Options) -> QuantizedModel:
    prepared = prepare(model)
    check_computes_in_float32(prepared)
    bits = options.weight_bits or default_weight_bits(target)
    graph = to_dynamic_int8(prepared.ir, bits)
    macs = macs_of(prepared, bound_to_one(prepared, None)) or Macs({})
    kept = multiplying(graph.graph)
    whole, floats = sum(macs.by_node.values()), sum(macs.by_node.get(name, 0) for name in kept)
    return QuantizedModel(
        ir=graph,
        source=model,
        target=target,
        precision="dynamic",
        int8_mac_fraction=1 - floats / whole if whole else None,
        uncounted=macs.uncounted,
        remarks=float_remarks(prepared.ir.graph, kept),
    )


def _saved(result: QuantizedModel, path: Path) -> QuantizedModel:
    save(result.ir, path, external=needs_external_data(result.source.ir))
    return replace(result, path=path)
