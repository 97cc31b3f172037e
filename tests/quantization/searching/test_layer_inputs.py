"""The variance of a layer's output follows from its weights and its inputs' covariance."""

from typing import Any

import graphs
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from qbench.data.samples import Sample
from qbench.model.graph import constant
from qbench.model.prepare import prepare
from qbench.quantization.searching import layer_inputs
from qbench.quantization.searching.layer_inputs import Covariance, covariances, portions


def convolution(**attributes: Any) -> onnx.ModelProto:
    builder = graphs.Builder()
    return builder.model(builder.conv("layer", builder.x, **attributes))


def without_pads(size: int, **attributes: Any) -> onnx.ModelProto:
    builder = graphs.Builder((1, graphs.CHANNELS, 15, 16))
    weight = builder.weight("w", 4, graphs.CHANNELS, size, size)
    return builder.model(builder.node("Conv", "layer", builder.x, weight, **attributes))


def gemm(transposed: int) -> onnx.ModelProto:
    builder = graphs.Builder((20, 12))
    weight = builder.weight("w", *((5, 12) if transposed else (12, 5)))
    return builder.model(builder.node("Gemm", "layer", builder.x, weight, transB=transposed))


def matmul() -> onnx.ModelProto:
    builder = graphs.Builder((2, 7, 12))
    return builder.model(builder.node("MatMul", "layer", builder.x, builder.weight("w", 12, 5)))


LAYERS = {
    "conv": convolution(),
    "strided": convolution(strides=[2, 2]),
    "dilated": convolution(dilations=[2, 2], pads=[2, 2, 2, 2]),
    "uneven pads": convolution(pads=[0, 1, 2, 1]),
    "pointwise": convolution(size=1),
    "no pads": without_pads(3),
    "valid": without_pads(3, auto_pad="VALID"),
    "same upper": without_pads(4, auto_pad="SAME_UPPER"),
    "same lower": without_pads(4, auto_pad="SAME_LOWER"),
    "same strided": without_pads(3, auto_pad="SAME_UPPER", strides=[2, 1]),
    "depthwise": convolution(group=graphs.CHANNELS),
    "grouped": convolution(group=2),
    "gemm": gemm(transposed=0),
    "gemm transposed": gemm(transposed=1),
    "matmul": matmul(),
}


@pytest.mark.parametrize("proto", LAYERS.values(), ids=LAYERS)
def test_covariance_explains_the_outputs_variance(
    proto: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_inputs, "_ROWS_OF_A_CHANNEL", 16 * 16)  # all of them
    model = graphs.model_of(proto)
    samples = [Sample(str(seed), graphs.feeds_of(model, seed)) for seed in range(3)]
    (node,) = model.ir.graph
    covariance = covariances(model.ir, [node], samples)["layer"].matrix
    weight = constant(node.inputs[1])
    assert weight is not None
    groups, inputs = covariance.shape[:2]
    is_column = node.op_type == "MatMul" or (node.op_type == "Gemm" and len(weight) == inputs)
    rows = (weight.T if is_column else weight).reshape(groups, -1, inputs)
    explained = np.einsum("gmi,gij,gmj->gm", rows, covariance, rows).ravel()
    outputs = [graphs.run(model.ir, sample.feeds)["layer"] for sample in samples]
    axis = 1 if node.op_type == "Conv" else -1
    channels = np.concatenate(
        [np.moveaxis(y, axis, 0).reshape(y.shape[axis], -1) for y in outputs], 1
    )
    np.testing.assert_allclose(explained, channels.var(axis=1), rtol=1e-3)


@pytest.mark.parametrize("most", [layer_inputs._ROWS, layer_inputs._ROWS_OF_A_CHANNEL])
@pytest.mark.parametrize("width", [40, 56, 80, 112, 160, 208, 320])
def test_no_column_of_an_image_is_looked_at_far_more_often_than_others(
    width: int, most: int
) -> None:
    """The first and the last lie beside the padding, and are unlike the others."""
    positions = layer_inputs._spread(width * width, most)
    seen = np.bincount(positions % width, minlength=width)
    assert seen.max() <= 3 * len(positions) / width + 1
    assert len(positions) == len(set(positions.tolist()))


def test_layers_with_many_inputs_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_inputs, "MOST_INPUTS", 9 * graphs.CHANNELS - 1)
    model = graphs.model_of(convolution())
    samples = [Sample("0", graphs.feeds_of(model))]
    assert covariances(model.ir, list(model.ir.graph), samples) == {}


def test_one_sample_does_not_tell_how_far_others_would_contradict_it() -> None:
    model = graphs.model_of(gemm(transposed=0))
    samples = [Sample(str(seed), graphs.feeds_of(model, seed)) for seed in range(2)]
    assert covariances(model.ir, list(model.ir.graph), samples).keys() == {"layer"}
    assert not covariances(model.ir, list(model.ir.graph), samples[:1])


def known_of(rows: NDArray[np.float32], count: int) -> Covariance:
    """Return what `count` samples of as many of the `rows`, [rows, 12], tell of a MatMul."""
    builder = graphs.Builder(("n", 12))
    product = builder.node("MatMul", "layer", builder.x, builder.weight("w", 12, 5))
    model = prepare(graphs.model_of(builder.model(product)))
    nodes = [node for node in model.ir.graph if node.op_type == "MatMul"]
    samples = [Sample(str(i), {"x": part}) for i, part in enumerate(np.split(rows, count))]
    return covariances(model.ir, nodes, samples)["layer"]


def test_little_data_is_mixed_with_noise_to_come_closer_to_the_truth() -> None:
    """The truth: four quantities, each seen by three inputs, and a little noise."""
    mixing = np.repeat(np.eye(4), 3, axis=1) + 0.1 * np.eye(4, 12)
    truth = mixing.T @ mixing + 0.01 * np.eye(12)
    rows = np.random.default_rng(0).multivariate_normal(np.zeros(12), truth, 4000)
    few, many = (known_of(rows[:n].astype(np.float32), 20) for n in (20, 4000))
    assert many.shrinkage < 0.02 < few.shrinkage < 0.8

    def error(covariance: NDArray[np.float32]) -> float:
        return float(((covariance[0] - truth) ** 2).sum())

    assert error(few.shrunk(0)) < 0.9 * error(few.matrix)
    assert np.trace(few.shrunk(0)[0]) == pytest.approx(np.trace(few.matrix[0]), rel=1e-5)


def test_inputs_that_have_nothing_in_common_are_taken_for_noise() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)
    assert known_of(rows, 4).shrinkage > 0.8


def test_rows_of_one_image_are_no_second_opinion() -> None:
    """Each sample repeats a row a hundred times, which tells no more than one of it."""
    rows = np.random.default_rng(0).normal(size=(16, 12)).astype(np.float32)
    once, often = known_of(rows, 16), known_of(np.repeat(rows, 100, axis=0), 16)
    assert often.shrinkage == pytest.approx(once.shrinkage, rel=1e-3)


def test_layers_that_read_the_same_share_what_is_known() -> None:
    builder = graphs.Builder()
    attributes = {"one": {}, "same": {}, "wider": {"dilations": [2, 2], "pads": [2, 2, 2, 2]}}
    outputs = [builder.conv(name, builder.x, **more) for name, more in attributes.items()]
    model = prepare(graphs.model_of(builder.model(*outputs)))
    nodes = [node for node in model.ir.graph if node.op_type == "Conv"]
    samples = [Sample(str(seed), graphs.feeds_of(model, seed)) for seed in range(4)]
    found = covariances(model.ir, nodes, samples)
    alone = covariances(model.ir, nodes[2:], samples)
    assert found["one"] is found["same"]
    assert not np.array_equal(found["one"].matrix, found["wider"].matrix)
    np.testing.assert_array_equal(found["wider"].matrix, alone["wider"].matrix)


def test_layers_come_in_portions_that_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = graphs.Builder()
    names = [f"conv {i}" for i in range(5)]
    model = prepare(graphs.model_of(builder.model(*(builder.conv(n, builder.x) for n in names))))
    nodes = [node for node in model.ir.graph if node.op_type == "Conv"]
    (whole,) = portions(nodes)
    assert whole == nodes
    inputs = 9 * graphs.CHANNELS
    monkeypatch.setattr(layer_inputs, "_MOST_BYTES", 2 * 2 * 4 * inputs**2)
    assert [len(portion) for portion in portions(nodes)] == [2, 2, 1]
    monkeypatch.setattr(layer_inputs, "_MOST_BYTES", 1)
    assert [node for portion in portions(nodes) for node in portion] == nodes


def test_samples_of_other_sizes_may_bring_the_rows_that_the_first_lacks() -> None:
    """Of 12 inputs, twice 4 rows tell too little, but 4 and 40 enough."""
    builder = graphs.Builder(("n", 12))
    product = builder.node("MatMul", "layer", builder.x, builder.weight("w", 12, 5))
    model = prepare(graphs.model_of(builder.model(product)))
    nodes = [node for node in model.ir.graph if node.op_type == "MatMul"]
    random = np.random.default_rng(0)
    few, many = (
        Sample(str(rows), {"x": random.normal(size=(rows, 12)).astype(np.float32)})
        for rows in (4, 40)
    )
    assert not covariances(model.ir, nodes, [few, few])
    assert covariances(model.ir, nodes, [few, many]).keys() == {"layer"}
