import graphs
import numpy as np
import onnx_ir as ir
import pytest

from qbench.calibration.table import CalibrationTable
from qbench.model.load import Model
from qbench.model.prepare import prepare
from qbench.placement.targets import place
from qbench.quantization import numerics
from qbench.quantization.corrections import Means, Shifts, bias_shifts, shift
from qbench.quantization.quantize import quantize
from qbench.quantization.weights import WeightCoding


def means_in(table: CalibrationTable) -> Means:
    return lambda tensor: table.statistics[tensor].channel_means


def shifts_of(prepared: Model, means: Means) -> Shifts:
    graph, plan = prepared.ir.graph, place(prepared, "tensorrt")
    return bias_shifts(graph, plan, means, WeightCoding().encode_all(graph, plan.weights))


def shifted_mean(proto_model: Model) -> tuple[float, float]:
    """Largest mean error of an output channel with the correction, and without it."""
    table = graphs.table_of(proto_model, samples=16)
    prepared = prepare(proto_model)
    result = quantize(proto_model, target="tensorrt", table=table)
    shifts = shifts_of(prepared, means_in(table))
    (output,) = (spec.name for spec in proto_model.outputs)
    errors = []
    for seed in range(16):
        feeds = graphs.feeds_of(proto_model, seed)
        errors.append(
            graphs.run(result.ir, feeds)[output] - graphs.run(proto_model.ir, feeds)[output]
        )
    mean = np.concatenate(errors).mean(axis=(0, 2, 3))
    return float(np.abs(mean).max()), float(np.abs(mean - shifts["head"]).max())


def biased_conv(group: int) -> Model:
    """A convolution whose inputs have means far from zero, so that rounding shifts its output."""
    b = graphs.Builder()
    means = b.constant("means", np.arange(1, 9, dtype=np.float32).reshape(1, 8, 1, 1))
    return graphs.model_of(
        b.model(b.conv("head", b.node("Add", "moved", b.x, means), group=group, pads=[0] * 4))
    )


@pytest.mark.parametrize(
    ("op_type", "shape", "attributes"),
    [
        ("Conv", (12, 4, 3, 3), {"group": 2}),
        ("Gemm", (12, 8), {"transB": 1}),
        ("Gemm", (8, 12), {}),
    ],
)
def test_weights_are_looked_at_in_blocks(
    op_type: str,
    shape: tuple[int, ...],
    attributes: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(0)
    array, error = random.standard_normal(shape), random.standard_normal(shape)
    node = ir.node(op_type, [ir.val("x"), ir.val("w")], attributes)
    whole = shift(node, array, (array + error).__getitem__, np.arange(8.0))
    monkeypatch.setattr(numerics, "_BLOCK_VALUES", 1)
    assert shift(node, array, (array + error).__getitem__, np.arange(8.0)) == pytest.approx(whole)
    assert np.abs(whole).min() > 0


@pytest.mark.parametrize("group", [1, 2, 8])
def test_the_mean_of_the_output_comes_back(group: int) -> None:
    corrected, uncorrected = shifted_mean(biased_conv(group))
    assert corrected < 0.35 * uncorrected


@pytest.mark.parametrize("attributes", [{}, {"transB": 1}, {"alpha": 0.1}, {"beta": 4.0}])
def test_gemm(attributes: dict[str, float]) -> None:
    b = graphs.Builder((1, 16))
    weight = b.weight("w", *((5, 16) if "transB" in attributes else (16, 5)))
    moved = b.node("Add", "moved", b.x, b.constant("three", np.float32([3])))
    bias = b.constant("bias", np.ones(5, np.float32))
    model = graphs.model_of(b.model(b.node("Gemm", "head", moved, weight, bias, **attributes)))
    table = graphs.table_of(model)
    prepared = prepare(model)
    shifts = shifts_of(prepared, means_in(table))
    result = quantize(model, target="tensorrt", table=table)
    rows = np.concatenate([graphs.feeds_of(model, seed)["x"] for seed in range(8)])
    errors = [
        graphs.run(result.ir, {"x": row[None]})["head"]
        - graphs.run(model.ir, {"x": row[None]})["head"]
        for row in rows
    ]
    mean = np.concatenate(errors).mean(axis=0)
    assert shifts["head"].shape == (5,)
    assert np.linalg.norm(mean) < 0.5 * np.linalg.norm(mean - shifts["head"])


def test_exact_weights_need_no_shift() -> None:
    b = graphs.Builder()
    weight = b.constant(
        "w", np.random.default_rng(0).choice([-1.0, 0, 1], (4, 8, 3, 3)).astype("f")
    )
    model = graphs.model_of(b.model(b.node("Conv", "head", b.x, weight)))
    prepared = prepare(model)
    means = means_in(graphs.table_of(model))
    shifts = shifts_of(prepared, means)
    assert shifts["head"] == pytest.approx(np.zeros(4), abs=1e-6)


def test_nodes_whose_input_means_are_unknown_are_left_alone() -> None:
    prepared = prepare(graphs.model_of(graphs.residual()))
    assert shifts_of(prepared, lambda _: None) == {}
