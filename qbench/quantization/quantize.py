"""`qbench.quantize`: a float model and its calibration table in, a quantized model out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from qbench.calibration.calibrate import obtain_table
from qbench.calibration.table import CalibrationTable, load_table
from qbench.errors import ModelError, UsageError
from qbench.model.load import Model, load
from qbench.model.prepare import prepare
from qbench.model.save import save
from qbench.model.shapes import bind_shapes, example_shapes, macs_by_node
from qbench.placement.plan import FloatNode, Plan
from qbench.placement.targets import place
from qbench.quantization.corrections import bias_shifts
from qbench.quantization.dynamic import to_dynamic_int8
from qbench.quantization.numerics import QuantizationParameters, asymmetric, symmetric
from qbench.quantization.precision import to_float16
from qbench.quantization.qdq import write_qdq
from qbench.runtimes.cpu import adds_in_32_bits, read_cpuinfo

DEFAULT_METHOD = "mse"
TABLES = Path("calibration")
"""Folder of calibration tables, below the current one."""


@dataclass(frozen=True)
class Int8Options:
    """How to quantize to INT8.

    Attributes:
        method: Range method of activations; a key of `calibration.ranges.METHODS`.
        exclude: Shell wildcards of node names that stay float.
        weight_bits: 8, 7, or None to choose 7 for target `cpu` on a CPU without VNNI.
    """

    method: str = DEFAULT_METHOD
    exclude: Sequence[str] = ()
    weight_bits: int | None = None


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
        path: Where it was written, or None.
    """

    ir: ir.Model
    source: Model
    target: str
    precision: str
    plan: Plan | None = None
    table: CalibrationTable | None = None
    int8_mac_fraction: float | None = None
    path: Path | None = None

    @property
    def float_nodes(self) -> tuple[FloatNode, ...]:
        """Compute nodes that stay float, with the reason."""
        return self.plan.floats if self.plan else ()


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
        UsageError: Target, precision or method is unknown, or a pattern matches no node.
        StorageError: The output cannot be written.
    """
    model = model if isinstance(model, Model) else load(model)
    if precision == "int8":
        result = _to_int8(model, target, _table(model, table), options or Int8Options())
    elif precision == "fp16":
        result = QuantizedModel(to_float16(prepare(model).ir), model, target, precision)
    elif precision == "dynamic":
        result = _to_dynamic(model, target, options or Int8Options())
    else:
        raise UsageError(f"unknown precision {precision!r}; choose int8, fp16 or dynamic")
    return result if output is None else _saved(result, Path(output))


def _table(model: Model, table: CalibrationTable | Path | None) -> CalibrationTable:
    if table is None:
        return obtain_table(model, TABLES, None)
    return table if isinstance(table, CalibrationTable) else load_table(table)


def _to_int8(
    model: Model, target: str, table: CalibrationTable, options: Int8Options
) -> QuantizedModel:
    table.check_model(model.sha256, str(model.path))
    prepared = prepare(model)
    plan = place(prepared, target, options.exclude)
    parameters = {
        tensor: activation_parameters(table, tensor, options.method, plan.symmetric)
        for tensor in plan.observed
    }
    bits = options.weight_bits or default_weight_bits(target)
    shifts = bias_shifts(prepared.ir.graph, plan, table.statistics, bits)
    return QuantizedModel(
        ir=write_qdq(prepared.ir, plan, parameters, bits, shifts),
        source=model,
        target=target,
        precision="int8",
        plan=plan,
        table=table,
        int8_mac_fraction=mac_fraction(prepared, plan, table.header.image_size),
    )


def _to_dynamic(model: Model, target: str, options: Int8Options) -> QuantizedModel:
    if target != "cpu":
        raise UsageError(f"dynamic quantization runs on target cpu only, not {target}; use --int8")
    bits = options.weight_bits or default_weight_bits(target)
    return QuantizedModel(to_dynamic_int8(prepare(model).ir, bits), model, target, "dynamic")


def activation_parameters(
    table: CalibrationTable, tensor: str, method: str, is_symmetric: bool
) -> QuantizationParameters:
    """Return scale and zero-point of an activation from its statistics."""
    low, high = table.range_of(tensor, method, symmetric=is_symmetric)
    return symmetric(low, high) if is_symmetric else asymmetric(low, high)


def default_weight_bits(target: str) -> int:
    """Return 7 where full-range int8 weights would saturate, else 8.

    x86 without VNNI adds pairs of uint8 x int8 products in 16 bits (VPMADDUBSW): 2 x 255 x 127
    overflows them, 2 x 255 x 63 does not.
    """
    return 7 if target == "cpu" and not adds_in_32_bits(read_cpuinfo()) else 8


def mac_fraction(prepared: Model, plan: Plan, image_size: tuple[int, int] | None) -> float | None:
    """Return the share of multiply-accumulates that the plan quantizes, 0 to 1.

    None where the model leaves its image size open and none is given.
    """
    try:
        shapes = example_shapes(prepared, image_size)
    except ModelError:
        return None
    macs = macs_by_node(bind_shapes(prepared.ir, shapes))
    total = sum(macs.values())
    chosen = set(plan.quantized)
    quantized = sum(count for name, count in macs.items() if name in chosen)
    return quantized / total if total else None


def _saved(result: QuantizedModel, path: Path) -> QuantizedModel:
    save(result.ir, path)
    return replace(result, path=path)
