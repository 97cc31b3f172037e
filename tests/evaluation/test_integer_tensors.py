from pathlib import Path
from typing import Any

import graphs
import numpy as np
import onnx
import pytest
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from qbench.evaluation.compare_layers import LayerComparison, LayerOptions, compare_layers
from qbench.evaluation.integer_tensors import with_float_tensors
from qbench.model.load import load


class OneSample(CalibrationDataReader):
    """One sample, and the end."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._left = [{"x": np.random.default_rng(1).normal(size=shape).astype(np.float32)}]

    def get_next(self) -> Any:
        return self._left.pop() if self._left else None


def network() -> onnx.ModelProto:
    """Two convolutions with activations, one pooled, that are added up and classified."""
    b = graphs.Builder()
    pooled = b.node("MaxPool", "pooled", relu(b, "stem", b.x), kernel_shape=[2, 2], strides=[2, 2])
    total = b.node("Add", "total", pooled, relu(b, "branch", pooled))
    flat = b.node("Flatten", "flat", b.node("GlobalAveragePool", "mean", total))
    return b.model(b.node("Gemm", "y", flat, b.weight("fc", 8, 10)))


def relu(b: graphs.Builder, name: str, x: str) -> str:
    return b.node("Relu", f"{name}_relu", b.conv(name, x))


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A float model, and what ONNX Runtime's quantizer makes of it with integer operators."""
    monkeypatch.chdir(tmp_path)
    source, made = Path("m.onnx"), Path("q.onnx")
    onnx.save(network(), source)
    quantize_static(
        source,
        made,
        OneSample(graphs.IMAGE),
        quant_format=QuantFormat.QOperator,
        activation_type=QuantType.QUInt8,
        reduce_range=True,  # kernels of CPUs without VNNI would saturate
        calibrate_method=CalibrationMethod.MinMax,
    )
    return source, made


def compared(models: tuple[Path, Path], **options: Any) -> LayerComparison:
    return compare_layers(*models, options=LayerOptions(**options))


def test_what_integer_operators_write_is_compared(models: tuple[Path, Path]) -> None:
    found = compared(models)
    names = [layer.name for layer in found.layers]
    # A dropped Relu lies in the codes of its convolution, which has no tensor of its own.
    tail = ["total", "mean", "flat", "y"]
    assert names == ["x", "stem_relu", "pooled", "branch_relu", *tail]
    assert all(15 < layer.sqnr_db < 60 for layer in found.layers)
    assert found.layer("stem_relu").inputs == ("x",)
    assert found.arithmetic == "native"
    assert [layer.name for layer in compared(models, native=True).layers] == names


def test_the_operator_that_was_spoilt_is_named(models: tuple[Path, Path]) -> None:
    spoilt = onnx.load(models[1])
    scale = next(t for t in spoilt.graph.initializer if t.name == "total_scale")
    smaller = onnx.numpy_helper.to_array(scale) / 20
    scale.CopyFrom(onnx.numpy_helper.from_array(smaller, scale.name))
    onnx.save(spoilt, models[1])
    found = compared(models)
    assert (found.first_bad, found.steepest) == ("total", "total")


def test_a_model_without_integer_operators_stays_as_it_is(models: tuple[Path, Path]) -> None:
    model = load(models[0])
    assert with_float_tensors(model, model) is model
