"""`qbench quantize`: a float model in, a quantized model out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qbench.cli.options import (
    ModelArguments,
    PathType,
    data_options,
    effort_option,
    exclude_option,
    json_option,
    model_argument,
    packed,
    table_option,
)

if TYPE_CHECKING:
    from qbench.quantization.audit import KernelAudit
    from qbench.quantization.quantize import QuantizedModel

_MOST_NODES = 12


@dataclass(frozen=True, kw_only=True)
class _Arguments(ModelArguments):
    target: str
    precision: str
    table: Path | None
    method: str
    exclude: tuple[str, ...]
    effort: str
    output: Path | None
    as_json: bool


@click.command()
@model_argument
@click.option(
    "--target", type=click.Choice(["cpu", "tensorrt"]), required=True, help="Where it shall run."
)
@click.option("--int8", "precision", flag_value="int8", default="int8", help="Static (default).")
@click.option("--fp16", "precision", flag_value="fp16", help="Inputs and outputs stay FP32.")
@click.option("--dynamic", "precision", flag_value="dynamic", help="INT8, scales at run time; cpu.")
@data_options
@table_option
@click.option(
    "--method",
    type=click.Choice(["minmax", "percentile", "entropy", "mse"]),
    default="mse",
    show_default=True,
    help="How ranges are found.",
)
@exclude_option
@effort_option
@click.option(
    "-o", "--output", type=PathType, help="<model>.<target>.<precision>.onnx if left out."
)
@json_option
@packed(_Arguments)
def quantize(arguments: _Arguments) -> None:
    """Write a quantized MODEL for a target.

    INT8 takes the calibration table that was made from MODEL; --data calibrates on the way.
    """
    from qbench.cli.tables import table_for
    from qbench.model.load import load
    from qbench.quantization.int8 import Int8Options
    from qbench.quantization.quantize import quantize as run

    path, precision = arguments.path(), arguments.precision
    model = load(path)
    needs_table = precision == "int8"
    result = run(
        model,
        target=arguments.target,
        precision=precision,
        table=table_for(model, arguments.table, arguments.choice()) if needs_table else None,
        output=arguments.output or path.with_suffix(f".{arguments.target}.{precision}.onnx"),
        options=Int8Options(
            method=arguments.method, exclude=arguments.exclude, effort=arguments.effort
        ),
    )
    audit = _audit(result)
    if arguments.as_json:
        _print_json(result, audit)
    else:
        _print_text(result, audit)


def _audit(result: QuantizedModel) -> KernelAudit | None:
    """Ask the target what it made of the plan; only the CPU provider can be asked here."""
    from qbench.model.prepare import prepare
    from qbench.quantization.audit import audit_cpu

    if result.target != "cpu" or result.plan is None or result.path is None:
        return None
    return audit_cpu(result.path, prepare(result.source).ir, result.plan)


def _print_json(result: QuantizedModel, audit: KernelAudit | None) -> None:
    from qbench.artifacts import SCHEMA_VERSION
    from qbench.cli.render import print_json

    print_json(
        {
            "schema_version": SCHEMA_VERSION,
            "output": str(result.path),
            "target": result.target,
            "precision": result.precision,
            "int8_mac_fraction": result.int8_mac_fraction,
            "output_sqnr_db": result.output_sqnr_db,
            "float_nodes": result.float_nodes,
            "notes": result.notes,
            "audit": audit,
        }
    )


def _print_text(result: QuantizedModel, audit: KernelAudit | None) -> None:
    from qbench.cli.render import percent, size_text

    if result.plan is not None:
        if result.int8_mac_fraction is not None:
            click.echo(f"{percent(result.int8_mac_fraction)} of multiply-accumulates in INT8")
        for node in result.float_nodes[:_MOST_NODES]:
            click.echo(f"  float: {node.name} ({node.op_type}): {node.reason}")
        if len(result.float_nodes) > _MOST_NODES:
            click.echo(f"  float: {len(result.float_nodes) - _MOST_NODES} more; --json lists them")
    for note in result.notes:
        click.echo(f"note: {note}")
    if result.output_sqnr_db is not None:
        click.echo(
            f"output against the float model: {result.output_sqnr_db:.0f} dB signal to noise "
            "on calibration samples"
        )
    if audit is not None:
        click.echo(
            f"ONNX Runtime runs {audit.integer} of {audit.planned} planned compute nodes "
            "on integer kernels"
        )
        for name in audit.unfused[:_MOST_NODES]:
            click.echo(f"  not fused: {name}")
    assert result.path is not None  # the command always names an output
    click.echo(f"wrote {result.path} ({size_text(result.path.stat().st_size)})")
