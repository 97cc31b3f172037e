"""`qbench.build_engine`: a float model in, a TensorRT engine with its manifest and audit out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from qbench.calibration.given import GivenRanges
from qbench.calibration.table import CalibrationTable
from qbench.engines.audit import EngineAudit
from qbench.engines.audit_model import audit_file
from qbench.engines.builder import OnProgress, build
from qbench.engines.manifest import EngineManifest, write_manifest
from qbench.engines.preflight.check import check_buildable
from qbench.engines.profiles import parse_shapes, profile_for
from qbench.engines.protocol import BuildOptions, BuildRequest
from qbench.engines.record import record
from qbench.engines.targets import LEAST_GPU, check_targets
from qbench.errors import UsageError
from qbench.model.graph import subgraph_notes
from qbench.model.load import Model, load
from qbench.model.prepare import prepare
from qbench.model.save import save
from qbench.quantization.options import Options
from qbench.quantization.quantize import QuantizedModel, quantize, table_for
from qbench.runtimes.flavour import find_flavour

PRECISIONS = ("fp32", "fp16", "bf16", "fp8", "int8", "int4")
"""Precisions of engines; the ONNX file carries them, since the network is strongly typed."""

_TARGET = "tensorrt"


@dataclass(frozen=True)
class EngineOptions:
    """How and where to build.

    Attributes:
        backend: `tensorrt`, `rtx`, or `auto` for the first that is installed.
        shapes: Shapes of dynamic inputs as `profiles.parse_shapes` reads them.
        image_size: Height and width for a dynamic input without a shape; None takes the table's.
        folder: Where the engine, its model, its log and its manifest go.
        build: Everything that the compiler is told.
        quantization: How to write the precision; None for its defaults.
    """

    backend: str = "auto"
    shapes: Sequence[str] = ()
    image_size: tuple[int, int] | None = None
    folder: Path = Path("engines")
    build: BuildOptions = field(default_factory=BuildOptions)
    quantization: Options | None = None


@dataclass(frozen=True)
class Engine:
    """A built engine.

    Attributes:
        path: The engine file.
        manifest: What it was made from, and what is in it.
        audit: Which nodes run in which type; None where this TensorRT does not say without a GPU.
        notes: What was chosen for the user.
    """

    path: Path
    manifest: EngineManifest
    audit: EngineAudit | None
    notes: tuple[str, ...]


def build_engine(
    model: Model | Path | str,
    *,
    precision: str = "int8",
    table: CalibrationTable | GivenRanges | Path | None = None,
    options: EngineOptions | None = None,
    on_progress: OnProgress | None = None,
) -> Engine:
    """Write the model in `precision` and compile it with the TensorRT that is installed.

    Args:
        model: A float ONNX file.
        precision: One of `PRECISIONS`.
        table: Calibration table for `int8`, `fp8` and `fp16`, or given ranges; see `quantize`.
        options: How and where to build.
        on_progress: Called as the phases of the build advance.

    Raises:
        UnfitError: No TensorRT is installed.
        ModelError: The model cannot be read or quantized.
        QuantizationError: It has no weights that the precision could hold.
        CalibrationError: There is no table, or it was made from another model.
        UsageError: Shapes or precision do not fit, or a GPU does not know the precision.
        EngineError: TensorRT refuses the model, or is known to, or its compiler died.
        StorageError: A file cannot be written.
    """
    options = options or EngineOptions()
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}; choose from {', '.join(PRECISIONS)}")
    check_targets(precision, options.build.target_gpus)
    flavour = find_flavour(options.backend)
    given = parse_shapes(options.shapes)
    model = model if isinstance(model, Model) else load(model)
    model.check_float()
    check_buildable(model, flavour)
    used_table = table_for(model, precision, table)
    size = options.image_size or (used_table.image_size if used_table else None)
    profile, notes = profile_for(model.inputs, given, size)
    stem = options.folder / f"{model.path.stem if model.path else 'model'}.{precision}"
    request = BuildRequest(
        onnx=stem.with_name(f"{stem.name}.onnx"),
        output=stem.with_name(f"{stem.name}.engine"),
        log=stem.with_name(f"{stem.name}.log"),
        flavour=flavour,
        profile=profile,
        options=replace(options.build, least_gpu=LEAST_GPU.get(precision, 0)),
    )
    typed = _write_typed(model, precision, used_table, options, request.onnx)
    result = build(request, on_progress)
    plan = typed.plan if typed else None
    findings = audit_file(result.layers, request.onnx, plan) if result.layers else None
    manifest = record(request, result, model, precision, used_table, findings)
    write_manifest(manifest, options.folder)
    notes += typed.notes if typed else subgraph_notes(model.ir)
    return Engine(request.output, manifest, findings, notes)


def _write_typed(
    model: Model,
    precision: str,
    table: CalibrationTable | GivenRanges | None,
    options: EngineOptions,
    output: Path,
) -> QuantizedModel | None:
    """Write the ONNX file that carries the precision; return what it was made by, if not FP32."""
    if precision == "fp32":
        save(prepare(model).ir, output)
        return None
    return quantize(
        model,
        target=_TARGET,
        precision=precision,
        table=table,
        output=output,
        options=options.quantization,
    )
