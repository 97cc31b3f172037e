"""What depthwise convolutions read is equalized at once, where that costs nothing."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest

from qbench.calibration.given import GivenRanges
from qbench.data.samples import Sample
from qbench.quantization.choice import Choice
from qbench.quantization.int8 import Int8Options, Quantizer
from qbench.quantization.searching import search
from qbench.quantization.searching.depthwise_equalization import equalized_for_depthwise


def separable(
    *functions: str, group: int = graphs.CHANNELS, alike: bool = False, decades: float = 2
) -> onnx.ModelProto:
    """Channels of unlike size, behind some functions, are read by a depthwise convolution."""
    b = graphs.Builder()
    scales = np.logspace(0, -decades, graphs.CHANNELS, dtype=np.float32).reshape(-1, 1, 1, 1)
    x = b.conv("stem", b.node("Relu", "positive", b.x))
    weight, bias = (one for one in b.constants if one.name.startswith("stem"))
    for one, factors in ((weight, scales), (bias, scales.reshape(-1))):
        array = onnx.numpy_helper.to_array(one)
        array = np.repeat(array[:1], len(array), axis=0) if alike else array * factors
        one.CopyFrom(onnx.numpy_helper.from_array(array, one.name))
    low, high = b.constant("low", np.float32(0)), b.constant("high", np.float32(0.5))
    slopes = np.linspace(0.1, 0.9, graphs.CHANNELS, dtype=np.float32).reshape(-1, 1, 1)
    operands = {"Clip": [low, high], "PRelu": [b.constant("slopes", slopes)]}
    for function in functions:
        x = b.node(function, function.lower(), x, *operands.get(function, []))
    return b.model(b.conv("last", b.conv("depthwise", x, group=group)))


def quantizer_of(proto: onnx.ModelProto, target: str = "tensorrt") -> Quantizer:
    model = graphs.model_of(proto)
    return Quantizer(model, target, graphs.table_of(model), Int8Options())


@pytest.mark.parametrize(
    ("target", "function"),
    [
        ("cpu", "Relu"),
        ("cpu", "Clip"),
        ("tensorrt", "Relu"),
        ("tensorrt", "Clip"),
        ("tensorrt", "LeakyRelu"),
        ("tensorrt", "PRelu"),
    ],
)
def test_a_convolution_in_front_takes_the_division(target: str, function: str) -> None:
    quantizer = quantizer_of(separable(function), target)
    choice = equalized_for_depthwise(quantizer)
    assert list(choice.factors) == [function.lower()]
    floats, _ = quantizer.placed(choice)
    plain = quantizer.prepared.ir
    operators = (Counter(node.op_type for node in graph.graph) for graph in (floats, plain))
    assert next(operators) == next(operators)
    feeds = graphs.feeds_of(quantizer.model)
    before, after = (graphs.run(graph, feeds)["last"] for graph in (plain, floats))
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("target", "functions"),
    [("cpu", ["Relu"]), ("tensorrt", ["Relu"]), ("tensorrt", ["Relu", "HardSwish"])],
)
@pytest.mark.parametrize("free", [{}, {"depthwise": "noisy"}, {"last": "noisy"}])
def test_equalization_moves_no_node_between_float_and_integers(
    target: str, functions: list[str], free: dict[str, str]
) -> None:
    quantizer = quantizer_of(separable(*functions), target)
    choice = replace(equalized_for_depthwise(quantizer, with_muls=True), float_nodes=free)
    assert choice.factors
    plans = (quantizer.placed(one)[1] for one in (choice, Choice(float_nodes=free)))
    assert len({quantizer.work.shares_kept(plan) for plan in plans}) == 1


@pytest.mark.parametrize("function", ["Relu", "Clip"])
def test_all_channels_then_use_all_of_the_range(function: str) -> None:
    quantizer = quantizer_of(separable(function))
    choice = equalized_for_depthwise(quantizer)
    (name,) = choice.factors
    _, high = choice.ranges[f"{name}_equalized"]
    peaks = quantizer.statistics_of(name).channel_highs
    assert peaks is not None
    large = peaks > 0.05 * peaks.max()
    np.testing.assert_allclose((peaks / choice.factors[name])[large], high, rtol=1e-6)


def test_no_division_is_folded_through_what_is_quantized_itself() -> None:
    """On a CPU, a convolution writes integers for LeakyRelu, in a range that was calibrated."""
    quantizer = quantizer_of(separable("LeakyRelu"), "cpu")
    assert "stem" in quantizer.plan.observed
    assert not equalized_for_depthwise(quantizer).factors


@pytest.mark.parametrize(("target", "expected"), [("cpu", []), ("tensorrt", ["hardswish"])])
def test_a_division_behind_other_functions_is_a_mul_which_must_be_asked_for(
    target: str, expected: list[str]
) -> None:
    """On a CPU, a Mul costs too much in any case."""
    quantizer = quantizer_of(separable("Relu", "HardSwish"), target)
    assert not equalized_for_depthwise(quantizer).factors
    found = equalized_for_depthwise(quantizer, with_muls=True).factors
    assert list(found) == expected


def test_small_gains_are_worth_a_mul_where_it_is_asked_for() -> None:
    """The output may gain far more than the tensor, of whose errors 0.6 are left here."""
    quantizer = quantizer_of(separable("Relu", "HardSwish", decades=0.05))
    assert list(equalized_for_depthwise(quantizer, with_muls=True).factors) == ["hardswish"]


@pytest.mark.parametrize(
    "proto",
    [
        separable("Relu", group=2),
        separable("Relu", alike=True),
        graphs.residual(),
    ],
    ids=["weights lose", "channels alike", "no depthwise reader"],
)
def test_nothing_is_chosen_that_loses(proto: onnx.ModelProto) -> None:
    assert equalized_for_depthwise(quantizer_of(proto)) == Choice()


@pytest.mark.parametrize(("decades", "taken"), [(0.3, []), (2, ["relu"])])
def test_a_search_takes_what_clearly_gains(
    decades: float, taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the noise, 0.84 is left, or 0.68; values larger than in calibration are clipped."""
    model = graphs.model_of(separable("Relu", decades=decades))
    samples = [Sample(str(seed), graphs.feeds_of(model, seed)) for seed in range(4)]
    monkeypatch.setattr(search, "samples_of", lambda *_: samples)
    monkeypatch.setattr(search, "_FINE", 0.0)
    found = search.to_int8(model, "tensorrt", graphs.table_of(model), Int8Options(effort="fast"))
    assert list(found.choice.factors) == taken


def test_given_ranges_tell_nothing_of_channels() -> None:
    model = graphs.model_of(separable("Relu"))
    known = graphs.table_of(model).statistics
    ranges = {name: (one.low, one.high) for name, one in known.items()}
    quantizer = Quantizer(
        model, "tensorrt", GivenRanges(Path("ranges.json"), ranges), Int8Options()
    )
    assert equalized_for_depthwise(quantizer) == Choice()
