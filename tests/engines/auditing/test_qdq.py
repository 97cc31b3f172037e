"""What stands around Q/DQ nodes, and what it tells of those that nothing takes in."""

import onnx_ir as ir
import pytest
import qdq

from qbench.engines.auditing.qdq import Neighbours, likely_reason, neighbours_of, node_name

OPS = {"conv": "Conv", "relu": "Relu", "add": "Add"}


def test_node_name() -> None:
    assert node_name("conv", "y") == "conv"
    assert node_name("", "y") == "node_of_y"
    assert node_name(None, "y") == "node_of_y"


def test_neighbours_past_other_pairs() -> None:
    b = qdq.QdqBuilder()
    first = b.node("Relu", "relu", b.qdq(b.x, "x"))
    b.model(b.qconv("conv", b.qdq(first, "r")), b.qdq(first, "out"))
    found = neighbours_of(ir.from_proto(b.model(b.qconv("last", first))).graph)
    assert found["x.q"] == found["x.dq"] == Neighbours(None, False, ("relu",), False)
    assert found["r.q"] == found["r.dq"] == Neighbours("relu", False, ("conv",), False)
    weights = [around for around in found.values() if around.is_constant]
    assert {around.readers for around in weights} >= {("conv",)}


@pytest.mark.parametrize(
    ("around", "reason"),
    [
        (None, "unknown"),
        (
            Neighbours("relu", False, ("add", "conv"), True),
            "it feeds conv (Conv), which runs in Half",
        ),
        (
            Neighbours(None, True, ("conv",), False),
            "its weights are for conv (Conv), which runs in Half",
        ),
        (Neighbours("relu", False, ("add",), True), "its values are an output of the model"),
        (
            Neighbours(None, False, ("add",), False),
            "it works on an input of the model, which no layer makes",
        ),
        (
            Neighbours("relu", False, ("add",), False),
            "neither relu (Relu) nor what reads it takes it in",
        ),
        (Neighbours("gone", False, (), False), "neither gone nor what reads it takes it in"),
    ],
)
def test_reasons(around: Neighbours | None, reason: str) -> None:
    assert likely_reason(around, OPS, {"conv": "Half"}) == reason
