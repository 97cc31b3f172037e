"""Record a finished build in a manifest."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from qbench.artifacts import sha256_files, versions
from qbench.calibration.given import GivenRanges
from qbench.calibration.table import CalibrationTable
from qbench.engines.auditing.engine import EngineAudit
from qbench.engines.compiling.builder import BuildResult
from qbench.engines.compiling.protocol import BuildRequest
from qbench.engines.machine import Machine, this_machine
from qbench.engines.manifest import EngineManifest, Source
from qbench.engines.profiles import shapes_of
from qbench.model.load import Model


def record(
    request: BuildRequest,
    result: BuildResult,
    model: Model,
    precision: str,
    table: CalibrationTable | GivenRanges | None,
    findings: EngineAudit | None,
) -> EngineManifest:
    """Return the manifest of the engine that `request` asked for.

    Args:
        request: What was built; its engine and ONNX file exist.
        result: What the build took and gave.
        model: What it was made from.
        precision: What was asked for.
        table: What the precision was calibrated with.
        findings: Which nodes run in which type, where that is known.
    """
    return EngineManifest(
        engine=request.output.name,
        sha256=sha256_files([request.output]),
        flavour=request.flavour.name,
        flavour_version=request.flavour.version,
        targets=result.targets,
        precision=precision,
        profiles=tuple(shapes_of(model.inputs, profile) for profile in request.profiles or (None,)),
        model=Source(str(model.path), model.sha256),
        onnx=request.onnx.name,
        quantized_sha256=sha256_files([request.onnx]),
        log=request.log.name,
        table_sha256=table.sha256 if table else None,
        options=msgspec.json.decode(msgspec.json.encode(request.options, enc_hook=str)),
        built_on=built_on(this_machine(), result.targets),
        seconds=result.seconds,
        size_bytes=result.size_bytes,
        layers_by_dtype=findings.layers_by_dtype if findings else {},
        int8_conv_fraction=findings.fraction("Conv") if findings else None,
        created=datetime.now(UTC).replace(microsecond=0),
        versions=versions(),
    )


def built_on(machine: Machine, targets: Sequence[str]) -> Machine:
    """Return `machine`, without its GPU where an engine was built for others ahead of time."""
    is_ahead = targets and machine.compute_capability not in targets
    return machine.without_gpu() if is_ahead else machine
