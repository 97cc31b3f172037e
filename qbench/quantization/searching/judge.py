"""Compare a quantized model's outputs with those of the float model on a few samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qbench.data.samples import Sample
from qbench.errors import UsageError
from qbench.model.decoders import DECODERS, Candidates, choose_decoder
from qbench.model.spec import image_size
from qbench.placement.plan import Plan
from qbench.quantization.searching.judged_outputs import JudgedOutputs, judged_outputs
from qbench.quantization.searching.noise import Proposals, detection_noise, relative_noise
from qbench.runtimes.base import Tensors
from qbench.runtimes.cpu import usable_cores
from qbench.runtimes.ort.graphs import open_graph


class Judge:
    """Compares outputs with those of the float model.

    Where the outputs are plainly those of a detector, what they say is compared: scores, and boxes
    that have some. Else the float outputs that have finite values, and the same shape for all
    samples; where there are none, as behind a NonMaxSuppression, nothing can be judged.

    Args:
        samples: What the outputs are of.
        reference: What is judged of the float model, for each sample.
        outputs: What that is; by default, the model's outputs.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        reference: Sequence[Tensors],
        outputs: JudgedOutputs | None = None,
    ) -> None:
        self.outputs = outputs or JudgedOutputs()
        self._samples = list(samples)
        self._sizes = [_image_size(sample) for sample in samples]
        self._decoder = _decoder(reference[0], self._sizes[0])
        self._detections: list[Proposals] = []
        self._outputs: dict[str, NDArray[Any]] = {}
        if self._decoder:
            self._detections = list(map(Proposals.of, self._decoded(reference)))
        else:
            self._outputs = _comparable(reference)

    @property
    def can_judge(self) -> bool:
        """Whether there is an output to compare."""
        return bool(self._detections or self._outputs)

    def on(self, samples: Sequence[Sample]) -> Judge:
        """Return a judge of some of these very samples, without another run of the float model."""
        places = {id(sample): place for place, sample in enumerate(self._samples)}
        chosen = [places[id(sample)] for sample in samples]
        other = copy(self)
        other._samples = list(samples)
        other._sizes = [self._sizes[place] for place in chosen]
        other._detections = [self._detections[p] for p in chosen] if self._detections else []
        other._outputs = {name: array[chosen] for name, array in self._outputs.items()}
        return other

    def noise(self, results: Iterable[Tensors]) -> float:
        """Return the relative noise power of the outputs: 0 for none, 1 for ruin.

        Args:
            results: Outputs for the samples that the reference was made from. Those of a detector
                are taken one by one: all of them, decoded, would be the most memory of a search.
        """
        if self._detections:
            return self.noises(results)[0]
        results = list(results)
        ratios = [
            _noise(reference, [outputs[name] for outputs in results])
            for name, reference in self._outputs.items()
        ]
        return float(np.mean(ratios))

    def noises(self, results: Iterable[Tensors]) -> tuple[float, NDArray[Any]]:
        """Return `noise`, and that of each sample by itself, [samples]."""
        if self._detections:  # every image counts the same
            of_each = detection_noise(self._detections, self._decoded(results))
            return float(of_each.mean()), of_each
        results = list(results)
        ratios = [
            [_noise(reference[[i]], [outputs[name]]) for i, outputs in enumerate(results)]
            for name, reference in self._outputs.items()
        ]
        return self.noise(results), np.mean(ratios, axis=0)

    def _decoded(self, results: Iterable[Tensors]) -> Iterator[Candidates]:
        assert self._decoder is not None
        decode = DECODERS[self._decoder]
        for outputs, size in zip(results, self._sizes, strict=True):
            yield decode([array[0] for array in outputs.values()], size)


def judge_of(model: ir.Model, plan: Plan, samples: Sequence[Sample]) -> Judge:
    """Return a judge of what quantization by `plan` makes of a prepared float model."""
    outputs = judged_outputs(model.graph, plan)
    return Judge(samples, run_samples(outputs.of(model), samples, simulate=False), outputs)


def _comparable(reference: Sequence[Tensors]) -> dict[str, NDArray[Any]]:
    """Return the float outputs of one shape that are finite anywhere, [samples, ...]."""
    return {
        name: np.stack([outputs[name] for outputs in reference])
        for name, first in reference[0].items()
        if first.dtype == np.float32
        and len({outputs[name].shape for outputs in reference}) == 1
        and any(np.isfinite(outputs[name]).any() for outputs in reference)
    }


def run_samples(
    graph: ir.Model, samples: Sequence[Sample], *, simulate: bool = True
) -> list[Tensors]:
    """Return the outputs of `graph` for every sample, with exact arithmetic if `simulate`.

    Sequences are left out; none may remain.
    """
    return SampleRunner(graph, simulate=simulate).run(samples)


class SampleRunner:
    """Runs a graph on samples, side by side; see `run_samples`."""

    def __init__(self, graph: ir.Model, *, simulate: bool = True) -> None:
        has_tensors = any(isinstance(value.type, ir.TensorType) for value in graph.graph.outputs)
        self._runner = open_graph(graph, threads=1, simulate=simulate) if has_tensors else None

    def run(self, samples: Sequence[Sample]) -> list[Tensors]:
        """Return the outputs for every sample."""
        return list(self.each(samples))

    def each(self, samples: Sequence[Sample]) -> Iterator[Tensors]:
        """Yield the outputs for one sample after the other, while the next ones are computed."""
        runner = self._runner
        if runner is None:
            yield from ({} for _ in samples)
            return
        with ThreadPoolExecutor(usable_cores()) as pool:
            yield from pool.map(lambda sample: runner.run(sample.feeds), samples)


def _noise(reference: NDArray[Any], results: Sequence[NDArray[Any]]) -> float:
    """Return the relative noise of one output; samples whose shape is another are ruined.

    Args:
        reference: [samples, ...].
        results: Of each sample.
    """
    alike = [index for index, one in enumerate(results) if one.shape == reference.shape[1:]]
    if not alike:
        return 1.0
    kept = reference if len(alike) == len(results) else reference[alike]
    noise = relative_noise(kept, [results[index] for index in alike])
    return 1 - (1 - noise) * len(alike) / len(results)


def _image_size(sample: Sample) -> tuple[int, int]:
    """Return height and width of the first input that is a batch of images, else zeros."""
    sizes = (image_size(array.shape) for array in sample.feeds.values())
    return next(filter(None, sizes), (0, 0))


def _decoder(outputs: Tensors, size: tuple[int, int]) -> str | None:
    arrays = list(outputs.values())
    if not all(array.ndim and array.shape[0] == 1 for array in arrays):
        return None
    try:
        name = choose_decoder([array[0] for array in arrays], size)
    except UsageError:
        return None
    # Boxes behind a suppression change their places with the slightest noise.
    return None if name == "end2end" else name
