"""A graph that ONNX Runtime runs in parts, so that memory holds one part's tensors at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from qbench.errors import DataError
from qbench.runtimes.base import Tensors, misfit
from qbench.runtimes.ort_graphs import empty_arena, open_graph
from qbench.runtimes.ort_session import first_line

if TYPE_CHECKING:
    from qbench.model.parts import Part


class OrtParts:
    """The parts of a graph, loaded.

    Args:
        parts: See `model.parts.in_parts`.
        threads: Of a run.

    Raises:
        ModelError: ONNX Runtime refuses a part.
    """

    def __init__(self, parts: Sequence[Part], *, threads: int = 0) -> None:
        self._runners = [
            open_graph(part.model, threads=threads, shares_arena=True) for part in parts
        ]
        self._asked = [part.asked for part in parts]
        reads = [{spec.name for spec in runner.inputs} for runner in self._runners]
        self._read_later = [set[str]().union(*reads[at + 1 :]) for at in range(len(parts))]
        written = {spec.name for runner in self._runners for spec in runner.outputs}
        read = {spec.name: spec for runner in self._runners for spec in runner.inputs}
        self._inputs = [spec for name, spec in read.items() if name not in written]

    def close(self) -> None:
        """Free all that the parts hold."""
        self._runners.clear()
        empty_arena()

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Iterator[Tensors]:
        """Yield the tensors that were asked for, those of one part at a time.

        Raises:
            DataError: The feeds do not fit the model's inputs.
        """
        if any(spec.name not in feeds for spec in self._inputs):
            raise misfit(feeds, self._inputs, "the names differ")
        held = dict(feeds)
        stages = zip(self._runners, self._asked, self._read_later, strict=True)
        for runner, asked, later in stages:
            try:
                outputs = runner.run({spec.name: held[spec.name] for spec in runner.inputs})
            except DataError as error:  # which speaks of the part's inputs
                cause = error.__cause__
                reason = first_line(cause if isinstance(cause, Exception) else error)
                raise misfit(feeds, self._inputs, reason) from error
            known = held | outputs
            held = {name: array for name, array in known.items() if name in later}
            del outputs  # so that the caller alone holds what is yielded
            yield {name: known.pop(name) for name in asked}
