"""`qbench quantize`: a float model in, a quantized model out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qbench.cli.options.loading import load_model
from qbench.cli.options.precisions import PrecisionArguments, precision_options, watched
from qbench.cli.options.shared import (
    METHODS,
    FileType,
    data_options,
    effort_option,
    json_option,
    model_argument,
    packed,
    table_option,
    target_option,
)
from qbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection

    from qbench.benchmarking.speedup import Speedup
    from qbench.benchmarking.target_check import TargetCheck
    from qbench.engines.auditing.engine import EngineAudit
    from qbench.quantization.audit import KernelAudit
    from qbench.quantization.choice import Step
    from qbench.quantization.options import Options
    from qbench.quantization.quantized import QuantizedModel

_MOST_NODES = 12


@dataclass(frozen=True, kw_only=True)
class _Arguments(PrecisionArguments):
    target: str
    method: str | None
    cpu_isa: str
    output: Path | None
    no_audit: bool
    as_json: bool

    def written_as(self) -> Options | None:
        """Return how to write the precision.

        Raises:
            UsageError: An option has no effect on precision or target.
        """
        from qbench.quantization.int8 import SATURATING_ISA, Int8Options

        options = self.quantization(self.method)
        if self.cpu_isa == "auto":
            return options
        if self.target != "cpu" or self.precision not in {"int8", "dynamic"}:
            raise UsageError(
                f"--cpu-isa {self.cpu_isa} has an effect with --target cpu and --int8 or --dynamic "
                "only; drop it"
            )
        assert isinstance(options, Int8Options)
        return replace(options, saturates=SATURATING_ISA[self.cpu_isa])


@click.command()
@model_argument
@target_option
@precision_options("int8", "fp16", "bf16", "fp8", "int4", "weight-only", "dynamic")
@data_options
@table_option
@click.option(
    "--method",
    type=click.Choice(METHODS),
    help="How ranges are found.  [default: mse]",
)
@effort_option
@click.option(
    "--cpu-isa",
    type=click.Choice(["auto", "avx2", "avx512", "vnni", "arm"]),
    default="auto",
    show_default=True,
    help="INT8 for another CPU than this one: weights are coarser without VNNI.",
)
@click.option(
    "-o", "--output", type=FileType, help="<model>.<target>.<precision>.onnx if left out."
)
@click.option("--no-audit", is_flag=True, help="INT8: ask the target neither kernels nor speed.")
@json_option
@packed(_Arguments)
def quantize(arguments: _Arguments) -> None:
    """Write a quantized MODEL for a target.

    INT8 and FP8 take the calibration table that was made from MODEL, and FP16 does where there is
    one; --data calibrates on the way. Of INT8, the target itself then says which nodes run on
    integers (tensorrt: where TensorRT for RTX is installed) and, on a CPU, how fast they do.
    """
    from qbench.artifacts import check_unread
    from qbench.benchmarking.target_check import TargetCheck, check_on_target
    from qbench.cli.output.render import progress
    from qbench.model.save import check_output
    from qbench.quantization.options import check_precision
    from qbench.quantization.quantize import quantize as run

    path, precision, target = arguments.path(), arguments.precision, arguments.target
    check_precision(precision, target)
    options = arguments.written_as()  # all this before calibrating
    model = load_model(path)
    output = arguments.output or path.with_suffix(f".{target}.{precision}.onnx")
    check_output(model, output)
    check_unread([output], arguments.read)
    table = arguments.calibration(model)
    with progress("searching", "run") as report:
        result = run(
            model,
            target=target,
            precision=precision,
            table=table,
            output=output,
            options=watched(options, report),
        )
    check = TargetCheck() if arguments.no_audit else check_on_target(result)
    if arguments.as_json:
        _print_json(result, check)
    else:
        _print_text(result, check)


def _print_json(result: QuantizedModel, check: TargetCheck) -> None:
    from qbench.artifacts import SCHEMA_VERSION
    from qbench.cli.output.render import print_json

    before, after = _sizes(result)
    print_json(
        {
            "schema_version": SCHEMA_VERSION,
            "output": str(result.path),
            "source_bytes": before,
            "size_bytes": after,
            "target": result.target,
            "precision": result.precision,
            "int8_mac_fraction": result.int8_mac_fraction,
            "uncounted": result.uncounted,
            "output_sqnr_db": result.output_sqnr_db,
            "steps": [step._asdict() for step in result.steps],
            "float_nodes": result.float_nodes,
            "notes": result.notes + check.notes,
            "audit": check.audit,
            "speedup": check.speedup,
        }
    )


def _print_text(result: QuantizedModel, check: TargetCheck) -> None:
    from qbench.cli.output.render import percent, print_floats, print_notes, size_text
    from qbench.formatting import first_names

    if result.int8_mac_fraction is not None:
        known = "known " if result.uncounted else ""
        click.echo(f"{percent(result.int8_mac_fraction)} of {known}multiply-accumulates in INT8")
    if result.uncounted:
        print_notes([f"  not known of {first_names(result.uncounted)}"])
    print_floats(_MOST_NODES, result.float_nodes)
    print_notes(f"note: {note}" for note in result.notes + check.notes)
    if len(result.steps) > 1:
        steps = ", ".join(map(_step_text, result.steps))
        print_notes([f"steps: {steps}"])
    if result.output_sqnr_db is not None:
        click.echo(
            f"output against the float model: {result.output_sqnr_db:.0f} dB signal to noise "
            "on calibration samples"
        )
    if check.audit is not None:
        _print_audit(check.audit, {node.name for node in result.float_nodes})
    if check.speedup is not None:
        _print_speedup(check.speedup)
    _, size = _sizes(result)
    click.echo(f"wrote {result.path} ({size_text(size)})")


def _step_text(step: Step) -> str:
    changed = f" ({step.changed})" if step.changed else ""
    return f"{step.name} {step.output_sqnr_db:.0f} dB{changed}"


def _print_audit(audit: KernelAudit | EngineAudit, told: Collection[str]) -> None:
    """Print what the target made of it; of the nodes in `told` it is known why they are float."""
    from qbench.cli.output.render import counted, print_floats, print_not_int8
    from qbench.engines.auditing.engine import EngineAudit, count_in

    if isinstance(audit, EngineAudit):
        integer, whole = count_in(audit.nodes_by_dtype)
        nodes = counted(whole, "compute node")
        click.echo(f"TensorRT for RTX runs {integer} of {nodes} in INT8")
        print_not_int8(_MOST_NODES, [node for node in audit.not_int8 if node.node not in told])
        return
    click.echo(
        f"ONNX Runtime runs {audit.integer} of {counted(audit.planned, 'planned compute node')} "
        "on integer kernels"
    )
    print_floats(_MOST_NODES, audit.unfused, "not fused")


def _print_speedup(speedup: Speedup) -> None:
    from qbench.cli.output.render import print_notes

    ratio = speedup.ratio
    times = f"{ratio.value:.2f} x FP32 [{ratio.low:.2f}, {ratio.high:.2f}]"
    told = f"slower, {times}" if speedup.verdict == "slower" else times
    glance = f"at a glance {told} on this CPU; `qbench bench` measures"
    print_notes([glance, *(f"  {reason}" for reason in speedup.reasons)])


def _sizes(result: QuantizedModel) -> tuple[int, int]:
    """Return the bytes of the float model and of the new one, with their external data."""
    from qbench.model.load import size_on_disk

    source = result.source.path
    assert source is not None  # the command always names both files
    assert result.path is not None
    return size_on_disk(source, result.source.ir), size_on_disk(result.path)
