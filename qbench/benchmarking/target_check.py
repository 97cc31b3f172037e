"""Ask the target what it makes of a model that was just quantized for it."""

from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from qbench.benchmarking.speedup import Speedup, speedup_of
from qbench.calibration.table import CalibrationTable
from qbench.data.samples import Sample
from qbench.data.synthetic import SyntheticSource
from qbench.engines.auditing.engine import EngineAudit
from qbench.engines.auditing.model import audit_tensorrt
from qbench.engines.preflight.check import check_buildable
from qbench.engines.profiles import format_shape, is_static
from qbench.errors import DataError, EngineError, ModelError, UnfitError, UsageError
from qbench.formatting import counted
from qbench.model.load import load
from qbench.model.prepare import prepare
from qbench.model.spec import with_image_size
from qbench.quantization.audit import KernelAudit, audit_cpu
from qbench.quantization.quantized import QuantizedModel
from qbench.quantization.searching.judge import judge_of, run_samples
from qbench.quantization.searching.noise import sqnr_from_noise
from qbench.quantization.searching.samples import samples_of
from qbench.runtimes.tensorrt.flavour import find_flavour

_SAMPLES = 8
"""Calibration samples on which kernels are compared with exact arithmetic."""

_WORSE_DB = 1.0
"""By more than this kernels must be noisier to be worth a line."""


@dataclass(frozen=True)
class TargetCheck:
    """What a target makes of a quantized model.

    Attributes:
        audit: Which planned nodes run in INT8; None where nothing could tell.
        speedup: How fast INT8 is, at a glance; None but for `cpu`.
        notes: What else a reader must know.
    """

    audit: KernelAudit | EngineAudit | None = None
    speedup: Speedup | None = None
    notes: tuple[str, ...] = ()


def check_on_target(result: QuantizedModel) -> TargetCheck:
    """Look at the kernels that a written INT8 model gets, and on a CPU at its speed.

    It takes some seconds. Of other precisions nothing is asked. What cannot be asked is a note,
    since the model is written.
    """
    if result.precision != "int8":
        return TargetCheck()
    return _on_cpu(result) if result.target == "cpu" else _on_tensorrt(result)


def _on_cpu(result: QuantizedModel) -> TargetCheck:
    assert result.path is not None  # only files are asked about
    assert result.source.path is not None
    try:
        check = TargetCheck(audit_cpu(result.path, result.plan), notes=_on_kernels(result))
    except (DataError, ModelError) as error:
        return TargetCheck(notes=(f"it was not audited: {error}",))
    try:
        speedup = speedup_of(result.source.path, result.path, _feeds(result))
        return replace(check, speedup=speedup)
    except (DataError, ModelError) as error:
        return replace(check, notes=(*check.notes, f"the speed was not looked at: {error}"))


def _feeds(result: QuantizedModel) -> dict[str, NDArray[Any]]:
    """Return random feeds, or a calibration sample's where the model leaves their shapes open.

    Raises:
        DataError: It does, and there is no sample.
    """
    try:
        source = SyntheticSource(result.source.inputs, count=1, seed=0, size=_image_size(result))
        return source.load(0).feeds
    except DataError:
        samples = _samples(result, 1)
        if not samples:
            raise
        return samples[0].feeds


def _samples(result: QuantizedModel, count: int) -> list[Sample]:
    """Return calibration samples; none where they are gone, or where ranges were given."""
    if not isinstance(result.table, CalibrationTable):
        return []
    return samples_of(result.source, result.table, count, is_checked=True)


def _on_kernels(result: QuantizedModel) -> tuple[str, ...]:
    """Return a line on the noise of this CPU's own kernels, where it exceeds the arithmetic's.

    Products of 8 bits saturate without VNNI, and kernels look functions up in tables.

    Raises:
        ModelError: ONNX Runtime refuses the model.
    """
    samples = _samples(result, _SAMPLES) if result.output_sqnr_db is not None else []
    if not samples or result.plan is None:
        return ()
    judge = judge_of(prepare(result.source).ir, result.plan, samples)
    judged = judge.outputs.of(result.ir)
    exact, native = (
        sqnr_from_noise(judge.noise(run_samples(judged, samples, simulate=simulate)))
        for simulate in (True, False)
    )
    if exact - native <= _WORSE_DB:
        return ()
    return (
        f"this CPU's kernels leave {native:.0f} dB signal to noise at the output, exact arithmetic "
        f"{exact:.0f} dB, on {counted(len(samples), 'calibration sample')}",
    )


def _on_tensorrt(result: QuantizedModel) -> TargetCheck:
    assert result.path is not None  # only files are asked about
    try:
        model, size = load(result.path), _image_size(result)
        try:
            return TargetCheck(audit_tensorrt(model, result.plan, _shapes(result), size))
        except EngineError:
            check_buildable(model, find_flavour("rtx"))  # tells the reason where a rule knows it
            raise
    except UnfitError:
        return TargetCheck()  # not installed, and nobody asked for it
    except (DataError, EngineError, ModelError, UsageError) as error:
        return TargetCheck(notes=(f"it was not audited: {error}",))


def _shapes(result: QuantizedModel) -> tuple[str, ...]:
    """Return a calibration sample's shapes, if any is open beyond its batch and its image size."""
    specs, size = result.source.inputs, _image_size(result)
    rests = [with_image_size(spec.shape, size)[1:] for spec in specs]
    if all(isinstance(dim, int) for rest in rests for dim in rest):
        return ()
    return tuple(
        f"{spec.name}={format_shape(sample.feeds[spec.name].shape)}"
        for sample in _samples(result, 1)
        for spec in specs
        if not is_static(spec)
    )


def _image_size(result: QuantizedModel) -> tuple[int, int] | None:
    return result.table.image_size if result.table else None
