"""`qbench inspect --target`: what stands against a target, before anything is built."""

from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest
import qdq

from .conftest import Qbench, SaveModel, refused


def with_unique() -> onnx.ModelProto:
    """A classifier that ends in the sorted values of its output, which TensorRT cannot make."""
    b = graphs.Builder()
    return b.model(b.node("Unique", "distinct", b.conv("head", b.conv("stem", b.x))))


@pytest.mark.usefixtures("project")
def test_errors_for_tensorrt(qbench: Qbench, save: SaveModel) -> None:
    path = save(with_unique())
    outcome = qbench("inspect", path, "--target", "tensorrt", "--backend", "rtx")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.endswith(
        "checked for tensorrt, judged as tensorrt_rtx\n"
        "error       unknown-operator: distinct: TensorRT's parser does not know Unique\n"
        "  fix       export the model without it, or end the model in front of it\n"
    )
    assert "\ncpu " not in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80
    (finding,) = qbench("inspect", path, "--target", "tensorrt", "--json").json["findings"]
    assert finding == {
        "rule": "unknown-operator",
        "severity": "error",
        "node": "distinct",
        "tensor": "",
        "reason": "TensorRT's parser does not know Unique",
        "fix": "export the model without it, or end the model in front of it",
    }


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("ir_version", "domain", "opset", "told"),
    [
        (8, "", 17, None),
        (99, "", 17, "max supported IR version: "),
        (10, "", 99, "official support for domain ai.onnx is till opset "),
        (10, "ai.onnx.ml", 99, "official support for domain ai.onnx.ml is till opset "),
        (10, "org.example", 99, None),
    ],
)
def test_what_onnx_runtime_is_too_old_for_is_told(
    ir_version: int, domain: str, opset: int, told: str | None, qbench: Qbench, save: SaveModel
) -> None:
    proto = with_unique()
    proto.ir_version = ir_version
    proto.opset_import[0].version = 17 if domain else opset
    if domain:
        proto.opset_import.append(onnx.helper.make_opsetid(domain, opset))
    path = save(proto)
    document = qbench("inspect", path, "--json").json
    assert [note for note in document["notes"] if told and told in note] == document["notes"]
    assert len(document["notes"]) == (told is not None)
    text = qbench("inspect", path).out
    assert ("ONNX Runtime is too old for the model (" in text) == (told is not None)
    assert "\ncpu  " in text


@pytest.mark.usefixtures("project")
def test_zero_points_are_shown_to_the_last_digit(qbench: Qbench, save: SaveModel) -> None:
    name = "/a/block/whose/output/has/a/long/name"
    b = qdq.QdqBuilder(opset=21)
    y = b.qdq(b.qconv(name, b.qdq(b.x, "x")), "y", 0.05, np.uint16(32639))
    (row,) = (x for x in qbench("inspect", save(b.model(y))).out.splitlines() if "UINT16" in x)
    assert row.split() == [name, "activation", "UINT16", "0.05", "32639"]


@pytest.mark.usefixtures("project")
def test_the_other_tensorrt_may_have_a_plugin(qbench: Qbench, save: SaveModel) -> None:
    options = ("--target", "tensorrt", "--backend", "tensorrt", "--json")
    (finding,) = qbench("inspect", save(with_unique()), *options).json["findings"]
    assert finding["severity"] == "warning"


@pytest.mark.usefixtures("project")
def test_a_build_is_refused_with_the_same_words(qbench: Qbench, save: SaveModel) -> None:
    pytest.importorskip("tensorrt_rtx")
    text = refused(qbench("build-trt", save(with_unique()), "--fp32", "--backend", "rtx"))
    assert "'distinct': TensorRT's parser does not know Unique; export the model without" in text


@pytest.mark.usefixtures("project")
def test_shapes_of_dynamic_inputs(qbench: Qbench, save: SaveModel) -> None:
    b = graphs.Builder(("N", graphs.CHANNELS, "H", "W"))
    path = save(b.model(b.conv("head", b.conv("stem", b.x))))
    ask = ("inspect", path, "--target", "tensorrt")
    text = qbench(*ask).out
    assert "error       shape: x: input 'x' is dynamic (Nx8xHxW) and of unknown size" in text
    assert "  fix       give --shapes x=1x8x224x224" in text
    assert "rules       all kept" in qbench(*ask, "--shapes", "x=1x8x16x16").out
    wrong = qbench(*ask, "--shapes", "x=4x8x16x16/2x8x16x16/8x8x16x16").out
    assert "dimension 0 of input 'x' is 4/2/8" in wrong
    assert "warning     shape: x: input 'x' is dynamic; built for 1x8x32x32" in (
        qbench(*ask, "--size", "32").out
    )
    message = refused(qbench(*ask, "--shapes", "x=big"), 2)
    assert "malformed shape 'x=big'; write NAME=1x3x640x640" in message


@pytest.mark.usefixtures("project")
def test_rules_of_the_cpu(qbench: Qbench, save: SaveModel) -> None:
    b = graphs.Builder()
    b.constant("scale", np.float32(0))
    b.constant("zero", np.int8(0))
    codes = b.node("QuantizeLinear", "codes", b.x, "scale", "zero")
    path = save(b.model(b.conv("head", b.node("DequantizeLinear", "back", codes, "scale", "zero"))))
    document = qbench("inspect", path, "--target", "cpu", "--json").json
    assert [target["target"] for target in document["targets"]] == ["cpu"]
    assert {finding["rule"] for finding in document["findings"]} == {"impossible-scale"}
    assert "checked for cpu\n" in qbench("inspect", path, "--target", "cpu").out


@pytest.mark.usefixtures("project")
def test_without_a_target_nothing_is_checked(qbench: Qbench, save: SaveModel) -> None:
    path = save(with_unique())
    assert "checked for" not in qbench("inspect", path).out
    document = qbench("inspect", path, "--json").json
    assert document["findings"] == []
    assert [target["target"] for target in document["targets"]] == ["cpu", "tensorrt"]


@pytest.mark.usefixtures("project")
def test_an_unknown_target(qbench: Qbench) -> None:
    assert "'gpu' is not one of 'cpu', 'tensorrt'" in refused(
        qbench("inspect", "--target", "gpu"), 2
    )


@pytest.mark.usefixtures("project")
def test_a_share_is_of_the_macs_that_are_known(qbench: Qbench, save: SaveModel) -> None:
    b = graphs.Builder((1, 3, 16, 16))
    stem = b.conv("stem", b.x, cin=3)
    product = b.node("Einsum", "product", stem, stem, equation="nchw,nchw->nc")
    path = save(b.model(product, b.conv("head", stem)))
    text = qbench("inspect", path).out
    assert "MACs        202.75 k; not known of product (Einsum)\n" in text
    assert "in INT8, 100.0 % of known MACs\n" in text
    assert qbench("calibrate", path, "--data", "imgs", "--recipe", "raw").code == 0
    text = qbench("quantize", path, "--target", "tensorrt", "--effort", "fast").out
    assert text.startswith("100.0 % of known multiply-accumulates in INT8\n")
    assert "\n  not known of product (Einsum)\n" in text


def test_a_model_without_products_has_no_macs(
    qbench: Qbench, save: SaveModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    b = graphs.Builder((1, 4))
    assert "MACs        0\n" in qbench("inspect", save(b.model(b.node("Relu", "relu", b.x)))).out


def test_what_stays_open_is_named(
    qbench: Qbench, save: SaveModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for channels, what in (
        (graphs.CHANNELS, "give --size"),
        ("C", "the channels of an input are dynamic"),
    ):
        b = graphs.Builder(("N", channels, "H", "W"))
        text = qbench("inspect", save(b.model(b.conv("head", b.conv("stem", b.x))))).out
        assert f"MACs        unknown; {what}\n" in text
