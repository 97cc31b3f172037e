from pathlib import Path

import graphs
import msgspec
import numpy as np
import onnx
import pytest

from qbench.model.load import load
from qbench.quantization.inspect import SpecDocument, TargetInspection, inspect


def test_a_classifier(tmp_path: Path) -> None:
    onnx.save(graphs.classifier(), tmp_path / "m.onnx")
    found = inspect(load(tmp_path / "m.onnx"))
    assert found.inputs == (SpecDocument("x", "float32", graphs.IMAGE),)
    assert found.opset == 17
    assert found.ops == dict.fromkeys(
        ("Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm", "Softmax"), 1
    )
    assert found.parameters == 8 * 8 * 9 + 8 + 10 * 8 + 10
    assert found.parameter_bytes == 4 * found.parameters
    assert found.macs == 16 * 16 * 8 * 9 * 8 + 10 * 8
    assert found.notes == ()
    assert msgspec.json.decode(msgspec.json.encode(found))["schema_version"] == 1


def test_targets_tell_what_stays_float_and_why() -> None:
    cpu, tensorrt = inspect(graphs.model_of(graphs.conv_transpose())).targets
    assert (cpu.target, cpu.quantized) == ("cpu", 1)
    assert [(n.name, n.op_type) for n in cpu.float_nodes] == [
        ("up", "ConvTranspose"),
        ("head", "Conv"),
    ]
    stem, up, head = 8 * 8 * 9 * 64, 8 * 8 * 4 * 64, 16 * 16 * 9 * 64
    assert cpu.int8_mac_fraction == pytest.approx(stem / (stem + up + head))
    assert tensorrt.int8_mac_fraction == pytest.approx((stem + head) / (stem + up + head))


def test_branches_are_noted() -> None:
    notes = inspect(graphs.model_of(graphs.with_if())).notes
    assert notes == ("2 nodes inside If, Loop or Scan stay float",)


def test_an_open_image_size() -> None:
    b = graphs.Builder(("N", graphs.CHANNELS, "H", "W"))
    model = graphs.model_of(b.model(b.conv("head", b.conv("stem", b.x))))
    assert inspect(model).macs is None
    assert inspect(model).targets[1].int8_mac_fraction is None
    assert inspect(model, (32, 32)).macs == 2 * 32 * 32 * 8 * 9 * 8


def test_a_quantized_model_is_described_all_the_same() -> None:
    b = graphs.Builder()
    scale = b.constant("scale", np.float32(0.1))
    pair = b.node("DequantizeLinear", "dq", b.node("QuantizeLinear", "q", b.x, scale), scale)
    found = inspect(graphs.model_of(b.model(b.conv("head", pair)), Path("int8.onnx")))
    problem = "int8.onnx is quantized already; give the float model"
    assert found.targets == tuple(
        TargetInspection(target=target, problem=problem) for target in ("cpu", "tensorrt")
    )
