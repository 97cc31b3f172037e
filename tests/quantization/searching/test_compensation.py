from dataclasses import replace

import graphs
import numpy as np
import onnx
import pytest

from qbench.data.samples import Sample
from qbench.quantization.choice import Choice
from qbench.quantization.int8 import Int8Options, Quantizer
from qbench.quantization.searching.compensation import compensated_weights


def quantizer_of(proto: onnx.ModelProto, target: str = "tensorrt") -> Quantizer:
    model = graphs.model_of(proto)
    return Quantizer(model, target, graphs.table_of(model), Int8Options())


def samples_of(quantizer: Quantizer) -> list[Sample]:
    return [Sample(str(seed), graphs.feeds_of(quantizer.model, seed)) for seed in range(16)]


@pytest.mark.parametrize("bits", [8, 7])
@pytest.mark.parametrize("pattern", [graphs.classifier, graphs.attention, graphs.depthwise])
def test_codes_have_their_weights_shapes_and_their_range(pattern, bits: int) -> None:  # type: ignore[no-untyped-def]
    quantizer = quantizer_of(pattern())
    graph, plan = quantizer.placed(Choice())
    parameters = quantizer.parameters(plan, Choice())
    codes = compensated_weights(graph, plan, parameters, bits, samples_of(quantizer))
    constants = graph.graph.initializers
    shapes = {w.reader.node: tuple(constants[w.tensor].shape or ()) for w in plan.weights}
    assert {name: array.shape for name, array in codes.items()} == shapes
    assert all(np.abs(array).max() <= 2 ** (bits - 1) - 1 for array in codes.values())


def test_written_codes_are_those_that_were_chosen() -> None:
    quantizer = quantizer_of(graphs.classifier())
    graph, plan = quantizer.placed(Choice())
    parameters = quantizer.parameters(plan, Choice())
    codes = compensated_weights(graph, plan, parameters, 8, samples_of(quantizer))
    written = quantizer.graph(replace(Choice(), codes=codes)).ir.graph.initializers
    for weight in plan.weights:
        stored = written[f"{weight.tensor}_axis{weight.axis}_quantized"].const_value
        assert stored is not None
        np.testing.assert_array_equal(stored.numpy(), codes[weight.reader.node])


def test_a_weight_that_two_nodes_read_keeps_its_nearest_codes() -> None:
    quantizer = quantizer_of(graphs.shared_weight())
    graph, plan = quantizer.placed(Choice())
    parameters = quantizer.parameters(plan, Choice())
    codes = compensated_weights(graph, plan, parameters, 8, samples_of(quantizer))
    shared = [w.tensor for w in plan.weights if w.reader.node in codes]
    assert len(shared) == len(set(shared)) < len(plan.weights)
