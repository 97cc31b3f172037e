from dataclasses import replace

import graphs
import numpy as np
import pytest
from graphs import CHANNELS, Builder, feeds_of, model_of

from qbench.calibration.statistics import TensorStatistics
from qbench.model.graph import names_in
from qbench.model.parts import with_outputs
from qbench.model.prepare import prepare
from qbench.placement.targets import place
from qbench.quantization.equalization import (
    equalize,
    equalized_name,
    factor_candidates,
    range_behind,
    readers_to_equalize,
)

SLOPE = np.float32([[[0.25]]])
FACTORS = np.geomspace(0.01, 1, CHANNELS).astype(np.float32)


def statistics(*sizes: float) -> TensorStatistics:
    """Of a tensor whose channels are uniform, with these largest magnitudes."""
    found = TensorStatistics()
    unit = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8)
    found.add(unit * np.float32(sizes).reshape(1, -1, 1, 1), 1)
    return found


def test_candidates_follow_peaks_and_root_mean_squares() -> None:
    peaks, half, *_ = factor_candidates(statistics(16, 25, 100))
    assert peaks == pytest.approx([0.16, 0.25, 1])
    assert half == pytest.approx([0.4, 0.5, 1])


def test_a_channel_that_was_nearly_always_zero_is_not_taken_for_one_that_stays_so() -> None:
    peaks, *_ = factor_candidates(statistics(0, 1, 100))
    assert peaks == pytest.approx([0.05, 0.05, 1])


def test_there_are_no_candidates_for_one_channel_or_for_zeros() -> None:
    assert factor_candidates(statistics(1)) == []
    assert factor_candidates(statistics(0, 0)) == []
    assert factor_candidates(TensorStatistics()) == []


def test_the_range_behind_the_peaks_is_that_of_the_largest_channel() -> None:
    seen = statistics(1, 4, 100)
    assert range_behind(seen, factor_candidates(seen)[0]) == pytest.approx((-100, 100))


def silu(group: int) -> Builder:
    b = Builder()
    first = b.conv("first", b.x)
    gated = b.node("Mul", "gated", first, b.node("Sigmoid", "gate", first))
    b.conv("second", gated, group=group)
    return b


def gemm(transposed: int) -> Builder:
    b = Builder((2, CHANNELS))
    hidden = b.node("Tanh", "gated", b.x)
    shape = (5, CHANNELS) if transposed else (CHANNELS, 5)
    b.node("Gemm", "second", hidden, b.weight("w", *shape), transB=transposed)
    return b


def spelled_out_norm() -> Builder:
    b = Builder((2, 3, CHANNELS))
    gamma = b.constant("gamma", np.linspace(0.5, 2, CHANNELS, dtype=np.float32))
    beta = b.constant("beta", np.linspace(-1, 1, CHANNELS, dtype=np.float32))
    gated = b.node("Add", "gated", b.node("Mul", "scaled", b.x, gamma), beta)
    b.node("MatMul", "second", gated, b.weight("w", CHANNELS, 4))
    return b


def layer_norm() -> Builder:
    b = Builder((2, 3, CHANNELS))
    gamma = b.constant("gamma", np.linspace(0.5, 2, CHANNELS, dtype=np.float32))
    beta = b.constant("beta", np.linspace(-1, 1, CHANNELS, dtype=np.float32))
    gated = b.node("LayerNormalization", "gated", b.x, gamma, beta)
    b.node("MatMul", "second", gated, b.weight("w", CHANNELS, 4))
    return b


def behind_relu() -> Builder:
    b = Builder()
    b.conv("second", b.node("Relu", "gated", b.conv("first", b.x)))
    return b


def batchnorm() -> Builder:
    b = Builder()
    b.conv("second", b.node("PRelu", "gated", b.batchnorm("norm", b.x), b.constant("slope", SLOPE)))
    return b


def conv_read_along_rows() -> Builder:
    """As many columns as channels: the factors of columns fit the convolution's weights."""
    b = Builder((2, CHANNELS, 3, CHANNELS))
    b.node("MatMul", "second", b.conv("gated", b.x), b.weight("w", CHANNELS, 4))
    return b


def affine_with_one_number() -> Builder:
    b = Builder((2, 3, CHANNELS))
    gamma = b.constant("gamma", np.linspace(0.5, 2, CHANNELS, dtype=np.float32))
    shift = b.constant("shift", np.float32([0.5]))
    gated = b.node("Add", "gated", b.node("Mul", "scaled", b.x, gamma), shift)
    b.node("MatMul", "second", gated, b.weight("w", CHANNELS, 4))
    return b


CASES = {
    "depthwise": (silu(CHANNELS), True),
    "grouped": (silu(2), True),
    "dense": (silu(1), True),
    "gemm": (gemm(0), True),
    "gemm transposed": (gemm(1), True),
    "norm spelled out": (spelled_out_norm(), False),
    "LayerNormalization": (layer_norm(), False),
    "conv and Relu": (behind_relu(), False),
    "BatchNormalization and PRelu": (batchnorm(), False),
    "conv read along rows": (conv_read_along_rows(), True),
    "affine with one number": (affine_with_one_number(), True),
}


@pytest.mark.parametrize("case", CASES)
def test_the_same_is_computed_and_a_mul_is_added_only_where_nothing_takes_the_factors(
    case: str,
) -> None:
    builder, needs_mul = CASES[case]
    model = prepare(model_of(builder.model("second")))
    changed = equalize(model.ir, {"gated": FACTORS}, ["second"])
    assert len(changed.graph) - len(model.ir.graph) == int(needs_mul)
    feeds = feeds_of(model)
    expected = graphs.run(with_outputs(model.ir, ["second", "gated"]), feeds)
    found = graphs.run(with_outputs(changed, ["second", equalized_name("gated")]), feeds)
    assert found["second"] == pytest.approx(expected["second"], rel=1e-3, abs=1e-4)
    is_image = expected["gated"].ndim == 4 and builder.nodes[-1].op_type == "Conv"
    by = FACTORS.reshape(-1, 1, 1) if is_image else FACTORS
    divided = found[equalized_name("gated")]
    assert divided * by == pytest.approx(expected["gated"], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(
    ("builder", "before"), [(behind_relu(), "first"), (spelled_out_norm(), "scaled")]
)
def test_what_the_division_is_folded_through_is_renamed_too(builder: Builder, before: str) -> None:
    model = prepare(model_of(builder.model("second")))
    changed = equalize(model.ir, {"gated": FACTORS}, ["second"])
    names = {value.name for node in changed.graph for value in node.outputs}
    assert equalized_name(before) in names
    assert before not in names


def test_what_the_division_is_folded_through_gets_a_name_of_its_own() -> None:
    proto = graphs.renamed(behind_relu().model("second"), "second", equalized_name("first"))
    proto.graph.output[0].name = equalized_name("first")
    model = prepare(model_of(proto))
    changed = equalize(model.ir, {"gated": FACTORS}, [equalized_name("first")])
    feeds = feeds_of(model)
    (expected,), (found,) = (graphs.run(one, feeds).values() for one in (model.ir, changed))
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_no_tensor_is_equalized_whose_name_would_be_that_of_another() -> None:
    """A plan and a search know tensors by their names alone."""
    for name, readers in (("free", ["second"]), (equalized_name("gated"), [])):
        model = prepare(model_of(graphs.renamed(behind_relu().model("second"), "first", name)))
        (value,) = (v for node in model.ir.graph for v in node.outputs if v.name == "gated")
        taken = names_in(model.ir.graph)
        assert [node.name for node in readers_to_equalize(value, ["second"], taken)] == readers


def test_other_readers_keep_the_tensor_as_it_is() -> None:
    b = Builder()
    gated = b.node("Relu", "gated", b.conv("first", b.x))
    second = b.conv("second", gated)
    model = prepare(model_of(b.model(b.node("Add", "sum", second, gated))))
    changed = equalize(model.ir, {"gated": FACTORS}, ["first", "second"])
    feeds = feeds_of(model)
    expected = graphs.run(model.ir, feeds)["sum"]
    assert graphs.run(changed, feeds)["sum"] == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert [node.op_type for node in changed.graph].count("Mul") == 1


def test_two_activations_multiplied_cannot_take_factors() -> None:
    b = Builder((2, 4, 4))
    b.node("MatMul", "second", b.node("Tanh", "gated", b.x), b.x)
    model = prepare(model_of(b.model("second")))
    (value,) = (v for node in model.ir.graph for v in node.outputs if v.name == "gated")
    assert readers_to_equalize(value, ["second"], ()) == []


def test_a_convolution_and_a_matmul_share_no_factors() -> None:
    """Here C = W, so that factors along C would have fitted what the MatMul weighs along W."""
    b = Builder((1, CHANNELS, 4, CHANNELS))
    gated = b.node("Tanh", "gated", b.x)
    b.conv("first", gated)
    b.node("MatMul", "second", gated, b.weight("w", CHANNELS, 4))
    model = prepare(model_of(b.model("first", "second")))
    (value,) = (v for node in model.ir.graph for v in node.outputs if v.name == "gated")
    assert readers_to_equalize(value, ["first", "second"], ()) == []


def test_a_plan_of_the_equalized_graph_quantizes_the_divided_tensor() -> None:
    builder = silu(CHANNELS)
    builder.conv("third", "second")
    model = prepare(model_of(builder.model("third")))
    changed = replace(model, ir=equalize(model.ir, {"gated": FACTORS}, ["second"]))
    for target in ("tensorrt", "cpu"):
        plan = place(changed, target)
        assert equalized_name("gated") in plan.observed
        assert "gated" not in plan.observed
