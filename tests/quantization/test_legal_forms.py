"""Layers in forms that ONNX allows and exporters seldom write run and are right, quantized."""

from functools import cache, partial
from types import MappingProxyType

import graphs
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import Builder

from qbench.calibration.table import CalibrationTable
from qbench.data.samples import Sample
from qbench.errors import DataError
from qbench.evaluation.similarity import sqnr_db
from qbench.model.load import Model
from qbench.quantization.int8 import Int8Options, Quantizer
from qbench.quantization.quantize import quantize
from qbench.quantization.searching import search
from qbench.quantization.searching.noise import sqnr_from_noise
from qbench.quantization.searching.probe import Probe

ROWS, INPUTS, OUTPUTS = 4, 8, 6
LEAST_DB = 28
"""Of the output against the float model's; wrong scales or biases leave less."""

LEAST_INT4_DB = 13


def away_from_zero(b: Builder) -> str:
    """The input plus 3: what reads it has a mean error where its rounded weights have one."""
    return b.node("Add", "moved", b.x, b.constant("three", np.float32(3)))


def gemm(bias: tuple[int, ...] | None = None, rows: int = ROWS, **attributes: float) -> Builder:
    b = Builder((INPUTS, rows) if attributes.get("transA") else (rows, INPUTS))
    inputs = [away_from_zero(b), b.weight("w", INPUTS, OUTPUTS)]
    if bias is not None:
        values = b.random.normal(0, 2, bias).astype(np.float32)
        inputs.append(b.constant("c", values))
    b.node("Gemm", "layer", *inputs, **attributes)
    return b


def gemm_and_residual(**attributes: float) -> Builder:
    """A Gemm that adds another tensor."""
    b = Builder((ROWS, INPUTS))
    moved = away_from_zero(b)
    residual = b.node("Relu", "residual", b.x)
    b.node("Gemm", "layer", moved, b.weight("w", INPUTS, INPUTS), residual, **attributes)
    return b


def matmul(shape: tuple[int, ...], has_bias: bool = False) -> Builder:
    b = Builder((2, ROWS, INPUTS))
    product = b.node("MatMul", "layer", away_from_zero(b), b.weight("w", *shape))
    if has_bias:
        b.node("Add", "biased", product, b.weight("c", shape[-1]))
    return b


def shared_by_axes() -> Builder:
    """A weight of uneven rows, which one Gemm reads as they are and another one transposed."""
    b = Builder((ROWS, INPUTS))
    scales = np.logspace(-2, 0.5, INPUTS, dtype=np.float32)[:, None]
    b.constant("w", scales * b.random.normal(0, 0.3, (INPUTS, INPUTS)).astype(np.float32))
    biases = [b.constant(n, np.linspace(1, 3, INPUTS, dtype=np.float32)) for n in ("b1", "b2")]
    first = b.node("Gemm", "layer", away_from_zero(b), "w", biases[0])
    b.node("Gemm", "second", first, "w", biases[1], transB=1)
    return b


def conv_with_computed_bias() -> Builder:
    b = Builder()
    bias = b.node("ReduceMax", "bias", b.x, axes=[0, 2, 3], keepdims=0)
    b.node("Conv", "layer", away_from_zero(b), b.weight("w", *[graphs.CHANNELS] * 2, 1, 1), bias)
    b.conv("head", "layer", size=1)
    return b


GEMMS = {
    "alpha": partial(gemm, (OUTPUTS,), alpha=0.1),
    "beta": partial(gemm, (OUTPUTS,), beta=4.0),
    "alpha, no bias": partial(gemm, alpha=10.0),
    "no beta": partial(gemm, (OUTPUTS,), beta=0.0),
    "transA": partial(gemm, rows=5, transA=1),
    "bias [1, N]": partial(gemm, (1, OUTPUTS)),
    "bias [1]": partial(gemm, (1,)),
    "bias [1, 1]": partial(gemm, (1, 1)),
    "bias []": partial(gemm, ()),
    "bias [M, 1]": partial(gemm, (ROWS, 1)),
    "bias [M, N]": partial(gemm, (ROWS, OUTPUTS), beta=0.5),
    "computed bias": gemm_and_residual,
    "computed bias, beta": partial(gemm_and_residual, beta=2.0, alpha=0.5),
    "weight of two axes": shared_by_axes,
}
FORMS = {
    **GEMMS,
    "vector": partial(matmul, (INPUTS,)),
    "one matrix in a stack": partial(matmul, (1, INPUTS, OUTPUTS)),
    "stack of matrices": partial(matmul, (2, INPUTS, OUTPUTS)),
    "stack with bias": partial(matmul, (2, INPUTS, OUTPUTS), has_bias=True),
    "computed bias of a Conv": conv_with_computed_bias,
}

every_target = pytest.mark.parametrize("target", ["cpu", "tensorrt"])
every_form = pytest.mark.parametrize("form", FORMS)


def proto_of(form: str) -> onnx.ModelProto:
    builder = FORMS[form]()
    return builder.model(builder.nodes[-1].output[0])


@cache
def calibrated(form: str) -> tuple[Model, CalibrationTable, list[Sample]]:
    model = graphs.model_of(proto_of(form))
    samples = [Sample(str(seed), graphs.feeds_of(model, seed)) for seed in range(6)]
    return model, graphs.table_of(model), samples


@pytest.fixture
def form_in_search(form: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A form that is searched however fine it is, within a small budget."""
    monkeypatch.setattr(search, "samples_of", lambda *_: calibrated(form)[2])
    monkeypatch.setattr(search, "_FINE", -1.0)
    budgets = {"balanced": search.Budget(samples=2, judged=4, runs=40)}
    monkeypatch.setattr(search, "BUDGETS", MappingProxyType(budgets))
    return form


def check(form: str, target: str, effort: str) -> None:
    """Quantize a form, and compare what it computes with the float model, on its kernels, too."""
    model, table, samples = calibrated(form)
    options = Int8Options(effort=effort, saturates=True)
    result = quantize(model, target=target, table=table, options=options)
    assert result.plan is not None
    assert "layer" in result.plan.quantized
    for simulate in (True, False) if target == "cpu" else (True,):
        assert quality(model, result.ir, samples, simulate=simulate) > LEAST_DB


def quality(model: Model, other: ir.Model, samples: list[Sample], *, simulate: bool) -> float:
    """Return the SQNR of the output over all samples together, in dB."""
    (name,) = (spec.name for spec in model.outputs)
    wanted, found = (
        np.stack([graphs.run(one, dict(s.feeds), simulate=simulate)[name] for s in samples])
        for one in (model.ir, other)
    )
    return sqnr_db(wanted, found)


@every_target
@every_form
def test_without_a_search(form: str, target: str) -> None:
    check(form, target, "fast")


@every_target
@every_form
def test_with_a_search(form_in_search: str, target: str) -> None:
    check(form_in_search, target, "balanced")


@every_target
@every_form
def test_trials_change_nothing_but_the_rounding(form: str, target: str) -> None:
    model, table, samples = calibrated(form)
    quantizer = Quantizer(model, target, table, Int8Options(saturates=True))
    probe = Probe(quantizer, samples[:2], 100)
    for tensor, clip in quantizer.ranges().items():
        assert sqnr_from_noise(probe.of(tensor, clip)) > LEAST_DB


@pytest.mark.parametrize("form", GEMMS)
def test_int4_on_the_cpu(form: str) -> None:
    model, _, samples = calibrated(form)
    result = quantize(model, target="cpu", precision="int4")
    assert result.plan is not None
    assert "layer" in result.plan.quantized
    assert quality(model, result.ir, samples, simulate=False) > LEAST_INT4_DB


def test_onnx_runtime_runs_no_stack_of_matrices_with_scales_by_channel() -> None:
    """That is why it has one scale for target `cpu`, and several for `tensorrt`."""
    model, table, samples = calibrated("stack of matrices")
    result = quantize(model, target="tensorrt", table=table, options=Int8Options(effort="fast"))
    with pytest.raises(DataError, match="zero point is not valid"):
        quality(model, result.ir, samples, simulate=False)
