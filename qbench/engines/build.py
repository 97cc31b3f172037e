"""`qbench.build_engine`: a model in, a TensorRT engine with its manifest and audit out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from msgspec import structs

from qbench.artifacts import check_name, check_writable, staged
from qbench.calibration.given import GivenRanges
from qbench.calibration.table import CalibrationTable
from qbench.data.choice import DataChoice
from qbench.engines.as_given import (
    check_calibrates,
    check_precision,
    is_as_given,
    precision_for,
    what_it_has,
)
from qbench.engines.auditing.engine import EngineAudit
from qbench.engines.auditing.model import audit_file, least_gpu_of
from qbench.engines.compiling.builder import OnProgress, build
from qbench.engines.compiling.config import check_gpu, check_options
from qbench.engines.compiling.implicit import check_implicit
from qbench.engines.compiling.implicit_order import implicit_int8, implicit_on_images
from qbench.engines.compiling.io_formats import check_float_formats, check_format_names
from qbench.engines.compiling.limits import Limits, check_limits
from qbench.engines.compiling.protocol import BuildOptions, BuildRequest, ImplicitInt8
from qbench.engines.compiling.targets import LEAST_GPU, check_products, check_targets
from qbench.engines.compiling.timing_cache import check_place
from qbench.engines.manifest import AS_GIVEN, IMPLICIT, EngineManifest, write_manifest
from qbench.engines.preflight.check import check_buildable
from qbench.engines.profiles import (
    ShapeProfile,
    check_profiles,
    parse_profiles,
    profiles_for,
)
from qbench.engines.record import record
from qbench.errors import StorageError, UsageError
from qbench.formatting import digits, percent, size_text
from qbench.html import terms_table
from qbench.model.graph import subgraph_notes
from qbench.model.load import Model, load
from qbench.model.prepare import prepare
from qbench.model.save import save
from qbench.quantization.options import Options
from qbench.quantization.precisions.half import HalfOptions
from qbench.quantization.quantize import quantize
from qbench.quantization.quantized import QuantizedModel
from qbench.quantization.tables import table_if_used
from qbench.runtimes.gpu.devices import current_gpu
from qbench.runtimes.tensorrt.flavour import Flavour, find_flavour, import_flavour

PRECISIONS = ("fp32", "fp16", "bf16", "fp8", "int8", "int4")
"""Precisions of engines; the ONNX file carries them, since the network is strongly typed."""

_TARGET = "tensorrt"


@dataclass(frozen=True)
class EngineOptions:
    """How and where to build.

    Attributes:
        backend: `tensorrt`, `rtx`, or `auto` for the first that is installed.
        shapes: Shapes of dynamic inputs as `profiles.parse_profiles` reads them.
        image_size: Height and width for a dynamic input without a shape; None takes the table's.
        folder: Where the engine, its model, its log and its manifest go.
        build: Everything that the compiler is told.
        limits: What the compiler may take.
        quantization: How to write the precision; None for its defaults.
        calibrator: Let TensorRT 10 place INT8 by itself, with this key of `implicit.CALIBRATORS`;
            None writes it into the model.
        images: What that calibrator finds ranges on, in place of a table.
    """

    backend: str = "auto"
    shapes: Sequence[str] = ()
    image_size: tuple[int, int] | None = None
    folder: Path | str = "engines"
    build: BuildOptions = field(default_factory=BuildOptions)
    limits: Limits = field(default_factory=Limits)
    quantization: Options | None = None
    calibrator: str | None = None
    images: DataChoice | None = None


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

    def _repr_html_(self) -> str:
        """Return what was built, for a notebook."""
        manifest = self.manifest
        share = manifest.int8_conv_fraction
        layers = (f"{dtype} {count}" for dtype, count in manifest.layers_by_dtype.items())
        return terms_table(
            {
                "precision": manifest.precision,
                "built by": f"{manifest.flavour} {manifest.flavour_version}",
                "for": ", ".join(manifest.targets) or "the GPU at hand",
                "in": f"{digits(manifest.seconds)} s",
                "layers": ", ".join(layers),
                "convolutions in INT8": None if share is None else percent(share),
                "notes": "; ".join(self.notes),
                "file": f"{self.path} ({size_text(manifest.size_bytes)})",
            }
        )


def build_engine(
    model: Model | Path | str,
    *,
    precision: str | None = None,
    table: CalibrationTable | GivenRanges | Path | str | None = None,
    options: EngineOptions | None = None,
    on_progress: OnProgress | None = None,
) -> Engine:
    """Write the model in `precision` and compile it with the TensorRT that is installed.

    A model that holds Q/DQ nodes already, made by any tool, or that computes in half precision, is
    compiled as it is.

    Args:
        model: An ONNX file.
        precision: One of `PRECISIONS`; None for the one that the model has, which is the only one
            for such a model, else `int8`.
        table: Calibration table for `int8`, `fp8` and `fp16`, or given ranges; see `quantize`.
        options: How and where to build.
        on_progress: Called as the phases of the build advance.

    Raises:
        UnfitError: No TensorRT is installed.
        ModelError: The model cannot be read or quantized, or has a precision already and something
            else is asked for than to build it.
        QuantizationError: It has no weights that the precision could hold.
        CalibrationError: There is no table, or it was made from another model.
        UsageError: Shapes or precision do not fit, or a GPU does not know the precision.
        EngineError: TensorRT refuses the model, or is known to, or its compiler died.
        StorageError: A file cannot be written.
    """
    options = options or EngineOptions()
    flavour = check_options_of(precision, options)
    model = model if isinstance(model, Model) else load(model)
    precision = precision_for(model, precision)
    check_model(model, precision, options, flavour)
    check_calibrates(model, precision, table)
    is_calibrated = options.images is None and not is_as_given(model, precision)
    used_table = table_if_used(model, precision, table) if is_calibrated else None
    size = options.image_size or (used_table.image_size if used_table else None)
    profiles, notes = profiles_for(model.inputs, parse_profiles(options.shapes), size)
    engine = _built(_Order(model, precision, used_table, options, flavour, profiles), on_progress)
    return replace(engine, notes=notes + engine.notes)


def check_options_of(precision: str | None, options: EngineOptions) -> Flavour:
    """Make sure, before any work, that an engine can be built so; return what builds it.

    Raises:
        UnfitError: No TensorRT is installed, it cannot be loaded, or it lacks a GPU.
        UsageError: Options contradict each other, or the TensorRT at hand lacks one.
        StorageError: The timing cache cannot be written.
    """
    if precision not in {None, *PRECISIONS}:
        raise UsageError(f"unknown precision {precision!r}; choose from {', '.join(PRECISIONS)}")
    flavour = find_flavour(options.backend)
    check_limits(options.limits)
    if options.calibrator is not None and precision not in {None, "int8"}:
        raise UsageError(f"--legacy-implicit has an effect with --int8 only, not --{precision}")
    if options.images is not None and options.calibrator is None:
        raise UsageError("images are for TensorRT's own calibrator; add --legacy-implicit")
    module, gpu = import_flavour(flavour), current_gpu()
    check_options(module, options.build, gpu)
    if options.calibrator is not None:
        check_implicit(module, options.build)
    check_gpu(module, gpu)
    if options.build.timing_cache is not None:
        check_place(options.build.timing_cache)
    return flavour


def check_model(model: Model, precision: str, options: EngineOptions, flavour: Flavour) -> None:
    """Make sure, before any work, that `model` can be built, with these shapes and layouts.

    Raises:
        UsageError: A shape or layout fits no input or output, or a target lacks what it needs.
        EngineError: TensorRT is known not to build it.
        ModelError: It is quantized already, or in half precision, and asked for in another
            precision or way.
        StorageError: The engine cannot be written, or a name is not in UTF-8.
    """
    check_targets(precision, options.build.target_gpus)
    check_precision(model, precision, options.calibrator, options.quantization)
    check_name(model.path or "")
    stem = _stem(model, precision, options)
    check_name(stem)
    check_writable(_manifest_at(stem))
    check_products(precision, options.build.target_gpus, model.ir.graph)
    check_profiles(model.inputs, parse_profiles(options.shapes))
    specs = (*model.inputs, *model.outputs)
    check_format_names(options.build.io_formats, [spec.name for spec in specs])
    if not isinstance(options.quantization, HalfOptions) or options.quantization.keep_io:
        floats = [spec.name for spec in specs if spec.dtype == np.float32]
        check_float_formats(options.build.io_formats, floats)
    check_buildable(model, flavour)


@contextmanager
def _staged_together(stem: Path) -> Iterator[Path]:
    """Yield the manifest's place in a folder whose files appear together, the manifest last.

    So an engine never lies beside the model, log or manifest of another build. Errors name the
    folder that the user knows.
    """
    with staged(_manifest_at(stem)) as place:
        try:
            yield place
        except StorageError as error:
            known = str(error).replace(str(place.parent), str(stem.parent))
            raise StorageError(known) from error


def _built(order: "_Order", on_progress: OnProgress | None) -> Engine:
    """Write the model that carries the precision, and build, audit and record its engine."""
    stem, options = order.stem, order.options
    with _staged_together(stem) as place:
        request = order.request(place)
        typed = order.write_typed(request.onnx)
        result = build(request, on_progress, options.limits)
        plan = typed.plan if typed else None
        findings = audit_file(result.layers, request.onnx, plan) if result.layers else None
        manifest = record(request, result, order.model, order.label, order.table, findings)
        write_manifest(manifest, place.parent)
    _failed_log(stem).unlink(missing_ok=True)
    notes = typed.notes if typed else subgraph_notes(order.model.ir)
    if order.is_as_given:
        notes = (f"the model {what_it_has(order.model)}, and was built as it is", *notes)
    return Engine(stem.with_name(request.output.name), manifest, findings, notes)


@dataclass(frozen=True)
class _Order:
    """What is to be built, once it is known that it can be.

    Attributes:
        table: What gives the scales; None where nothing does.
        profiles: Shapes of dynamic inputs.
    """

    model: Model
    precision: str
    table: CalibrationTable | GivenRanges | None
    options: EngineOptions
    flavour: Flavour
    profiles: tuple[ShapeProfile, ...]

    @property
    def is_as_given(self) -> bool:
        """Whether the model has its precision already."""
        return is_as_given(self.model, self.precision)

    @property
    def label(self) -> str:
        """How the manifest names the precision."""
        return _label(self.model, self.precision, self.options)

    @property
    def stem(self) -> Path:
        """Place and name of all files, without their endings."""
        return _stem(self.model, self.precision, self.options)

    def request(self, place: Path) -> BuildRequest:
        """Return what to build beside `place`."""
        stem, build_options = self.stem, self.options.build
        return BuildRequest(
            onnx=place.with_name(f"{stem.name}.onnx"),
            output=place.with_name(f"{stem.name}.engine"),
            log=place.with_name(f"{stem.name}.log"),
            flavour=self.flavour,
            profiles=self.profiles,
            options=structs.replace(build_options, least_gpu=self._least_gpu()),
            implicit=self._implicit(),
            title=f"{self.model.path or 'the model'} in {self.label}",
            failed_log=_failed_log(stem),
        )

    def write_typed(self, output: Path) -> QuantizedModel | None:
        """Write the ONNX file that carries the precision; return how, where it is quantized."""
        if self.is_as_given:
            save(self.model.ir, output)
            return None
        if self.precision == "fp32" or self.options.calibrator is not None:
            save(prepare(self.model).ir, output)
            return None
        return quantize(
            self.model,
            target=_TARGET,
            precision=self.precision,
            table=self.table,
            output=output,
            options=self.options.quantization,
        )

    def _least_gpu(self) -> int:
        least = LEAST_GPU.get(self.precision, 0)
        return max(least, least_gpu_of(self.model.ir.graph)) if self.model.is_quantized else least

    def _implicit(self) -> ImplicitInt8 | None:
        images, calibrator = self.options.images, self.options.calibrator
        if calibrator is None:
            return None
        if images is not None:
            return implicit_on_images(self.model, images, calibrator, self.profiles)
        assert self.table is not None  # INT8 takes one
        return implicit_int8(self.table, calibrator)


def _label(model: Model, precision: str, options: EngineOptions) -> str:
    if model.is_quantized:
        return AS_GIVEN
    return f"{precision}{IMPLICIT}" if options.calibrator else precision


def _stem(model: Model, precision: str, options: EngineOptions) -> Path:
    name = model.path.stem if model.path else "model"
    return Path(options.folder) / f"{name}.{_label(model, precision, options)}"


def _manifest_at(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.json")


def _failed_log(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.failed.log")
