from dataclasses import replace

import graphs
import numpy as np
import onnx
import pytest

from qbench.data.samples import Sample
from qbench.quantization.choice import Choice
from qbench.quantization.int8 import Int8Options, Quantizer
from qbench.quantization.product_pairs import share_too_large
from qbench.quantization.searching.compensation import compensated_weights


def quantizer_of(proto: onnx.ModelProto, target: str = "tensorrt") -> Quantizer:
    model = graphs.model_of(proto)
    return Quantizer(model, target, graphs.table_of(model), Int8Options())


def samples_of(quantizer: Quantizer) -> list[Sample]:
    return [Sample(str(seed), graphs.feeds_of(quantizer.model, seed)) for seed in range(16)]


@pytest.mark.parametrize("saturates", [False, True])
@pytest.mark.parametrize("pattern", [graphs.classifier, graphs.attention, graphs.depthwise])
def test_codes_have_their_weights_shapes_and_room_for_sums(  # type: ignore[no-untyped-def]
    pattern, saturates: bool
) -> None:
    quantizer = quantizer_of(pattern())
    graph, plan = quantizer.placed(Choice())
    parameters = quantizer.parameters(plan, Choice())
    codes = compensated_weights(graph, plan, parameters, samples_of(quantizer), saturates=saturates)
    constants = graph.graph.initializers
    shapes = {w.reader.node: tuple(constants[w.tensor].shape or ()) for w in plan.weights}
    assert {name: array.shape for name, array in codes.items()} == shapes
    nodes = {node.name: node for node in graph.graph}
    shares = [share_too_large(nodes[name], array) for name, array in codes.items()]
    assert not saturates or shares == [0] * len(codes)


def test_written_codes_are_those_that_were_chosen() -> None:
    quantizer = quantizer_of(graphs.classifier())
    graph, plan = quantizer.placed(Choice())
    parameters = quantizer.parameters(plan, Choice())
    codes = compensated_weights(graph, plan, parameters, samples_of(quantizer), saturates=False)
    written = quantizer.graph(replace(Choice(), codes=codes)).ir.graph.initializers
    for weight in plan.weights:
        stored = written[f"{weight.tensor}_axis{weight.axis}_quantized"].const_value
        assert stored is not None
        np.testing.assert_array_equal(stored.numpy(), codes[weight.reader.node])


def test_a_weight_that_two_nodes_read_keeps_its_nearest_codes() -> None:
    quantizer = quantizer_of(graphs.shared_weight())
    graph, plan = quantizer.placed(Choice())
    parameters = quantizer.parameters(plan, Choice())
    codes = compensated_weights(graph, plan, parameters, samples_of(quantizer), saturates=False)
    shared = [w.tensor for w in plan.weights if w.reader.node in codes]
    assert len(shared) == len(set(shared)) < len(plan.weights)
