"""A graph that ONNX Runtime runs in parts, so that memory holds one part's tensors at a time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from qbench.errors import DataError
from qbench.model.parts import Part, in_parts
from qbench.model.shapes import bind_shapes, elements_by_name
from qbench.runtimes.base import Tensors, misfit
from qbench.runtimes.ort.graphs import empty_arena, open_graph
from qbench.runtimes.ort.session import refused


def open_parts(
    model: ir.Model, tensors: Iterable[str], feeds: Mapping[str, NDArray[Any]], *, threads: int = 0
) -> "OrtParts":
    """Load the parts of a prepared model that compute `tensors`, cut by the sizes for `feeds`.

    Raises:
        ModelError: ONNX Runtime refuses a part.
        CalibrationError: A tensor is not in the graph.
    """
    bound = bind_shapes(model, {name: array.shape for name, array in feeds.items()})
    return OrtParts(in_parts(model, tensors, elements_by_name(bound)), threads=threads)


class OrtParts:
    """The parts of a graph, loaded.

    Args:
        parts: See `model.parts.in_parts`.
        threads: Of a run.
        are_optimized: Whether their nodes are run as they are.

    Raises:
        ModelError: ONNX Runtime refuses a part.
    """

    def __init__(
        self, parts: Sequence[Part], *, threads: int = 0, are_optimized: bool = False
    ) -> None:
        models = (part.model for part in parts)
        self._runners = [
            open_graph(model, threads=threads, shares_arena=True, is_optimized=are_optimized)
            for model in models
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
                raise refused(feeds, self._inputs, error.__cause__ or error) from error
            known = held | outputs
            held = {name: array for name, array in known.items() if name in later}
            del outputs  # so that the caller alone holds what is yielded
            yield {name: known.pop(name) for name in asked}
