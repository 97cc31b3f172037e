"""Files of every precision, built by TensorRT for RTX itself, for GPUs that know their types."""

from pathlib import Path

import graphs
import onnx
import pytest

from qbench.engines.build import EngineOptions, build_engine
from qbench.engines.compiling.protocol import BuildOptions
from qbench.errors import EngineError
from qbench.model.load import Model, load
from qbench.quantization.int8 import Int8Options
from qbench.quantization.precisions.weight_only import WeightOptions

pytest.importorskip("tensorrt_rtx")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.chdir(tmp_path)
    onnx.save(graphs.encoder(), "m.onnx")
    return load("m.onnx")


@pytest.mark.parametrize(
    ("precision", "dtype", "first_target"),
    [
        ("fp16", "Half", "sm80"),
        ("bf16", "BFloat16", "sm80"),
        ("fp8", "FP8", "sm89"),
    ],
)
def test_matrix_products_run_in_the_precision(
    precision: str, dtype: str, first_target: str, model: Model
) -> None:
    engine = build_engine(model, precision=precision, table=graphs.table_of(model))
    assert engine.audit is not None
    counts = engine.audit.nodes_by_dtype["MatMul"]
    assert set(counts) - {"unknown"} == {dtype}
    assert counts[dtype] > counts.get("unknown", 0)
    assert engine.manifest.targets[0] == first_target


def test_convolutions_run_in_fp8(tmp_path: Path) -> None:
    b = graphs.Builder((1, 16, 8, 8))
    hidden = b.node("Relu", "relu", b.conv("first", b.x, cin=16, cout=32))
    onnx.save(b.model(b.conv("last", hidden, cin=32, cout=16)), tmp_path / "m.onnx")
    model = load(tmp_path / "m.onnx")
    options = EngineOptions(folder=tmp_path, quantization=Int8Options())
    engine = build_engine(model, precision="fp8", table=graphs.table_of(model), options=options)
    assert engine.audit is not None
    assert engine.audit.nodes_by_dtype["Conv"] == {"FP8": 2}


@pytest.mark.parametrize("block", [32, 128])
def test_int4_weights_stay_int4_in_the_engine(block: int, tmp_path: Path) -> None:
    b = graphs.Builder((4, 128))
    onnx.save(b.model(b.node("MatMul", "y", b.x, b.weight("w", 128, 256))), tmp_path / "m.onnx")
    options = EngineOptions(folder=tmp_path, quantization=WeightOptions(block))
    engine = build_engine(tmp_path / "m.onnx", precision="int4", options=options)
    assert engine.audit is not None
    assert engine.audit.own_qdq == ()  # no layer dequantizes them ahead of the product
    assert engine.manifest.size_bytes < 128 * 256 * 2  # with FP16 weights it would be larger


def test_an_older_gpu_is_what_tensorrt_would_refuse(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the check before the build says no more than the builder would."""
    monkeypatch.setattr("qbench.engines.build.check_targets", lambda *_: None)
    options = EngineOptions(build=BuildOptions(target_gpus=("sm86",)))
    with pytest.raises(EngineError, match="HW-specific datatypes: fp8_e4m3"):
        build_engine(model, precision="fp8", table=graphs.table_of(model), options=options)
