"""The variants of a model: each precision on each provider, as files that are made when needed."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from qbench.calibration.table import CalibrationTable
from qbench.errors import (
    CalibrationError,
    ModelError,
    QbenchError,
    QuantizationError,
    UsageError,
)
from qbench.model.load import Model, size_on_disk
from qbench.placement.targets import TARGETS, half_precision
from qbench.quantization import options
from qbench.quantization.quantize import quantize
from qbench.runtimes import openvino
from qbench.runtimes.ort import providers as ort_providers

PRECISIONS = ("fp32", *options.PRECISIONS)
"""Precisions that a variant can be made in."""

PROVIDERS = (*ort_providers.PROVIDERS, openvino.PROVIDER)
"""Where a variant can run: ONNX Runtime's providers, and OpenVINO with a runtime of its own."""

PLACEMENT_OF_PROVIDER = {
    "cpu": "cpu",
    "cuda": "tensorrt",
    "tensorrt": "tensorrt",
    "rtx": "tensorrt",
    "openvino": "cpu",
}
"""Whose placement rules an INT8 variant for a provider follows."""

_ONLY_TARGET = {"bf16": "tensorrt", "fp8": "tensorrt", "dynamic": "cpu"}
"""The one target that a precision is made for; other providers run that file, or say why not."""

_ALIKE = frozenset({"fp16", "weight-only"})
"""Precisions that are written alike for every target."""

_NOTES = {
    ("int8", "cuda"): "ONNX Runtime's CUDA provider runs Q/DQ in float",
    ("fp8", "cuda"): "ONNX Runtime's CUDA provider runs Q/DQ in float",
    ("fp8", "cpu"): "ONNX Runtime's CPU provider runs FP8 Q/DQ in float, or refuses the model",
    ("bf16", "cpu"): "ONNX Runtime's CPU provider lacks BF16 kernels of most operators",
    ("fp16", "cpu"): "ONNX Runtime's CPU provider casts most FP16 operators to FP32",
    ("weight-only", "cpu"): "ONNX Runtime dequantizes weights of convolutions in every call",
}
"""What a reader must know of a precision on a provider."""

_SIMULATED = " (simulated)"


class Slot(NamedTuple):
    """A variant to be.

    Attributes:
        precision: One of `PRECISIONS`, or `as given` for a model that was converted before.
        provider: Where to run it; of a simulated one the target, such as `cpu (simulated)`.
        simulated: Judged with exact arithmetic, and not timed.
    """

    precision: str
    provider: str
    simulated: bool = False


@dataclass(frozen=True)
class Variant:
    """A model in one precision for one provider.

    Attributes:
        precision: As in `Slot`.
        provider: As in `Slot`.
        path: The file to run; None where it cannot be made.
        simulated: As in `Slot`.
        notes: What a reader must know.
        problem: Why the file cannot be made or read.
        flavour: The TensorRT that an engine runs in; None for ONNX files.
        arithmetic: The types that the file asks for, where `precision` does not tell.
        build_seconds: Making the file; None where it was given.
        float_nodes: Nodes that quantization left float, and why.
    """

    precision: str
    provider: str
    path: Path | None
    simulated: bool = False
    notes: tuple[str, ...] = ()
    problem: QbenchError | None = None
    flavour: str | None = None
    arithmetic: str | None = None
    build_seconds: float | None = None
    float_nodes: Mapping[str, str] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int | None:
        """Size of the file and its external data."""
        if self.path is None:
            return None
        return size_on_disk(self.path) if self.flavour is None else self.path.stat().st_size


@dataclass(frozen=True)
class _File:
    path: Path
    build_seconds: float | None = None
    float_nodes: Mapping[str, str] = field(default_factory=dict)


class VariantMaker:
    """Makes variants of one model in a folder, each file once."""

    def __init__(self, model: Model, table: CalibrationTable | None, folder: Path) -> None:
        """Look at the model.

        Raises:
            UsageError: It has no file.
        """
        if model.path is None:
            raise UsageError("a model in memory cannot be timed; save it first")
        self._model, self._given = model, _File(model.path)
        self._table = table
        self._folder = folder
        self._files: dict[tuple[str, str], _File] = {}

    def timed(self, precisions: Sequence[str], providers: Sequence[str]) -> list[Slot]:
        """Return a slot for every precision on every provider."""
        if has_its_precision(self._model):
            return [Slot("as given", provider) for provider in providers]
        return [Slot(precision, provider) for precision in precisions for provider in providers]

    def simulated(self) -> list[Slot]:
        """Return a slot for INT8 as every target computes it, with exact arithmetic."""
        if has_its_precision(self._model):
            return [Slot("as given", "simulated", simulated=True)]
        return [Slot("int8", f"{target}{_SIMULATED}", simulated=True) for target in TARGETS]

    def make(self, slot: Slot) -> Variant:
        """Return a variant; what cannot be made has the reason in place of a file."""
        note = _NOTES.get((slot.precision, slot.provider))
        notes = (note,) if note else ()
        try:
            file = self._file(slot.precision, self._target(slot))
        except (QuantizationError, ModelError, CalibrationError) as error:
            return Variant(*slot[:2], None, slot.simulated, notes, problem=error)
        return Variant(
            slot.precision,
            slot.provider,
            file.path,
            slot.simulated,
            notes,
            arithmetic=self._arithmetic(slot.precision),
            build_seconds=file.build_seconds,
            float_nodes=file.float_nodes,
        )

    def _target(self, slot: Slot) -> str:
        if slot.simulated:
            return slot.provider.removesuffix(_SIMULATED)
        placement = PLACEMENT_OF_PROVIDER.get(slot.provider, "tensorrt")
        return _ONLY_TARGET.get(slot.precision, placement)

    def _arithmetic(self, precision: str) -> str:
        if precision != "as given":
            return precision
        return "int8" if self._model.is_quantized else half_precision(self._model) or "fp32"

    def _file(self, precision: str, target: str) -> _File:
        if precision in {"fp32", "as given"}:
            return self._given
        key = (precision, "any" if precision in _ALIKE else target)
        if key not in self._files:
            self._files[key] = self._made(
                precision, target, self._folder / f"{len(self._files)}_{'_'.join(key)}.onnx"
            )
        return self._files[key]

    def _made(self, precision: str, target: str, path: Path) -> _File:
        started = time.perf_counter()
        made = quantize(
            self._model, target=target, precision=precision, table=self._table, output=path
        )
        reasons = {node.name: node.reason for node in made.float_nodes}
        return _File(path, time.perf_counter() - started, reasons)


def made_precisions(precisions: Iterable[str], *, simulate: bool) -> set[str]:
    """Return what is made of a float model: what is timed, and INT8 where it is simulated."""
    return {*precisions, *(["int8"] if simulate else [])}


def has_its_precision(model: Model) -> bool:
    """Return whether a model is no FP32 original, but computes in integers or half precision."""
    return model.is_quantized or half_precision(model) is not None
