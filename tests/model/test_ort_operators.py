from typing import Any

import graphs
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from qbench.model.ort_operators import DOMAIN
from qbench.model.passes.infer_shapes import infer_shapes
from qbench.runtimes.ort.graphs import open_graph

PAIR = ["scale", "zero"]

OPERATORS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "DynamicQuantizeMatMul": (["x", "row", "scale"], {}),
    "MatMulNBits": (["x", "nibbles", "scales"], {"K": 16, "N": 3, "bits": 4, "block_size": 16}),
    "QGemm": (["rows", *PAIR, "rows", *PAIR, "", *PAIR], {"transB": 1}),
    "QLinearAdd": (["codes", *PAIR, "row", *PAIR, *PAIR], {}),
    "QLinearAveragePool": (["codes", *PAIR, *PAIR], {"kernel_shape": [3, 3], "pads": [1, 0, 0, 0]}),
    "QLinearConcat": ([*PAIR, "codes", *PAIR, "codes", *PAIR], {"axis": 1}),
    "QLinearGlobalAveragePool": (["codes", *PAIR, *PAIR], {}),
    "QLinearLeakyRelu": (["codes", *PAIR, *PAIR], {}),
    "QLinearMul": (["codes", *PAIR, "row", *PAIR, *PAIR], {}),
    "QLinearSigmoid": (["codes", *PAIR, *PAIR], {}),
    "QLinearSoftmax": (["codes", *PAIR, *PAIR], {"axis": -1, "opset": 17}),
    "QLinearWhere": (["yes", "codes", *PAIR, "row", *PAIR, *PAIR], {}),
}


def model_of(op_type: str, inputs: list[str], **attributes: Any) -> onnx.ModelProto:
    """A model that quantizes its input and hands it to one operator."""
    b = graphs.Builder()
    b.constant("scale", np.float32(0.1))
    b.constant("zero", np.uint8(0))
    b.constant("yes", np.array(True))
    b.constant("row", np.ones((16, 1), np.uint8))
    b.constant("rows", np.ones((5, 7), np.uint8))
    b.constant("nibbles", np.ones((3, 1, 8), np.uint8))
    b.constant("scales", np.ones(3, np.float32))
    b.node("QuantizeLinear", "codes", b.x, *PAIR)
    proto = b.model(b.node(op_type, "y", *inputs, domain=DOMAIN, **attributes))
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_empty_tensor_value_info("y"))
    proto.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return proto


@pytest.mark.parametrize("op_type", OPERATORS)
def test_type_and_shape_are_those_that_onnx_runtime_writes(op_type: str) -> None:
    inputs, attributes = OPERATORS[op_type]
    model = graphs.model_of(model_of(op_type, inputs, **attributes))
    infer_shapes(model.ir)
    (y,) = model.ir.graph.outputs
    written = open_graph(model.ir).run(graphs.feeds_of(model))["y"]
    assert y.dtype is not None
    assert (y.shape, y.dtype.numpy()) == (written.shape, written.dtype)


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes"),
    [
        ("QLinearAveragePool", ["codes", *PAIR, *PAIR], {"kernel_shape": [3, 3]}),
        ("QLinearGlobalAveragePool", ["codes", *PAIR, *PAIR], {}),
    ],
)
def test_of_channels_that_come_last_nothing_is_told(
    op_type: str, inputs: list[str], attributes: dict[str, Any]
) -> None:
    model = graphs.model_of(model_of(op_type, inputs, channels_last=1, **attributes)).ir
    infer_shapes(model)
    assert model.graph.outputs[0].shape is None


@pytest.mark.parametrize("op_type", OPERATORS)
def test_of_an_operator_that_lacks_its_inputs_nothing_is_told(op_type: str) -> None:
    model = graphs.model_of(model_of(op_type, [])).ir
    model.graph.outputs[0].shape = ir.Shape([3])
    infer_shapes(model)
    assert model.graph.outputs[0].shape == (3,)


def test_a_gemm_without_a_scale_for_its_output_writes_floats() -> None:
    inputs = ["rows", *PAIR, "rows", *PAIR]
    model = graphs.model_of(model_of("QGemm", inputs, transB=1)).ir
    model.graph.outputs[0].dtype = ir.DataType.FLOAT
    infer_shapes(model)
    assert model.graph.outputs[0].dtype == ir.DataType.FLOAT
