"""`qbench build-trt`: a model in, a TensorRT engine out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from qbench.cli.options.engine import SECTIONS, EngineArguments, engine_options
from qbench.cli.options.loading import load_model
from qbench.cli.options.precisions import precision_options, watched
from qbench.cli.options.sections import SectionedCommand
from qbench.cli.options.shared import (
    PathType,
    data_options,
    effort_option,
    json_option,
    model_argument,
    packed,
    table_option,
)

if TYPE_CHECKING:
    from qbench.engines.auditing.engine import EngineAudit
    from qbench.engines.build import Engine

_MOST_NODES = 8
_CODES = {"as-given": "Int8", "int8": "Int8", "int8-implicit": "Int8", "fp8": "FP8"}
"""TensorRT's words for the types that precisions compute in."""


@dataclass(frozen=True, kw_only=True)
class _Arguments(EngineArguments):
    as_json: bool

    def asked_precision(self) -> str | None:
        """Return the precision that is asked for; None where it is left to the model."""
        source = click.get_current_context().get_parameter_source(self.precision)
        return self.precision if source is ParameterSource.COMMANDLINE else None


@click.command("build-trt", cls=SectionedCommand, sections=SECTIONS)
@model_argument
@precision_options("int8", "fp16", "bf16", "fp8", "int4", "fp32")
@data_options
@table_option
@effort_option
@engine_options
@click.option(
    "-o", "--output", type=PathType, default=Path("engines"), show_default=True, help="Folder."
)
@json_option
@packed(_Arguments)
def build_trt(arguments: _Arguments) -> None:
    """Build a TensorRT engine of MODEL.

    The engine is strongly typed, by the TensorRT that is installed. INT8 and FP8 take the
    calibration table that was made from MODEL, and FP16 does where there is one; --data calibrates
    on the way. Precision is written into the ONNX file, so the same command works on TensorRT 10,
    11 and TensorRT for RTX.

    A MODEL with Q/DQ nodes or in half precision, made by any tool, is built as it is: leave
    precision and calibration out.
    """
    from qbench.engines.auditing.requirement import check_engine_int8

    engine = _build(arguments)
    if arguments.as_json:
        _print_json(engine)
    else:
        _print_text(engine)
    if arguments.require_int8 is not None:
        check_engine_int8(engine.path, engine.audit, arguments.require_int8)


def _build(arguments: _Arguments) -> Engine:
    """Build, once it is sure before any work that this TensorRT can do what is asked."""
    from qbench.cli.output.build_bar import shown_build
    from qbench.engines.as_given import check_calibrates, precision_for
    from qbench.engines.build import build_engine, check_model, check_options_of

    options, asked = arguments.options(), arguments.asked_precision()
    flavour = check_options_of(asked, options)
    model = load_model(arguments.path())
    precision = precision_for(model, asked)
    check_model(model, precision, options, flavour)
    check_calibrates(model, precision, arguments.ranges, arguments.choice())
    table = None if options.images else arguments.calibration(model)
    with shown_build(arguments.verbose) as bar:
        return build_engine(
            model,
            precision=precision,
            table=table,
            options=replace(options, quantization=watched(options.quantization, bar.search)),
            on_progress=bar.build,
        )


def _print_json(engine: Engine) -> None:
    from qbench.artifacts import SCHEMA_VERSION
    from qbench.cli.output.render import print_json
    from qbench.engines.manifest import manifest_path

    print_json(
        {
            "schema_version": SCHEMA_VERSION,
            "output": str(engine.path),
            "manifest": str(manifest_path(engine.path)),
            "seconds": engine.manifest.seconds,
            "layers_by_dtype": engine.manifest.layers_by_dtype,
            "audit": engine.audit,
            "notes": engine.notes,
        }
    )


def _print_text(engine: Engine) -> None:
    from qbench.cli.output.render import print_notes, size_text

    manifest = engine.manifest
    print_notes(f"note: {note}" for note in engine.notes)
    targets = f" for {', '.join(manifest.targets)}" if manifest.targets else ""
    click.echo(f"{manifest.flavour} {manifest.flavour_version}{targets}: {manifest.seconds:.1f} s")
    if engine.audit is None:
        click.echo("which layers run in INT8 is known once the engine is loaded on a GPU")
    else:
        layers = ", ".join(f"{count} {dtype}" for dtype, count in manifest.layers_by_dtype.items())
        click.echo(f"layers: {layers}")
        if manifest.precision in _CODES:
            _print_share(engine.audit, _CODES[manifest.precision])
    click.echo(f"wrote {engine.path} ({size_text(manifest.size_bytes)}) and its manifest")


def _print_share(audit: EngineAudit, dtype: str) -> None:
    """Print how many convolutions run in a quantized type, and which nodes do not."""
    from qbench.cli.output.render import percent, print_not_int8

    share = audit.fraction("Conv", dtype)
    if share is not None:
        click.echo(f"convolutions in {dtype.upper()}: {percent(share)}")
    print_not_int8(_MOST_NODES, [node for node in audit.not_int8 if node.dtype != dtype])
