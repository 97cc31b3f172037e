from itertools import product

import graphs
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qbench.model.graph import constant, floating, integer
from qbench.model.passes.simplify_gemm import simplify_gemm

ROWS, INPUTS, OUTPUTS = 4, 8, 6
BIASES: list[tuple[int, ...] | None] = [
    None,
    (OUTPUTS,),
    (1, OUTPUTS),
    (1,),
    (1, 1),
    (),
    (ROWS, 1),
    (ROWS, OUTPUTS),
]
"""What C may be."""


def gemm(bias: tuple[int, ...] | None, is_computed: bool, **attributes: float) -> onnx.ModelProto:
    b = graphs.Builder((INPUTS, ROWS) if attributes.get("transA") else (ROWS, INPUTS))
    weight = b.weight("w", *((OUTPUTS, INPUTS) if attributes.get("transB") else (INPUTS, OUTPUTS)))
    inputs = [b.x, weight]
    if is_computed:
        inputs.append(b.input("c", bias or ()))
    elif bias is not None:
        inputs.append(b.weight("c", *bias) if bias else b.constant("c", np.float32(0.7)))
    return b.model(b.node("Gemm", "gemm", *inputs, **attributes))


def simplified(proto: onnx.ModelProto) -> tuple[ir.Model, int]:
    """Run the pass, check that the model computes the same, and return it with its changes."""
    model = graphs.model_of(proto)
    feeds = graphs.feeds_of(model)
    wanted = graphs.run(model.ir, feeds)["gemm"]
    count = simplify_gemm(model.ir)
    np.testing.assert_allclose(graphs.run(model.ir, feeds)["gemm"], wanted, rtol=1e-4, atol=1e-5)
    return model.ir, count


@pytest.mark.parametrize(
    "attributes",
    [
        {"alpha": a, "beta": b, "transA": t, "transB": 1 - t}
        for a, b, t in product((1.0, 0.5), (1.0, 3.0, 0.0), (0, 1))
    ],
)
@pytest.mark.parametrize("is_computed", [False, True])
@pytest.mark.parametrize("bias", BIASES)
def test_all_forms_become_one(
    bias: tuple[int, ...] | None, is_computed: bool, attributes: dict[str, float]
) -> None:
    model, _ = simplified(gemm(bias, is_computed, **attributes))
    node = next(node for node in model.graph if node.op_type == "Gemm")
    assert floating(node, "alpha", 1.0) == floating(node, "beta", 1.0) == 1.0
    assert not integer(node, "transA", 0)
    if len(node.inputs) > 2:
        vector = constant(node.inputs[2])
        assert vector is not None
        assert vector.shape == (OUTPUTS,)
    assert simplify_gemm(model) == 0


@pytest.mark.parametrize(
    ("bias", "is_computed", "added"),
    [((1, OUTPUTS), False, []), ((ROWS, 1), False, ["Add"]), ((OUTPUTS,), True, ["Add"])],
)
def test_only_what_no_vector_can_hold_is_added_behind(
    bias: tuple[int, ...], is_computed: bool, added: list[str]
) -> None:
    model, _ = simplified(gemm(bias, is_computed))
    assert [node.op_type for node in model.graph] == ["Gemm", *added]
    assert [value.name for value in model.graph.outputs] == ["gemm"]


@pytest.mark.parametrize("bias", [None, (OUTPUTS,)])
def test_a_simple_gemm_keeps_what_it_has(bias: tuple[int, ...] | None) -> None:
    model, count = simplified(gemm(bias, is_computed=False, transB=1, alpha=1.0))
    assert count == 0
    assert set(model.graph.initializers) == {"w", "c"} - ({"c"} if bias is None else set())


def test_a_shared_weight_is_scaled_for_the_gemm_that_scales_it() -> None:
    b = graphs.Builder((ROWS, INPUTS))
    weight = b.weight("w", INPUTS, INPUTS)
    first = b.node("Gemm", "first", b.x, weight, alpha=0.5)
    model, count = simplified(b.model(b.node("Gemm", "gemm", first, weight)))
    assert count == 1
    assert model.graph[1].inputs[1] is model.graph.initializers["w"]


def test_products_of_two_activations_stay() -> None:
    b = graphs.Builder((ROWS, ROWS))
    _, count = simplified(b.model(b.node("Gemm", "gemm", b.x, b.x, alpha=0.5, transA=1)))
    assert count == 0
