"""ONNX Runtime rounds the weights of float nodes between Q/DQ, unless it is kept from it."""

from collections.abc import Callable
from pathlib import Path

import graphs
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from qbench.evaluation.similarity import sqnr_db
from qbench.quantization import qdq
from qbench.quantization.encodings import dequantizer, scale_of
from qbench.quantization.linting.lint import lint
from qbench.quantization.options import Int8Options
from qbench.quantization.quantize import quantize
from qbench.quantization.quantized import QuantizedModel
from qbench.runtimes.ort.graphs import open_graph, optimized_graph

Unguarded = Callable[[onnx.ModelProto], QuantizedModel]


def between(op_type: str) -> onnx.ModelProto:
    """A depthwise node `middle`, whose neighbours run on integers."""
    b = graphs.Builder()
    stem = b.conv("stem", b.x)
    weight = b.weight("middle.w", graphs.CHANNELS, 1, 3, 3)
    middle = b.node(op_type, "middle", stem, weight, group=graphs.CHANNELS, pads=[1] * 4)
    return b.model(b.conv("head", b.conv("after", middle)))


def uneven() -> onnx.ModelProto:
    """The same, where a channel's weights are the smaller the larger its values are."""
    proto = between("Conv")
    scales = 2.0 ** np.arange(graphs.CHANNELS, dtype=np.float32)[:, None, None, None]
    for tensor in proto.graph.initializer:
        if tensor.name in {"stem.w", "middle.w"}:
            array = numpy_helper.to_array(tensor)
            scaled = array * scales if tensor.name == "stem.w" else array / scales
            tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))
    return proto


def without_middle(proto: onnx.ModelProto) -> QuantizedModel:
    model = graphs.model_of(proto)
    options = Int8Options(effort="fast", exclude=["middle"])
    return quantize(model, target="cpu", table=graphs.table_of(model), options=options)


@pytest.fixture
def unguarded(monkeypatch: pytest.MonkeyPatch) -> Unguarded:
    def make(proto: onnx.ModelProto) -> QuantizedModel:
        with monkeypatch.context() as patch:
            patch.setattr(qdq, "keep_weights_float", lambda *_: None)
            return without_middle(proto)

    return make


@pytest.mark.parametrize("op_type", ["Conv", "ConvTranspose"])
def test_a_float_node_between_integer_nodes_keeps_its_weights(op_type: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    ir.save(without_middle(between(op_type)).ir, path)
    kernels = {node.name: node for node in optimized_graph(path)}
    assert kernels["stem"].op_type == kernels["after"].op_type == "QLinearConv"
    assert kernels["middle"].op_type == op_type
    weight = kernels["middle"].inputs[1]
    assert weight is not None
    assert weight.dtype == ir.DataType.FLOAT
    assert weight.producer() is None


def test_no_value_changes(unguarded: Unguarded) -> None:
    proto = between("Conv")
    feeds = graphs.feeds_of(graphs.model_of(proto))
    before = graphs.run(unguarded(proto).ir, feeds)["head"]
    np.testing.assert_array_equal(graphs.run(without_middle(proto).ir, feeds)["head"], before)


def test_a_float_depthwise_convolution_keeps_its_accuracy_natively(unguarded: Unguarded) -> None:
    proto = uneven()
    feeds = graphs.feeds_of(graphs.model_of(proto))

    def sqnr(result: QuantizedModel) -> float:
        exact = graphs.run(result.ir, feeds)["head"]
        native = open_graph(result.ir).run(feeds)["head"]
        return sqnr_db(exact, native)

    assert sqnr(without_middle(proto)) > sqnr(unguarded(proto)) + 10


def test_other_readers_keep_the_one_scale() -> None:
    b = graphs.Builder()
    stem = b.conv("stem", b.x)
    joined = b.node("Add", "joined", b.conv("middle", stem), stem)
    graph = without_middle(b.model(b.conv("head", b.conv("after", joined)))).ir.graph
    nodes = {node.name: node for node in graph}
    sizes = [scale_of(dequantizer(nodes[name].inputs[0])).size for name in ("middle", "after")]
    assert sizes == [graphs.CHANNELS, 1]


def test_the_linter_accepts_it() -> None:
    assert lint(without_middle(between("Conv")).ir, "cpu") == ()


def test_a_node_whose_output_stays_float_is_left_alone() -> None:
    b = graphs.Builder()
    result = without_middle(b.model(b.conv("middle", b.conv("stem", b.x))))
    middle = next(node for node in result.ir.graph if node.name == "middle")
    assert scale_of(dequantizer(middle.inputs[0])).size == 1
