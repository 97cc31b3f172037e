import graphs
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import CHANNELS, Builder, feeds_of, model_of, table_of
from hypothesis import given
from hypothesis import strategies as st

from qbench.data.samples import Sample
from qbench.model.load import Model
from qbench.model.prepare import prepare
from qbench.placement.targets import place
from qbench.quantization.fallback import (
    Judge,
    decibels,
    find_culprits,
    nodes_to_free,
    relative_noise,
)
from qbench.quantization.numerics import QuantizationParameters, symmetric


def fragile() -> Model:
    return prepare(model_of(graphs.fragile()))


def samples(model: Model, count: int = 3) -> list[Sample]:
    return [Sample(str(seed), feeds_of(model, seed)) for seed in range(count)]


def parameters(model: Model, observed: tuple[str, ...]) -> dict[str, QuantizationParameters]:
    table = table_of(model)
    return {
        tensor: symmetric(*table.range_of(tensor, "minmax", symmetric=True)) for tensor in observed
    }


def test_the_culprit_is_found_and_the_harmless_are_cleared() -> None:
    model = fragile()
    plan = place(model, "tensorrt")
    judge = Judge(model.ir, samples(model))
    culprits = find_culprits(model.ir, plan, parameters(model, plan.observed), judge)
    assert list(culprits) == ["unlike"]
    assert culprits["unlike"] > 0.1
    assert nodes_to_free(model.ir, plan, "unlike") == {"depthwise"}


def test_on_cpu_the_writer_is_freed_with_the_reader() -> None:
    builder = Builder()
    relu = builder.node("Relu", "relu", builder.conv("first", builder.x))
    second = builder.node("Relu", "relu2", builder.conv("second", relu))
    model = prepare(model_of(builder.model(builder.conv("third", second))))
    plan = place(model, "cpu")
    assert nodes_to_free(model.ir, plan, "relu") == {"first", "second"}


def test_the_float_model_has_no_noise() -> None:
    model = fragile()
    assert Judge(model.ir, samples(model)).noise(model.ir) == pytest.approx(0, abs=1e-9)


def test_outputs_that_change_their_shape_are_not_judged() -> None:
    builder = Builder(("n", CHANNELS))
    where = builder.node("NonZero", "where", builder.node("Relu", "relu", builder.x))
    output = builder.node("Cast", "output", where, to=onnx.TensorProto.FLOAT)
    model = prepare(model_of(builder.model(output)))
    assert not Judge(model.ir, samples(model)).can_judge


def test_noise_of_scores_counts_beside_that_of_coordinates() -> None:
    random = np.random.default_rng(0)
    boxes = random.uniform(0, 320, (2, 1, 4, 500))
    scores = random.uniform(0, 1, (2, 1, 6, 500))
    reference = np.concatenate([boxes, scores], axis=2).astype(np.float32)
    shuffled = np.concatenate([boxes, random.permuted(scores, axis=3)], axis=2)
    assert relative_noise(reference, shuffled.astype(np.float32)) > 0.4
    assert relative_noise(reference, reference) == 0


@given(st.floats(0.001, 0.2), st.floats(0.01, 1000))
def test_noise_of_logits_is_error_over_variance(share: float, size: float) -> None:
    random = np.random.default_rng(0)
    reference = random.normal(0, size, (16, 1, 1000)).astype(np.float32)
    noise = random.normal(0, size * np.sqrt(share), reference.shape).astype(np.float32)
    assert relative_noise(reference, reference + noise) == pytest.approx(share, rel=0.1)


def test_a_constant_output_is_right_or_ruined() -> None:
    constant = np.ones((2, 3), np.float32)
    assert relative_noise(constant, constant) == 0
    assert relative_noise(constant, constant + 1) == 1


@pytest.mark.parametrize(("noise", "expected"), [(1.0, 0), (0.01, 20), (0.0, 120)])
def test_decibels(noise: float, expected: float) -> None:
    assert decibels(noise) == pytest.approx(expected)


def test_given_graph_is_left_alone() -> None:
    model = fragile()
    before = ir.to_proto(model.ir).SerializeToString()
    plan = place(model, "tensorrt")
    find_culprits(
        model.ir,
        plan,
        parameters(model, plan.observed),
        Judge(model.ir, samples(model)),
    )
    assert ir.to_proto(model.ir).SerializeToString() == before


def test_an_output_of_nan_is_ruined() -> None:
    reference = np.random.default_rng(0).normal(size=(2, 1, 10)).astype(np.float32)
    broken = reference.copy()
    broken[0, 0, 0] = np.nan
    assert relative_noise(reference, broken) == 1
