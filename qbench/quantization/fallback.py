"""Find the few nodes that INT8 ruins, by what they do to the model's output, and keep them float.

A layer's own rounding error says little: a small error in an early depthwise convolution can end a
detector, while a large one elsewhere vanishes. So each tensor is judged by quantizing it alone and
comparing the model's outputs with those of the float model, on a few calibration samples.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import log10
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qbench.data.samples import Sample
from qbench.placement.cpu import final_output
from qbench.placement.plan import Activation, Plan
from qbench.quantization.numerics import QuantizationParameters
from qbench.quantization.qdq import write_qdq
from qbench.runtimes.base import Tensors
from qbench.runtimes.cpu import usable_cores
from qbench.runtimes.ort import open_graph

TARGET_NOISE = 0.01
"""Relative noise power of the output that needs no mending: 20 dB."""

_APART = 30.0

_SMALL_NOISE = TARGET_NOISE / 4
"""Tensors that alone cause less are not looked at one by one."""

Culprits = dict[str, float]
"""Relative noise power that quantizing a tensor alone causes, by tensor name, worst first."""


class Judge:
    """Compares quantized graphs with the float one on a few samples.

    Only float outputs are compared whose shape is the same for all samples; where there are none,
    as behind a NonMaxSuppression, nothing can be judged.
    """

    def __init__(self, reference: ir.Model, samples: Sequence[Sample]) -> None:
        self._samples = samples
        results = self._run(reference, simulate=False)
        self._reference = {
            name: np.stack([result[name] for result in results])
            for name, first in results[0].items()
            if first.dtype == np.float32 and len({result[name].shape for result in results}) == 1
        }

    @property
    def can_judge(self) -> bool:
        """Whether there is an output to compare."""
        return bool(self._reference)

    def noise(self, graph: ir.Model) -> float:
        """Return the relative noise power of the outputs of `graph`: 0 for none, 1 for ruin.

        The mean over outputs of `relative_noise`.
        """
        results = self._run(graph, simulate=True)
        ratios = [
            relative_noise(reference, np.stack([result[name] for result in results]))
            for name, reference in self._reference.items()
        ]
        return float(np.mean(ratios))

    def _run(self, graph: ir.Model, *, simulate: bool) -> list[Tensors]:
        runner = open_graph(graph, threads=1, simulate=simulate)
        with ThreadPoolExecutor(usable_cores()) as pool:
            return list(pool.map(lambda sample: runner.run(sample.feeds), self._samples))


def relative_noise(reference: NDArray[Any], test: NDArray[Any]) -> float:
    """Return the noise power of `test` relative to the variance of `reference`, at most 1.

    A detector's output holds coordinates beside scores, whose errors would vanish next to theirs.
    So the entries of the shortest axis with more than one are features, those that vary 30 times
    less than the most variable one are judged apart, and the two figures are averaged.

    Args:
        reference: [samples, ...].
        test: The same shape.
    """
    axes = [axis for axis, size in enumerate(reference.shape) if size > 1 and axis > 0]
    feature = min(axes, key=lambda axis: reference.shape[axis]) if len(axes) > 1 else None
    others = tuple(axis for axis in range(reference.ndim) if axis != feature)
    wide = reference.astype(np.float64)
    error = np.atleast_1d(np.square(test - wide).mean(axis=others))
    variance = np.atleast_1d(wide.var(axis=others))
    error = np.where(np.isfinite(error), error, np.inf)  # NaN or Inf in the output is ruin
    is_large = variance >= variance.max() / _APART**2
    parts = [part for part in (is_large, ~is_large) if variance[part].sum() > 0]
    if not parts:
        return float(error.any())
    return float(np.mean([min(error[p].sum() / variance[p].sum(), 1.0) for p in parts]))


def find_culprits(
    prepared: ir.Model,
    plan: Plan,
    parameters: Mapping[str, QuantizationParameters],
    judge: Judge,
) -> Culprits:
    """Return the tensors whose quantization alone harms the output, worst first.

    All at once, then halves of what harms: most tensors are cleared together.
    """
    groups: dict[str, list[Activation]] = {}
    for activation in plan.activations:
        groups.setdefault(activation.scale_from, []).append(activation)

    def noise_of(names: Sequence[str]) -> float:
        chosen = tuple(activation for name in names for activation in groups[name])
        only = replace(plan, activations=chosen, weights=(), biases=())
        return judge.noise(write_qdq(prepared, only, parameters))

    found = _split(tuple(groups), noise_of)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _split(names: Sequence[str], noise_of: Callable[[Sequence[str]], float]) -> Culprits:
    noise = noise_of(names)
    if noise < _SMALL_NOISE:
        return {}
    if len(names) == 1:
        return {names[0]: noise}
    middle = len(names) // 2
    return _split(names[:middle], noise_of) | _split(names[middle:], noise_of)


def nodes_to_free(prepared: ir.Model, plan: Plan, tensor: str) -> set[str]:
    """Return the planned nodes that must be float for `tensor` to be float.

    Those that read it; and where the plan quantizes outputs (`cpu`), those that write it.
    """
    planned = set(plan.quantized)
    same = [activation for activation in plan.activations if activation.scale_from == tensor]
    names = {reader.node for activation in same for reader in activation.readers}
    if not plan.symmetric:
        tensors = {activation.tensor for activation in same}
        names |= {n.name or "" for n in prepared.graph if final_output(n).name in tensors}
    return names & planned


def decibels(noise: float) -> float:
    """Return a relative noise power as a signal-to-noise ratio in dB."""
    return 10 * log10(1 / max(noise, 1e-12))
