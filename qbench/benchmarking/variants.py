"""The candidates of a benchmark: each model in each precision on each provider, as files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from qbench.calibration.table import CalibrationTable
from qbench.errors import QbenchError, QuantizationError, UsageError
from qbench.model.load import Model, size_on_disk
from qbench.placement.targets import TARGETS
from qbench.quantization import options
from qbench.quantization.quantize import quantize

PRECISIONS = ("fp32", *options.PRECISIONS)
"""Precisions that a variant can be made in."""

PLACEMENT_OF_PROVIDER = {
    "cpu": "cpu",
    "cuda": "tensorrt",
    "tensorrt": "tensorrt",
    "rtx": "tensorrt",
}
"""Whose placement rules an INT8 variant for a provider follows."""

_ONLY_TARGET = {"bf16": "tensorrt", "fp8": "tensorrt", "dynamic": "cpu"}
"""The one target that a precision is made for; other providers run that file, or say why not."""

_ALIKE = frozenset({"fp16", "weight-only"})
"""Precisions that are written alike for every target."""

_NOTES = {
    ("int8", "cuda"): "ONNX Runtime's CUDA provider runs Q/DQ in float",
    ("fp8", "cuda"): "ONNX Runtime's CUDA provider runs Q/DQ in float",
    ("fp8", "cpu"): "ONNX Runtime's CPU provider runs FP8 Q/DQ in float",
    ("fp16", "cpu"): "ONNX Runtime's CPU provider casts most FP16 operators to FP32",
    ("weight-only", "cpu"): "ONNX Runtime dequantizes weights of convolutions in every call",
}
"""What a reader must know of a precision on a provider."""

_HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


@dataclass(frozen=True)
class Variant:
    """One row to be.

    Attributes:
        name: The model's file, or the engine's.
        precision: One of `PRECISIONS`, or `as given` for a model that was converted before.
        provider: Where to run it; for a simulated variant, the target whose arithmetic is meant.
        path: The file to run; None where it cannot be made.
        simulated: Evaluate Q/DQ with exact arithmetic; such a variant is not timed.
        notes: What a reader must know.
        problem: Why the file cannot be made or read.
        flavour: The TensorRT that an engine runs in; None for ONNX files.
        arithmetic: The types that the file asks for, where `precision` does not tell.
    """

    name: str
    precision: str
    provider: str
    path: Path | None
    simulated: bool = False
    notes: tuple[str, ...] = ()
    problem: QbenchError | None = None
    flavour: str | None = None
    arithmetic: str | None = None

    @property
    def size_bytes(self) -> int | None:
        """Size of the file and its external data."""
        if self.path is None:
            return None
        return size_on_disk(self.path) if self.flavour is None else self.path.stat().st_size


class VariantMaker:
    """Makes variants of one model in a folder, each file once."""

    def __init__(self, model: Model, table: CalibrationTable | None, folder: Path) -> None:
        self._model = model
        self._table = table
        self._folder = folder
        self._files: dict[tuple[str, str], Path] = {}
        self._name = model.path.name if model.path else "in memory"

    def timed(self, precisions: Sequence[str], providers: Sequence[str]) -> list[Variant]:
        """Return a variant for every precision on every provider."""
        if has_its_precision(self._model):
            return [self._variant("as given", provider) for provider in providers]
        return [self._variant(p, provider) for p in precisions for provider in providers]

    def simulated(self) -> list[Variant]:
        """Return the INT8 variant of every target, for exact arithmetic."""
        if has_its_precision(self._model):
            return [Variant(self._name, "as given", "simulated", self._given(), simulated=True)]
        return [
            Variant(
                self._name,
                "int8",
                f"{target} (simulated)",
                self._file("int8", target),
                simulated=True,
            )
            for target in TARGETS
        ]

    def _variant(self, precision: str, provider: str) -> Variant:
        placement = PLACEMENT_OF_PROVIDER.get(provider, "tensorrt")
        target = _ONLY_TARGET.get(precision, placement)
        note = _NOTES.get((precision, provider))
        notes = (note,) if note else ()
        try:
            path = self._file(precision, target)
        except QuantizationError as error:  # a model without weights that the precision could hold
            return Variant(self._name, precision, provider, None, notes=notes, problem=error)
        return Variant(
            self._name,
            precision,
            provider,
            path,
            notes=notes,
            arithmetic=self._arithmetic(precision),
        )

    def _arithmetic(self, precision: str) -> str:
        if precision != "as given":
            return precision
        return "int8" if self._model.is_quantized else "fp16"

    def _file(self, precision: str, target: str) -> Path:
        if precision in {"fp32", "as given"}:
            return self._given()
        key = (precision, "any" if precision in _ALIKE else target)
        if key not in self._files:
            path = self._folder / f"{len(self._files)}_{'_'.join(key)}.onnx"
            quantize(
                self._model, target=target, precision=precision, table=self._table, output=path
            )
            self._files[key] = path
        return self._files[key]

    def _given(self) -> Path:
        if self._model.path is None:
            raise UsageError("a model in memory cannot be timed; save it first")
        return self._model.path


def has_its_precision(model: Model) -> bool:
    """Return whether a model is no FP32 original: it holds integer operators or FP16 weights."""
    weights = model.ir.graph.initializers.values()
    return model.is_quantized or any(weight.dtype in _HALF for weight in weights)
