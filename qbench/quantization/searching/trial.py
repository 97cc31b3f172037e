"""A choice that was written into a graph and judged."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qbench.quantization.choice import Choice
from qbench.quantization.int8 import Int8Graph
from qbench.quantization.searching.noise import HARM

_HALF = 0.5


@dataclass(frozen=True)
class Trial:
    """What a choice makes of a model.

    Attributes:
        graph: The quantized graph.
        choice: What makes it.
        noise: What it leaves: relative noise power of the outputs, at most 1.
        noise_of_each: The same of each sample by itself, [samples].
    """

    graph: Int8Graph
    choice: Choice
    noise: float
    noise_of_each: NDArray[Any]

    def is_better_than(self, other: "Trial") -> bool:
        """Return whether this leaves less noise, and no more of it in half of the samples.

        Where outputs flip, as the characters of a text do, the noise of all samples is that of
        one or two: ranges for these made 24 dB of 21 and lost 1.3 dB on other images. Of a harmed
        model every sample is noisy, and their sum tells more.
        """
        if self.noise >= other.noise or other.noise > HARM:
            return self.noise < other.noise
        return bool(np.mean(self.noise_of_each <= other.noise_of_each) >= _HALF)


Attempt = Callable[[Choice], Trial]
"""Writes a choice into a graph and judges it."""

Rivalry = Callable[[Choice, Trial], Trial]
"""The same, as far as it takes to see whether it is better than what was found so far."""
