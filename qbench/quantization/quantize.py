"""`qbench.quantize`: a float model and its calibration table in, a quantized model out."""

from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from qbench.calibration.calibrate import obtain_table
from qbench.calibration.table import CalibrationTable, load_table
from qbench.errors import UsageError
from qbench.model.graph import subgraph_notes
from qbench.model.load import Model, load
from qbench.model.prepare import prepare
from qbench.model.save import save
from qbench.placement.plan import FloatNode, Plan
from qbench.quantization.dynamic import to_dynamic_int8
from qbench.quantization.int8 import Int8Options, default_weight_bits, to_int8
from qbench.quantization.precision import to_float16

PRECISIONS = ("int8", "fp16", "dynamic")
"""What `quantize` makes of a float model."""

TABLES = Path("calibration")
"""Folder of calibration tables, below the current one."""


@dataclass(frozen=True)
class QuantizedModel:
    """A quantized graph and what is known of it.

    Attributes:
        ir: The graph.
        source: The float model it was made from.
        target: Where it shall run.
        precision: `int8`, `fp16` or `dynamic`.
        plan: What was quantized; None unless INT8.
        table: The statistics that gave the scales; None unless INT8.
        int8_mac_fraction: Share of multiply-accumulates in quantized nodes; None where it is not
            known.
        output_sqnr_db: Signal-to-noise ratio of the outputs against the float model on calibration
            samples, in dB; None where it was not measured.
        path: Where it was written, or None.
    """

    ir: ir.Model
    source: Model
    target: str
    precision: str
    plan: Plan | None = None
    table: CalibrationTable | None = None
    int8_mac_fraction: float | None = None
    output_sqnr_db: float | None = None
    path: Path | None = None

    @property
    def float_nodes(self) -> tuple[FloatNode, ...]:
        """Compute nodes that stay float, with the reason."""
        return self.plan.floats if self.plan else ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know besides."""
        return subgraph_notes(self.source.ir)


def quantize(
    model: Model | Path | str,
    *,
    target: str,
    precision: str = "int8",
    table: CalibrationTable | Path | None = None,
    output: Path | str | None = None,
    options: Int8Options | None = None,
) -> QuantizedModel:
    """Quantize a float ONNX model for `target`.

    Args:
        model: A float ONNX file, or one that is loaded.
        target: `cpu` or `tensorrt`.
        precision: `int8` (static Q/DQ), `fp16`, or `dynamic` (INT8 with scales found at run time;
            target `cpu` only, for transformers).
        table: Calibration table or its path; None looks in `calibration/` by the model's hash.
        output: Where to write the model; None keeps it in memory.
        options: How to quantize to INT8.

    Raises:
        ModelError: The model cannot be read, is quantized already, or has nothing to quantize.
        CalibrationError: There is no table, or it was made from another model.
        UsageError: Target, precision or method is unknown, a pattern matches no node, or the output
            is the model itself.
        StorageError: The output cannot be written.
    """
    model = model if isinstance(model, Model) else load(model)
    model.check_float()
    options = options or Int8Options()
    _check(model, precision, output, options)
    if precision == "int8":
        result = _to_int8(model, target, resolve_table(model, table), options)
    elif precision == "fp16":
        result = QuantizedModel(to_float16(prepare(model).ir), model, target, precision)
    else:
        result = _to_dynamic(model, target, options)
    return result if output is None else _saved(result, Path(output))


def resolve_table(model: Model, table: CalibrationTable | Path | None) -> CalibrationTable:
    """Return `table`, read where it is a path, or the one in `calibration/` where it is None.

    Raises:
        ModelError: The model is quantized already.
        CalibrationError: There is no table, or it is damaged.
    """
    if table is None:
        return obtain_table(model, TABLES, None)
    return table if isinstance(table, CalibrationTable) else load_table(table)


def _check(model: Model, precision: str, output: Path | str | None, options: Int8Options) -> None:
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}; choose from {', '.join(PRECISIONS)}")
    if precision != "int8" and options.exclude:
        raise UsageError(f"--exclude {options.exclude[0]!r} has an effect with INT8 only; drop it")
    if output is not None and model.path is not None and _same_file(Path(output), model.path):
        raise UsageError(f"{output} is the model itself; choose another output with -o")


def _same_file(one: Path, other: Path) -> bool:
    return one.exists() and one.samefile(other)


def _to_int8(
    model: Model, target: str, table: CalibrationTable, options: Int8Options
) -> QuantizedModel:
    result = to_int8(model, target, table, options)
    return QuantizedModel(
        ir=result.ir,
        source=model,
        target=target,
        precision="int8",
        plan=result.plan,
        table=table,
        int8_mac_fraction=result.mac_fraction,
        output_sqnr_db=result.output_sqnr_db,
    )


def _to_dynamic(model: Model, target: str, options: Int8Options) -> QuantizedModel:
    if target != "cpu":
        raise UsageError(f"dynamic quantization runs on target cpu only, not {target}; use --int8")
    bits = options.weight_bits or default_weight_bits(target)
    return QuantizedModel(to_dynamic_int8(prepare(model).ir, bits), model, target, "dynamic")


def _saved(result: QuantizedModel, path: Path) -> QuantizedModel:
    save(result.ir, path)
    return replace(result, path=path)
