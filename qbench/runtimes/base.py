"""The Runner protocol: what every runtime offers to calibration, evaluation and benchmarks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from numpy.typing import NDArray

from qbench.errors import DataError, ModelError
from qbench.model.spec import TensorSpec

Tensors = dict[str, NDArray[Any]]
"""Arrays by tensor name."""


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


def closed() -> ModelError:
    """Return the error of a runner of ONNX models that is used after `close`."""
    return ModelError("the model is closed; open it again")


def misfit(
    feeds: Mapping[str, NDArray[Any]], inputs: Sequence[TensorSpec], reason: str
) -> DataError:
    """Return the error of `feeds` that a model does not take, with the runtime's words.

    Where they are what the inputs ask for, it is the model that fails on them.
    """
    given = ", ".join(f"{name} {list(array.shape)} {array.dtype}" for name, array in feeds.items())
    known = {spec.name: spec for spec in inputs}
    if known.keys() == feeds.keys() and all(_fits(known[name], feeds[name]) for name in feeds):
        return DataError(f"the model fails on data that fits it ({given}): {reason}")
    wanted = ", ".join(f"{spec.name} {list(spec.shape)} {spec.dtype}" for spec in inputs)
    return DataError(f"the data ({given}) does not fit the model's inputs ({wanted}): {reason}")


def _fits(spec: TensorSpec, array: NDArray[Any]) -> bool:
    sizes = zip(spec.shape, array.shape, strict=False)
    is_alike = all(size == wanted or not isinstance(wanted, int) for wanted, size in sizes)
    return is_alike and len(spec.shape) == array.ndim and spec.dtype == array.dtype
