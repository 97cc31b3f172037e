"""`qbench audit`: what a target makes of a quantized model, whoever made it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qbench.cli.options.loading import load_model
from qbench.cli.options.shared import TARGETS, PathType, ShareType, SizeType, json_option, packed

if TYPE_CHECKING:
    from qbench.engines.auditing.model import ModelAudit

_MOST_NODES = 12


@dataclass(frozen=True, kw_only=True)
class _Arguments:
    model: Path
    target: str | None
    size: tuple[int, int] | None
    shapes: tuple[str, ...]
    require_int8: float | None
    as_json: bool


@click.command()
@click.argument("model", type=PathType)
@click.option("--target", type=click.Choice(TARGETS), help="What its Q/DQ look like if left out.")
@click.option("--size", type=SizeType(), help="Image size where the model is dynamic: 640 or HxW.")
@click.option("--shapes", multiple=True, metavar="NAME=SHAPE", help="Of dynamic inputs (tensorrt).")
@click.option(
    "--require-int8",
    type=ShareType(),
    metavar="PERCENT",
    help="Fail where fewer Conv, Gemm and MatMul run in INT8: 95%.",
)
@json_option
@packed(_Arguments)
def audit(arguments: _Arguments) -> None:
    """Check a quantized MODEL, made by any tool, for a target.

    Shows the rules of the target that it breaks, and what runs in INT8 and what does not: ONNX
    Runtime optimizes it and runs it once, TensorRT for RTX, where installed, builds it. Exit code 1
    where the target refuses the model or computes something else than it says, 3 where
    --require-int8 is not met.
    """
    from qbench.cli.output.render import print_json
    from qbench.engines.auditing.model import audit_model, likely_target

    model = load_model(arguments.model)
    target = arguments.target or likely_target(model.ir.graph)
    found = audit_model(model, target, arguments.shapes, arguments.size)
    if arguments.as_json:
        print_json(found)
    else:
        _print_text(found)
    found.check_runs()
    if arguments.require_int8 is not None:
        found.check_int8(arguments.require_int8)


def _print_text(audit: ModelAudit) -> None:
    from qbench.cli.output.render import (
        percent,
        print_field,
        print_findings,
        print_first,
        print_not_int8,
    )

    by = f" by {audit.runtime}" if audit.runtime else ""
    print_field("audited", f"{audit.model} for {audit.target}{by}")
    for note in audit.notes:
        print_field("note", note)
    print_findings(audit.findings)
    for op_type, counts in audit.nodes_by_dtype.items():
        print_field(op_type, ", ".join(f"{count} {dtype}" for dtype, count in counts.items()))
    if audit.int8_fraction is not None:
        print_field("INT8", f"{percent(audit.int8_fraction)} of the compute nodes")
    print_not_int8(_MOST_NODES, audit.not_int8)
    by_itself = [("  by itself", f"{node.node}: {node.reason}") for node in audit.own_qdq]
    print_first(_MOST_NODES, by_itself)
