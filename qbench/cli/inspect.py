"""`qbench inspect`: what is in a model, and what each target will leave in float."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qbench.cli.options.loading import load_model
from qbench.cli.options.project import find_model, load_project
from qbench.cli.options.shared import TARGETS, SizeType, json_option, model_argument, packed

if TYPE_CHECKING:
    from qbench.model.load import Model
    from qbench.quantization.encodings import Encoding
    from qbench.quantization.inspect import Inspection, TargetInspection
    from qbench.quantization.linting.finding import Finding

_MOST_OPS = 12
_MOST_NODES = 10
_MOST_ENCODINGS = 12


@dataclass(frozen=True, kw_only=True)
class _Arguments:
    model: Path | None
    size: tuple[int, int] | None
    target: str | None
    backend: str
    shapes: tuple[str, ...]
    as_json: bool

    def findings(self, model: Model) -> tuple[Finding, ...]:
        """Return what stands against running `model` on the target; nothing without a target.

        Raises:
            UsageError: A shape is malformed.
        """
        from qbench.engines.preflight.check import judged_flavour, preflight
        from qbench.engines.profiles import parse_shapes
        from qbench.quantization.linting.lint import lint

        if self.target == "tensorrt":
            flavour, shapes = judged_flavour(self.backend), parse_shapes(self.shapes)
            return preflight(model, flavour, shapes, self.size)
        return lint(model.ir, self.target) if self.target else ()


@click.command()
@model_argument
@click.option("--size", type=SizeType(), help="Image size where the model is dynamic: 640 or HxW.")
@click.option("--target", type=click.Choice(TARGETS), help="Show what stands against this target.")
@click.option(
    "--backend",
    type=click.Choice(["auto", "tensorrt", "rtx"]),
    default="auto",
    show_default=True,
    help="Which TensorRT; auto takes the one installed, else rtx.",
)
@click.option("--shapes", multiple=True, metavar="NAME=SHAPE", help="Of dynamic inputs (tensorrt).")
@json_option
@packed(_Arguments)
def inspect(arguments: _Arguments) -> None:
    """Show what is in MODEL and what targets make of it.

    Names the nodes that each target leaves in float, and why. Of a quantized model, shows the
    scale, zero-point and type of each tensor. With --target, shows what the target will not build
    or run: node, reason and fix. Nothing is built, and TensorRT need not be installed.
    """
    from msgspec.structs import replace

    from qbench.quantization.inspect import inspect as run

    model = load_model(find_model(arguments.model, load_project()))
    inspection, findings = run(model, arguments.size), arguments.findings(model)
    if arguments.target:
        targets = tuple(t for t in inspection.targets if t.target == arguments.target)
        inspection = replace(inspection, targets=targets)
    if arguments.as_json:
        _print_json(inspection, findings)
        return
    _print_text(inspection)
    if arguments.target:
        _print_findings(arguments, findings)


def _print_json(inspection: Inspection, findings: tuple[Finding, ...]) -> None:
    from msgspec import to_builtins

    from qbench.cli.output.render import print_json

    print_json(to_builtins(inspection) | {"findings": to_builtins(findings)})


def _print_findings(arguments: _Arguments, findings: tuple[Finding, ...]) -> None:
    from qbench.cli.output.render import print_field, print_findings
    from qbench.engines.preflight.check import judged_flavour

    where = arguments.target or ""
    if where == "tensorrt":
        where = f"{where}, judged as {judged_flavour(arguments.backend)}"
    print_field("checked for", where)
    print_findings(findings)


def _print_text(inspection: Inspection) -> None:
    from qbench.cli.output.render import count_text, print_field, size_text
    from qbench.formatting import counted

    print_field("model", f"{inspection.model} (sha256 {inspection.sha256[:12]})")
    print_field("opset", f"{inspection.opset}, made by {inspection.producer or 'unknown'}")
    for kind, specs in (("input", inspection.inputs), ("output", inspection.outputs)):
        for spec in specs:
            dims = ", ".join(str(dim) for dim in spec.shape)
            print_field(kind, f"{spec.name} {spec.dtype} [{dims}]")
    count, size = inspection.parameters, inspection.parameter_bytes
    print_field("parameters", f"{count_text(count)} ({size_text(size)})")
    print_field("MACs", _macs_text(inspection))
    ops = [f"{count} {op}" for op, count in inspection.ops.items()]
    more = f", {counted(len(ops) - _MOST_OPS, 'more kind')}" if len(ops) > _MOST_OPS else ""
    print_field("operators", ", ".join(ops[:_MOST_OPS]) + more)
    for note in inspection.notes:
        print_field("note", note)
    if inspection.encodings:
        _print_encodings(inspection.encodings)
        return
    if inspection.macs is None and any(target.target == "cpu" for target in inspection.targets):
        print_field("note", "what cpu leaves in float depends on sizes, which are not known here")
    for target in inspection.targets:
        _print_target(target, "known MACs" if inspection.uncounted else "MACs")


def _macs_text(inspection: Inspection) -> str:
    from qbench.cli.output.render import count_text
    from qbench.formatting import first_names

    if inspection.macs is None:
        return f"unknown; {_what_is_open(inspection)}"
    without = inspection.uncounted
    unknown = f"; not known of {first_names(without)}" if without else ""
    return count_text(inspection.macs) + unknown


def _what_is_open(inspection: Inspection) -> str:
    """Return what the multiply-accumulates cannot be counted for."""
    from qbench.model.spec import is_image, with_image_size

    images = (spec for spec in inspection.inputs if is_image(spec.shape))
    if all(isinstance(dim, int) for s in images for dim in with_image_size(s.shape, (1, 1))[1:]):
        return "give --size"
    return "the channels of an input are dynamic"


def _print_encodings(encodings: tuple[Encoding, ...]) -> None:
    from rich.table import Table

    from qbench.cli.output.render import print_table

    table = Table(box=None, pad_edge=False)
    table.add_column("tensor", overflow="fold")
    for heading in ("role", "type", "scale", "zero"):
        table.add_column(heading, no_wrap=True)
    # Activations tell more of a calibration than weights do, which often come first in a file.
    for encoding in sorted(encodings, key=lambda e: e.role != "activation")[:_MOST_ENCODINGS]:
        scale = _values_text(encoding.scale, encoding.axis)
        zero_point = _values_text(encoding.zero_point, None)
        table.add_row(encoding.tensor, encoding.role, encoding.dtype, scale, zero_point)
    click.echo()
    print_table(table)
    if len(encodings) > _MOST_ENCODINGS:
        click.echo(f"{len(encodings) - _MOST_ENCODINGS} more; --json lists them")


def _values_text(values: Sequence[float | None], axis: int | None) -> str:
    """Return one value, or the extremes of several with the axis along which they lie."""
    known = [value for value in values if value is not None]
    if not known:
        return "not finite" if values else "computed"
    low, high = min(known), max(known)
    ends = [str(end) if isinstance(end, int) else f"{end:.3g}" for end in (low, high)]
    text = ends[0] if low == high else "..".join(ends)
    return text if axis is None else f"{text} axis {axis}"


def _print_target(target: TargetInspection, of_what: str) -> None:
    from qbench.cli.output.render import counted, percent, print_field, print_floats

    if target.problem:
        print_field(target.target, f"cannot quantize: {target.problem}")
        return
    share = target.int8_mac_fraction
    macs = "" if share is None else f", {percent(share)} of {of_what}"
    print_field(target.target, f"{counted(target.quantized, 'node')} in INT8{macs}")
    print_floats(_MOST_NODES, target.float_nodes)
