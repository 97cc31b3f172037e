"""How fast a mix of INT8 and float nodes is, where it can be timed."""

from functools import cached_property

import onnx_ir as ir

from qbench.benchmarking.stats import Interval
from qbench.benchmarking.timing.clock import Call
from qbench.benchmarking.timing.schedule import measure
from qbench.benchmarking.timing.settings import Settings
from qbench.data.samples import Sample
from qbench.model.save import on_disk
from qbench.runtimes.ort.runner import OrtRunner


class Stopwatch:
    """Times graphs against the float model, in interleaved rounds.

    Args:
        reference: The float model.
        provider: A key of `runtimes.ort.providers.PROVIDERS`.
        sample: What is fed.
        settings: How long and how finely to measure.
    """

    def __init__(
        self, reference: ir.Model, provider: str, sample: Sample, settings: Settings
    ) -> None:
        self._reference, self._provider = reference, provider
        self._sample, self._settings = sample, settings

    def speed_of(self, graph: ir.Model) -> Interval:
        """Return the time of the float model / that of `graph`, so that above 1 is faster.

        Each is loaded once: the interval tells nothing of what another load would change.

        Raises:
            UnfitError: The provider does not load on this machine.
            ModelError: ONNX Runtime refuses the graph.
        """
        return measure([self._baseline, self._call(graph)], self._settings).ratios[1]

    @cached_property
    def _baseline(self) -> Call:
        return self._call(self._reference)

    def _call(self, graph: ir.Model) -> Call:
        with on_disk(graph) as path:
            return OrtRunner(path, provider=self._provider).bind(self._sample.feeds)
