"""What a report shows."""

from dataclasses import dataclass

from qbench.benchmarking.result import RunResult
from qbench.runs.run import Run


@dataclass(frozen=True)
class Layer:
    """How a layer of a quantized model differs from the float one.

    Attributes:
        depth: Its place from the input on.
        sqnr_db: Of its output; None where nothing can be told, 200 where nothing differs.
        cosine: Between the two outputs.
    """

    name: str
    depth: int
    sqnr_db: float | None
    cosine: float | None


@dataclass(frozen=True)
class Contents:
    """A run, and the layers of a `qbench debug` where they are given."""

    run: Run
    layers: tuple[Layer, ...] = ()

    @property
    def result(self) -> RunResult:
        """The rows and the environment."""
        return self.run.result
