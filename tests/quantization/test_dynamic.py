import numpy as np
import onnx_ir as ir
import pytest
from graphs import Builder, model_of

from qbench.errors import QuantizationError, UsageError
from qbench.evaluation.similarity import sqnr_db
from qbench.model.load import Model
from qbench.model.prepare import prepare
from qbench.quantization.dynamic import to_dynamic_int8
from qbench.quantization.quantize import quantize
from qbench.runtimes.ort import open_graph

WIDTH = 16


def feed_forward() -> Model:
    """A transformer's feed-forward block: MatMul, bias, Relu, MatMul, residual."""
    builder = Builder(("batch", 5, WIDTH))
    hidden = builder.node("MatMul", "up", builder.x, builder.weight("w1", WIDTH, 4 * WIDTH))
    hidden = builder.node("Add", "up_bias", hidden, builder.weight("b1", 4 * WIDTH))
    hidden = builder.node("Relu", "relu", hidden)
    down = builder.node("MatMul", "down", hidden, builder.weight("w2", 4 * WIDTH, WIDTH))
    return prepare(model_of(builder.model(builder.node("Add", "residual", down, builder.x))))


def test_matmuls_run_on_integers_and_stay_close() -> None:
    model = feed_forward()
    quantized = to_dynamic_int8(model.ir, weight_bits=8)
    operators = [node.op_type for node in quantized.graph]
    assert operators.count("MatMulInteger") == 2
    assert "MatMul" not in operators
    x = np.random.default_rng(0).normal(size=(3, 5, WIDTH)).astype(np.float32)
    reference = open_graph(model.ir).run({"x": x})["residual"]
    assert sqnr_db(reference, open_graph(quantized).run({"x": x})["residual"]) > 30


def test_seven_bits_keep_weights_within_half_the_range() -> None:
    quantized = to_dynamic_int8(feed_forward().ir, weight_bits=7)
    codes = [
        value.const_value.numpy()
        for value in quantized.graph.initializers.values()
        if value.dtype == ir.DataType.INT8 and value.const_value is not None
    ]
    assert max(np.abs(code.astype(int)).max() for code in codes) <= 64


def test_the_given_model_is_left_alone() -> None:
    model = feed_forward()
    shapes = [value.shape for node in model.ir.graph for value in node.outputs]
    to_dynamic_int8(model.ir, weight_bits=8)
    assert [value.shape for node in model.ir.graph for value in node.outputs] == shapes


def test_a_model_of_convolutions_is_refused() -> None:
    builder = Builder()
    model = prepare(model_of(builder.model(builder.conv("conv", builder.x))))
    with pytest.raises(QuantizationError, match=r"no MatMul or Gemm .* use --int8"):
        to_dynamic_int8(model.ir, weight_bits=8)


def test_tensorrt_has_no_dynamic_quantization() -> None:
    with pytest.raises(UsageError, match="target cpu only, not tensorrt"):
        quantize(feed_forward(), target="tensorrt", precision="dynamic")
