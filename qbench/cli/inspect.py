"""`qbench inspect`: what is in a model, and what each target will leave in float."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qbench.cli.options import SizeType, json_option, model_argument
from qbench.cli.project import find_model, load_project

if TYPE_CHECKING:
    from qbench.quantization.encodings import Encoding
    from qbench.quantization.inspect import Inspection, TargetInspection

_MOST_OPS = 12
_MOST_NODES = 10
_MOST_ENCODINGS = 12


@click.command()
@model_argument
@click.option("--size", type=SizeType(), help="Image size where the model is dynamic: 640 or HxW.")
@json_option
def inspect(model: Path | None, size: tuple[int, int] | None, as_json: bool) -> None:
    """Show what is in MODEL and what targets make of it.

    Names the nodes that each target leaves in float, and why. Of a quantized model, shows the
    scale, zero-point and type of each tensor.
    """
    from qbench.cli.render import print_json
    from qbench.model.load import load
    from qbench.quantization.inspect import inspect as run

    inspection = run(load(find_model(model, load_project())), size)
    if as_json:
        print_json(inspection)
    else:
        _print_text(inspection)


def _print_text(inspection: Inspection) -> None:
    from qbench.cli.render import count_text, print_field, size_text

    print_field("model", f"{inspection.model} (sha256 {inspection.sha256[:12]})")
    print_field("opset", f"{inspection.opset}, made by {inspection.producer or 'unknown'}")
    for kind, specs in (("input", inspection.inputs), ("output", inspection.outputs)):
        for spec in specs:
            dims = ", ".join(str(dim) for dim in spec.shape)
            print_field(kind, f"{spec.name} {spec.dtype} [{dims}]")
    count, size = inspection.parameters, inspection.parameter_bytes
    print_field("parameters", f"{count_text(count)} ({size_text(size)})")
    macs = "unknown; give --size" if inspection.macs is None else count_text(inspection.macs)
    print_field("MACs", macs)
    ops = [f"{count} {op}" for op, count in inspection.ops.items()]
    more = f", {len(ops) - _MOST_OPS} more kinds" if len(ops) > _MOST_OPS else ""
    print_field("operators", ", ".join(ops[:_MOST_OPS]) + more)
    for note in inspection.notes:
        print_field("note", note)
    if inspection.encodings:
        _print_encodings(inspection.encodings)
        return
    for target in inspection.targets:
        _print_target(target)


def _print_encodings(encodings: tuple[Encoding, ...]) -> None:
    from rich.table import Table

    from qbench.cli.render import print_table

    table = Table(box=None, pad_edge=False)
    table.add_column("tensor", overflow="fold", max_width=24)
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
    text = f"{low:.3g}" if low == high else f"{low:.3g}..{high:.3g}"
    return text if axis is None else f"{text} axis {axis}"


def _print_target(target: TargetInspection) -> None:
    from qbench.cli.render import percent, print_field

    if target.problem:
        print_field(target.target, f"cannot quantize: {target.problem}")
        return
    share = target.int8_mac_fraction
    macs = "" if share is None else f", {percent(share)} of MACs"
    print_field(target.target, f"{target.quantized} nodes in INT8{macs}")
    for node in target.float_nodes[:_MOST_NODES]:
        print_field("  float", f"{node.name} ({node.op_type}): {node.reason}")
    if len(target.float_nodes) > _MOST_NODES:
        print_field("  float", f"{len(target.float_nodes) - _MOST_NODES} more; --json lists them")
