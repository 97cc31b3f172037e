"""The Runner protocol: what every runtime offers to calibration, evaluation and benchmarks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import ml_dtypes
import msgspec
import numpy as np
from numpy.typing import NDArray

from qbench.errors import DataError, ModelError
from qbench.model.spec import TensorSpec

Tensors = dict[str, NDArray[Any]]
"""Arrays by tensor name."""

_WORDS: dict[Any, tuple[str, ...]] = {
    np.float64: ("double", "f64"),
    np.float32: ("float", "f32"),
    np.float16: ("float16", "f16"),
    ml_dtypes.bfloat16: ("bfloat16", "bf16"),
    ml_dtypes.float8_e4m3fn: ("float8e4m3fn", "f8e4m3"),
    ml_dtypes.float8_e5m2: ("float8e5m2", "f8e5m2"),
    np.int64: ("int64", "i64"),
    np.int32: ("int32", "i32"),
    np.int16: ("int16", "i16"),
    np.int8: ("int8", "i8"),
    np.uint64: ("uint64", "u64"),
    np.uint32: ("uint32", "u32"),
    np.uint16: ("uint16", "u16"),
    np.uint8: ("uint8", "u8"),
    np.bool_: ("bool", "boolean"),
}
"""The words of ONNX Runtime and OpenVINO for each element type."""

_BY_WORD: dict[str, np.dtype[Any]] = {
    word: np.dtype(kind) for kind, words in _WORDS.items() for word in words
}


class OperatorTime(msgspec.Struct, frozen=True):
    """What one kind of operator takes of a model's time.

    Attributes:
        operator: As the runtime names it after its optimization, such as `QLinearConv`.
        type: What it computes in, such as `int8`; None where the runtime does not tell.
        share: Of the time of all operators, 0 to 1.
    """

    operator: str
    type: str | None
    share: float


class Runner(Protocol):
    """A model loaded into a runtime.

    Attributes:
        provider: What really executes the model (`cpu`, `cuda`, ...), not what was asked for.
        load_seconds: Time that loading took, optimization included.
        device_memory_bytes: What the loaded model takes of the GPU's memory, None where there is
            none or it is not told.
        notes: What a reader of its figures must know.
    """

    provider: str
    load_seconds: float
    device_memory_bytes: int | None
    notes: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Tensors:
        """Return all outputs for `feeds`, as new host arrays."""

    def bind(self, feeds: Mapping[str, NDArray[Any]]) -> Callable[[], None]:
        """Return a call that runs once on `feeds`, with inputs and outputs bound ahead of time.

        Calls of several `bind`s share the loaded model and nothing else: each may run in a thread
        of its own, all at once.
        """

    def profile(
        self, feeds: Mapping[str, NDArray[Any]], runs: int = 10
    ) -> tuple[OperatorTime, ...]:
        """Return what takes the time on `feeds`, largest first; empty where that is not told.

        Watching costs time, which is why nothing of it is left in the runner's other calls.
        """

    def close(self) -> None:
        """Free what the runtime holds; the methods above then raise a QbenchError."""


def dtype_named(word: str) -> np.dtype[Any]:
    """Return the element type that a runtime calls `word`, `object` where it is none of numpy's."""
    return _BY_WORD.get(word, np.dtype(np.object_))


def closed() -> ModelError:
    """Return the error of a runner of ONNX models that is used after `close`."""
    return ModelError("the model is closed; open it again")


def misfit(
    feeds: Mapping[str, NDArray[Any]], inputs: Sequence[TensorSpec], reason: str
) -> DataError:
    """Return the error of `feeds` that a model does not take, with the runtime's words."""
    given = ", ".join(f"{name} {list(array.shape)} {array.dtype}" for name, array in feeds.items())
    wanted = ", ".join(f"{spec.name} {list(spec.shape)} {spec.dtype}" for spec in inputs)
    return DataError(f"the data ({given}) does not fit the model's inputs ({wanted}): {reason}")
