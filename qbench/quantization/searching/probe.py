"""Try scales on a model without writing it: the noise that they cause in its output."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qbench.calibration.ranges import Range
from qbench.data.samples import Sample
from qbench.model.graph import constant
from qbench.placement.plan import Reader
from qbench.quantization.choice import Choice
from qbench.quantization.corrections import own_bias, shift
from qbench.quantization.equalization import along_inputs, equalized_name, scaled_weight
from qbench.quantization.int8 import Quantizer, activation_parameters
from qbench.quantization.numerics import QuantizationParameters
from qbench.quantization.searching.judge import Judge, judge_of
from qbench.quantization.searching.partly_quantized import PartlyQuantized, Setting
from qbench.quantization.weights import WeightCoding

Factors = NDArray[Any] | None
"""What a tensor is divided by, float32 [channels]; None for a tensor that is not equalized."""


class Scaling(NamedTuple):
    """How a tensor is quantized.

    Attributes:
        range: Its clipping range; with factors, that of the equalized tensor.
        factors: What it is divided by, or None.
    """

    range: Range
    factors: Factors = None


_LARGEST_WEIGHT = 1 << 20
"""Weights of more values stay float in a trial, unless they are equalized: rounded copies of all of
them would take as much memory again as a large model, and errors of so many values average out."""

GLANCE = 2
"""Samples that a glance runs on."""

_TOGETHER = 4
"""Tensors that are loaded at a time. Loading a model of a millisecond takes as long as running it
on thirty samples; of twice as many tensors, the switches cost what is gained."""


def scalings_of(quantizer: Quantizer, choice: Choice) -> dict[str, Scaling]:
    """Return how `choice` scales each tensor that the plan observes, by name."""
    found = {}
    for tensor, clip in quantizer.ranges().items():
        by = choice.factors.get(tensor)
        name = tensor if by is None else equalized_name(tensor)
        found[tensor] = Scaling(choice.ranges.get(name, clip), by)
    return found


class Probe:
    """Quantizes some tensors of a float graph, together with the weights that read them.

    Args:
        quantizer: Of the model.
        samples: On which outputs are compared.
        runs: How many runs of a sample may be spent.
        judge: Of these samples, and of all that the probe may be asked for later; where there is
            none, the float model is run on these.
    """

    def __init__(
        self,
        quantizer: Quantizer,
        samples: Sequence[Sample],
        runs: int,
        judge: Judge | None = None,
    ) -> None:
        self.left = self._runs = runs
        self._samples = samples
        self._on_progress = quantizer.options.on_progress
        self._plan, self._channel_means = quantizer.plan, quantizer.channel_means
        self._coding = WeightCoding(saturates=quantizer.saturates)
        self._graph = quantizer.prepared.ir
        self._switched: PartlyQuantized | None = None
        self._expected: Sequence[str] = ()
        self._loaded: tuple[Sequence[str], PartlyQuantized] | None = None
        self._whole = judge or judge_of(self._graph, self._plan, samples)
        self._judge = self._whole.on(samples)
        self._glance = self._whole.on(samples[:GLANCE])
        self._nodes = {node.name or "": node for node in self._graph.graph}
        self._weights = {weight.reader.node: weight for weight in self._plan.weights}

    @property
    def can_judge(self) -> bool:
        """Whether the model has outputs that can be compared."""
        return self._judge.can_judge

    def on(self, samples: Sequence[Sample]) -> Probe:
        """Return a probe that compares outputs on other samples, with runs of its own."""
        other = copy(self)
        other._samples = samples
        other._judge = self._whole.on(samples)
        return other

    def expect(self, tensors: Iterable[str]) -> None:
        """Say in which order tensors will be asked for one by one; some are loaded together."""
        self._expected = list(tensors)

    def unload(self) -> None:
        """Free the loaded models; they are loaded again when they are asked for."""
        self._switched = self._loaded = None

    def of(self, tensor: str, clip: Range, factors: Factors = None) -> float:
        """Return the noise that `tensor` causes alone, in a range and behind equalization.

        Calls for one tensor should follow each other, in the order that `expect` was told.
        """
        self._spend(len(self._samples))
        setting = self._setting(tensor, clip, factors)
        return self._judge.noise(self._loaded_for(tensor).run(setting, self._samples))

    def glance(self, scalings: Mapping[str, Scaling]) -> float:
        """Return the noise that tensors cause together, scaled like this, on few samples.

        Weights are float here: what they lose is little, and of many tensors at once.
        """
        self._spend(GLANCE)
        self._switched = self._switched or self._partly()
        scales = {tensor: self._parameters(tensor, *one) for tensor, one in scalings.items()}
        return self._glance.noise(self._switched.run(Setting(scales), self._samples[:GLANCE]))

    def _loaded_for(self, tensor: str) -> PartlyQuantized:
        if self._loaded is None or tensor not in self._loaded[0]:
            self.unload()  # before the next
            at = self._expected.index(tensor) if tensor in self._expected else None
            names = [tensor] if at is None else self._expected[at : at + _TOGETHER]
            self._loaded = names, self._partly(names)
        return self._loaded[1]

    def _partly(self, tensors: Collection[str] | None = None) -> PartlyQuantized:
        return PartlyQuantized(self._graph, self._plan, tensors, self._whole.outputs)

    def _spend(self, runs: int) -> None:
        self.left -= runs
        if self._on_progress is not None:
            self._on_progress(min(self._runs - self.left, self._runs), self._runs)

    def _setting(self, tensor: str, clip: Range, factors: Factors) -> Setting:
        """Return the scale of a tensor, and the weights and biases of the nodes that read it."""
        constants: dict[Reader, NDArray[Any]] = {}
        for activation in self._plan.activations:
            if activation.scale_from != tensor:
                continue
            for reader in activation.readers:
                if reader.position == 0 and reader.node in self._weights:
                    constants.update(self._rounded_constants(reader.node, factors))
        return Setting({tensor: self._parameters(tensor, clip, factors)}, constants)

    def _parameters(self, tensor: str, clip: Range, factors: Factors) -> QuantizationParameters:
        """Return scale and zero-point for a range; with factors, both are [channels]."""
        whole = activation_parameters(self._plan, tensor, clip)
        if factors is None:
            return whole
        zero_point = np.broadcast_to(whole.zero_point, factors.shape)
        return QuantizationParameters((whole.scale * factors).astype(np.float32), zero_point)

    def _rounded_constants(self, name: str, factors: Factors) -> dict[Reader, NDArray[Any]]:
        """Return a node's weights as INT8 would hold them, and its corrected bias."""
        node, weight = self._nodes[name], self._weights[name]
        array = constant(node.inputs[1])
        assert array is not None  # the plan holds constant weights only
        if factors is None and array.size > _LARGEST_WEIGHT:
            return {}
        if factors is None:
            values = self._coding.encode(node, weight, array).rounded()
        else:
            values = self._coding.encode(node, weight, scaled_weight(node, factors)).rounded()
            values = (values / along_inputs(node, factors, array)).astype(np.float32)
        found = {Reader(name, 1): values}
        data = node.inputs[0]
        means = self._channel_means(data.name or "") if data is not None else None
        place = own_bias(node)
        if place is not None and means is not None:
            change = shift(node, array, values.__getitem__, means)
            found[Reader(name, place.position)] = (
                change if place.array is None else place.array + change
            )
        return found
