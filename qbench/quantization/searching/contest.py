"""Judge choices on the model as it would be written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qbench.data.samples import Sample
from qbench.quantization.choice import Choice
from qbench.quantization.int8 import Int8Graph, Quantizer
from qbench.quantization.searching.judge import Judge, SampleRunner
from qbench.quantization.searching.trial import Trial
from qbench.runtimes.base import Tensors

_FIRST_LOOK = 4
"""One sample in so many is run first ..."""

_PLAINLY_WORSE = 1.1
"""... and the others are not, where a rival leaves so much more noise on these ..."""

_MOST = 0.75
"""... and more of it on so many of them. Of 14 rivals for YOLOX-nano, 13 lose."""


@dataclass(frozen=True)
class Contest:
    """Judges what choices leave of the outputs.

    Attributes:
        quantizer: Of the model.
        samples: What it is run on.
        judge: Of these samples.
    """

    quantizer: Quantizer
    samples: Sequence[Sample]
    judge: Judge

    def trial(self, choice: Choice) -> Trial:
        """Return what `choice` leaves."""
        return self.trial_of(self.quantizer.graph(choice), choice)

    def trial_of(self, graph: Int8Graph, choice: Choice) -> Trial:
        """Return what `graph` leaves, which `choice` makes."""
        return self._judged(graph, choice, self._runner(graph).each(self.samples))

    def rival(self, choice: Choice, best: Trial) -> Trial:
        """Return what `choice` leaves; of one that is plainly worse than `best`, an estimate.

        Most rivals lose, and a few samples tell of those that do by far.
        """
        graph = self.quantizer.graph(choice)
        runner = self._runner(graph)
        first = self.samples[::_FIRST_LOOK]
        seen = runner.run(first)
        noises = self.judge.on(first).noises(seen)[1]
        known = best.noise_of_each[::_FIRST_LOOK]
        if _lose(noises, known):
            times = float(noises.mean() / known.mean())
            return Trial(graph, choice, min(times * best.noise, 1.0), times * best.noise_of_each)
        others = runner.each([s for i, s in enumerate(self.samples) if i % _FIRST_LOOK])
        turns = [iter(seen), *[others] * (_FIRST_LOOK - 1)]
        results = (next(turns[i % _FIRST_LOOK]) for i in range(len(self.samples)))
        return self._judged(graph, choice, results)

    def _runner(self, graph: Int8Graph) -> SampleRunner:
        return SampleRunner(self.judge.outputs.of(graph.ir))

    def _judged(self, graph: Int8Graph, choice: Choice, results: Iterable[Tensors]) -> Trial:
        return Trial(graph, choice, *self.judge.noises(results))


def _lose(noises: NDArray[np.float64], others: NDArray[np.float64]) -> bool:
    """Return whether noises of some samples are plainly more than others of the same samples.

    Samples in which nothing is detected have none, and tell nothing.
    """
    is_more = noises.mean() > _PLAINLY_WORSE * others.mean() > 0
    return bool(is_more and (noises > others).mean() >= _MOST)
