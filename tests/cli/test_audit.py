"""`qbench audit`, and what `qbench inspect` shows of quantized models."""

from unittest.mock import Mock

import numpy as np
import pytest
import qdq

from qbench.engines.auditing import model as audit_model
from qbench.engines.auditing.engine import NodeFinding
from qbench.engines.auditing.model import ModelAudit

from .conftest import Qbench, SaveModel, classifier, refused

pytestmark = pytest.mark.usefixtures("project")


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qbench.quantization.linting.lint.adds_in_32_bits", lambda _: True)


@pytest.mark.usefixtures("narrow")
def test_a_sound_model(qbench: Qbench, save: SaveModel) -> None:
    path = save(qdq.conv())
    outcome = qbench("audit", path, "--require-int8", "95%")
    assert (outcome.code, outcome.err) == (0, "")
    first, *others = outcome.out.splitlines()
    assert first.startswith("audited     other.onnx for cpu by ONNX Runtime ")
    assert others == [
        "rules       all kept",
        "Conv        1 Int8",
        "INT8        100.0 % of the compute nodes",
    ]


def test_json_names_findings_and_kernels(qbench: Qbench, save: SaveModel) -> None:
    b = qdq.QdqBuilder()
    path = save(b.model(b.qconv("conv", b.qdq(b.x, "x"))))
    document = qbench("audit", path, "--target", "cpu", "--json").json
    assert document["schema_version"] == 1
    assert (document["target"], document["int8_fraction"]) == ("cpu", 0.0)
    assert document["nodes_by_dtype"] == {"Conv": {"Float": 1}}
    reason = "its float output is an output of the model"
    assert document["not_int8"] == [
        {"node": "conv", "op_type": "Conv", "dtype": "Float", "reason": reason}
    ]
    assert document["findings"][0] == {
        "rule": "float-output",
        "severity": "warning",
        "node": "conv",
        "tensor": "conv",
        "reason": reason,
        "fix": "end it in one Q/DQ pair that all readers share",
    }


def test_too_little_in_int8(qbench: Qbench, save: SaveModel) -> None:
    b = qdq.QdqBuilder()
    path = save(b.model(b.qconv("conv", b.qdq(b.x, "x"))))
    outcome = qbench("audit", path, "--require-int8", "50%")
    assert outcome.code == 3
    assert "Float     conv (Conv): its float output is an output of the model" in outcome.out
    assert outcome.err == (
        "qbench: error: 0.0 % of the compute nodes of other.onnx on cpu run in INT8, "
        "fewer than the 50.0 % required; not in INT8: conv\n"
    )
    assert max(map(len, outcome.out.splitlines())) <= 80


def test_an_error_of_the_rules(qbench: Qbench, save: SaveModel) -> None:
    outcome = qbench("audit", save(qdq.conv(axis=1)))
    assert outcome.code == 1
    assert "error       weight-axis: conv: its weights have scales along axis 1" in outcome.out
    assert "  fix       let the scales follow the output channels" in outcome.out
    assert outcome.err.count("\n") == 1


def test_the_document_is_complete_where_the_target_refuses(qbench: Qbench, save: SaveModel) -> None:
    model = qdq.conv()
    next(node for node in model.graph.node if node.op_type == "Conv").op_type = "Konv"
    outcome = qbench("audit", save(model), "--json")
    assert outcome.code == 1
    assert outcome.json["refusal"].startswith("ONNX Runtime refuses the model")


def test_rules_that_are_broken_often_take_one_line(qbench: Qbench, save: SaveModel) -> None:
    b = qdq.QdqBuilder()
    x = b.qdq(b.x, "x")
    path = save(b.model(*(b.qconv(f"conv{i}", x) for i in range(20))))
    text = " ".join(qbench("audit", path, "--target", "cpu").out.split())
    assert "warning float-output: conv0: its float output is an output of the model" in text
    assert "(and 19 more)" in text
    alike = "Float conv0, conv1, conv2 and 17 more (Conv): its float output is an output of the"
    assert alike in text
    assert text.count("(Conv)") == 1


def test_a_float_model(qbench: Qbench, save: SaveModel) -> None:
    message = refused(qbench("audit", save(classifier())))
    assert "other.onnx is not quantized, so there is nothing to audit" in message


@pytest.mark.parametrize("share", ["0.95", "95", "101%", "-1%", "many%", "%"])
def test_shares_are_percent(share: str, qbench: Qbench, save: SaveModel) -> None:
    message = refused(qbench("audit", save(qdq.conv()), f"--require-int8={share}"), code=2)
    assert f"{share!r} is no share; write percent, as in 95%" in message


def test_the_size_of_images_is_passed_on(
    qbench: Qbench, save: SaveModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Mock(return_value=ModelAudit(model="m", sha256="", target="tensorrt", runtime="RTX"))
    monkeypatch.setattr(audit_model, "audit_model", asked)
    qbench("audit", save(qdq.conv()), "--target", "tensorrt", "--size", "32x48")
    assert asked.call_args.args[1:] == ("tensorrt", (), (32, 48))


def test_inspect_shows_the_encodings(qbench: Qbench, save: SaveModel) -> None:
    path = save(qdq.conv(np.int8(0)))
    text = qbench("inspect", path).out
    assert "conv.w  weight      INT8  0.01 axis 0  0" in text
    assert "x       activation  INT8  0.05         0" in text
    assert "cannot quantize" not in text
    encodings = qbench("inspect", path, "--json").json["encodings"]
    assert [e["tensor"] for e in encodings] == ["x", "conv.w", "conv"]


def test_inspect_shows_a_dozen_encodings(qbench: Qbench, save: SaveModel) -> None:
    b = qdq.QdqBuilder()
    for i in range(14):
        b.x = b.qdq(b.node("Relu", f"a_rather_long_name_of_a_tensor_{i}", b.x), f"x{i}", 0.1 + i)
    path = save(b.model(b.x))
    text = qbench("inspect", path).out
    assert text.endswith("2 more; --json lists them\n")
    assert max(map(len, text.splitlines())) <= 80
    assert len(qbench("inspect", path, "--json").json["encodings"]) == 14


def test_pairs_that_nothing_takes_in(
    qbench: Qbench, save: SaveModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = tuple(NodeFinding(f"q{n}", "QuantizeLinear", "Float", "why") for n in range(14))
    found = ModelAudit(model="m", sha256="", target="tensorrt", runtime="RTX", own_qdq=nodes)
    monkeypatch.setattr(audit_model, "audit_model", lambda *_: found)
    text = qbench("audit", save(qdq.conv(np.int8(0))), "--target", "tensorrt").out
    assert text.count("by itself") == 12
    assert text.endswith("  by itself q11: why\n            2 more; --json lists them\n")
