"""A float model in each precision."""

from qbench.calibration.given import GivenRanges
from qbench.calibration.table import CalibrationTable
from qbench.formatting import first_names
from qbench.model.graph import recurrent_notes
from qbench.model.load import Model
from qbench.model.prepare import prepare
from qbench.model.shapes import Macs, bound_to_one, macs_of
from qbench.placement.analysis import excluded_nodes
from qbench.placement.targets import check_computes_in_float32
from qbench.quantization.int8 import Int8Options, saturates
from qbench.quantization.options import Options
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
from qbench.quantization.quantized import QuantizedModel
from qbench.quantization.searching.search import to_int8

_SMALLER_ONLY = "runtimes dequantize the weights of convolutions in every call: smaller, not faster"

_UNCHECKED = (
    "without a calibration table no tensor was checked for FP16's range; "
    "--data IMAGES finds those that overflow"
)

_SELECTED = "judged by what {} selects from: the least noise changes the order of what is selected"

_PLAIN_RANGES = "given ranges: no bias correction, no search; those need `qbench calibrate`"


def quantized_to(
    model: Model,
    target: str,
    precision: str,
    table: CalibrationTable | GivenRanges | None,
    options: Options,
) -> QuantizedModel:
    """Return the model in a precision; arguments are those of `quantize`, checked and complete."""
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
        + result.graph.rewritten
        + ((_SELECTED.format(first_names(result.selecting)),) if result.selecting else ())
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
    graph = to_dynamic_int8(prepared.ir, saturates=saturates(target, options))
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
