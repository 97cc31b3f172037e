"""A choice that was written into a graph and judged."""

from collections.abc import Callable
from dataclasses import dataclass

from qbench.quantization.choice import Choice
from qbench.quantization.int8 import Int8Graph


@dataclass(frozen=True)
class Trial:
    """What a choice makes of a model.

    Attributes:
        graph: The quantized graph.
        choice: What makes it.
        noise: What it leaves: relative noise power of the outputs, at most 1.
    """

    graph: Int8Graph
    choice: Choice
    noise: float


Attempt = Callable[[Choice], Trial]
"""Writes a choice into a graph and judges it."""
