"""In which order nodes shall be freed: first those whose INT8 disturbs the output most."""

from collections.abc import Mapping, Sequence

from qbench.data.samples import Sample
from qbench.quantization.choice import Choice
from qbench.quantization.fallback import nodes_to_free
from qbench.quantization.int8 import Quantizer
from qbench.quantization.searching.probe import Probe, scalings_of


def ranked_nodes(quantizer: Quantizer, start: Choice, samples: Sequence[Sample]) -> list[str]:
    """Return all nodes that may be freed.

    Those that `start` keeps float come first, as it is the float nodes of a prefix that are tried.
    Within both parts a node ranks by the tensor that disturbs the output most of those that need
    it float, then by its place in the graph.

    Args:
        quantizer: Of the model.
        start: Ranges, equalization and float nodes to start from.
        samples: On which outputs are compared.
    """
    noise = _noise_of_nodes(quantizer, _noise_alone(quantizer, start, samples))
    return sorted(
        quantizer.plan.quantized,
        key=lambda node: (node not in start.float_nodes, -noise.get(node, 0.0)),
    )


def _noise_alone(
    quantizer: Quantizer, start: Choice, samples: Sequence[Sample]
) -> dict[str, float]:
    """Return the noise of the output with one tensor in INT8, by tensor."""
    probe = Probe(quantizer, samples, runs=0)
    if not probe.can_judge:
        return {}
    scalings = scalings_of(quantizer, start)
    probe.expect(scalings)
    return {tensor: probe.of(tensor, *scaling) for tensor, scaling in scalings.items()}


def _noise_of_nodes(quantizer: Quantizer, alone: Mapping[str, float]) -> dict[str, float]:
    noise: dict[str, float] = {}
    for tensor, caused in alone.items():
        for node in nodes_to_free(quantizer.prepared.ir.graph, quantizer.plan, tensor):
            noise[node] = max(caused, noise.get(node, 0.0))
    return noise
