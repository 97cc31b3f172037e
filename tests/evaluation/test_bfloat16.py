import graphs
import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from qbench.evaluation.bfloat16 import rounded_in_float
from qbench.evaluation.compare_layers import compare_layers
from qbench.evaluation.similarity import sqnr_db
from qbench.model.load import Model
from qbench.model.prepare import prepare
from qbench.quantization.precisions.half import to_half


def rounded(array: NDArray[np.float32]) -> NDArray[np.float32]:
    return array.astype(ml_dtypes.bfloat16).astype(np.float32)


def half(model: Model, *, keep_io: bool = True) -> ir.Model:
    return to_half(prepare(model).ir, ir.DataType.BFLOAT16, keep_io=keep_io).ir


def test_inputs_weights_and_results_are_rounded_to_the_nearest() -> None:
    b = graphs.Builder((64,))
    factor = np.random.default_rng(1).normal(size=64).astype(np.float32)
    product = b.node("Mul", "product", b.x, b.constant("factor", factor))
    model = graphs.model_of(b.model(b.node("Neg", "negative", product)))
    feeds = graphs.feeds_of(model)
    found = graphs.run(rounded_in_float(half(model)), feeds)
    wanted = -rounded(rounded(feeds["x"]) * rounded(factor))
    assert np.array_equal(found["negative"], wanted)


@pytest.mark.parametrize("keep_io", [True, False])
def test_a_network_runs_with_the_error_of_bfloat16(keep_io: bool) -> None:
    model = graphs.model_of(graphs.residual())
    graph = half(model, keep_io=keep_io)
    before = ir.to_proto(graph).SerializeToString(deterministic=True)
    feeds = graphs.feeds_of(model)
    found = graphs.run(rounded_in_float(graph), feeds)
    assert 35 < sqnr_db(graphs.run(model.ir, feeds)["head"], found["head"]) < 50
    assert ir.to_proto(graph).SerializeToString(deterministic=True) == before


def test_constants_in_nodes_are_rounded_too() -> None:
    array = numpy_helper.from_array(np.full(4, 1.5, ml_dtypes.bfloat16))
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["c"], value=array),
            helper.make_node("Add", ["x", "c"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.BFLOAT16, [4])],
        [helper.make_tensor_value_info("y", TensorProto.BFLOAT16, [4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    found = graphs.run(rounded_in_float(ir.from_proto(model)), {"x": np.ones(4, np.float32)})
    assert np.array_equal(found["y"], np.full(4, 2.5))


def test_a_model_without_it_is_left_alone() -> None:
    model = graphs.model_of(graphs.residual()).ir
    assert rounded_in_float(model) is model


def test_layers_of_a_bfloat16_model_are_compared() -> None:
    model = graphs.model_of(graphs.classifier())
    found = compare_layers(model, Model(half(model), None, "0"))
    assert found.first_bad is None
    assert len(found.layers) == found.total
    assert all(35 < layer.sqnr_db < 60 for layer in found.layers)
