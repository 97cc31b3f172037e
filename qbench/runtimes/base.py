"""The Runner protocol: what every runtime offers to calibration, evaluation and benchmarks."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from qbench.model.spec import TensorSpec

Tensors = dict[str, NDArray[Any]]
"""Arrays by tensor name."""


class Runner(Protocol):
    """A model loaded into a runtime.

    Attributes:
        provider: What really executes the model (`cpu`, `cuda`, ...), not what was asked for.
        load_seconds: Time that loading took, optimization included.
        notes: What a reader of its figures must know.
    """

    provider: str
    load_seconds: float
    notes: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Tensors:
        """Return all outputs for `feeds`, as new host arrays."""

    def bind(self, feeds: Mapping[str, NDArray[Any]]) -> Callable[[], None]:
        """Return a call that runs once on `feeds`, with inputs and outputs bound ahead of time."""

    def close(self) -> None:
        """Free what the runtime holds."""
