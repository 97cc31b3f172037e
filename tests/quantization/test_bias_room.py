"""Biases of channels without weights, as pruning and folded normalizations leave them."""

from collections.abc import Callable

import graphs
import numpy as np
import pytest

from qbench.model.load import Model
from qbench.quantization.int8 import Int8Options
from qbench.quantization.quantize import quantize

FAST = Int8Options(effort="fast", saturates=True)  # which is right on every CPU


def with_weights(scale: np.ndarray) -> graphs.Builder:
    """A convolution and a Relu; `scale` multiplies the weights of each output channel."""
    b = graphs.Builder()
    weight = b.random.normal(0, 0.2, (graphs.CHANNELS, graphs.CHANNELS, 3, 3))
    w = b.constant("w", (weight * scale.reshape(-1, 1, 1, 1)).astype(np.float32))
    bias = b.constant("b", np.linspace(-1, 1, graphs.CHANNELS, dtype=np.float32))
    b.x = b.node("Relu", "relu", b.node("Conv", "conv", b.x, w, bias, pads=[1] * 4))
    return b


def pruned_conv() -> Model:
    """Half of the channels have no weights, but a bias."""
    b = with_weights(np.arange(graphs.CHANNELS) % 2)
    return graphs.model_of(b.model(b.conv("head", b.x)))


def pruned_gemm() -> Model:
    """All activations in front of the last layer are zero, so that its bias is the output."""
    b = with_weights(np.zeros(graphs.CHANNELS))
    moved = b.node("Sub", "moved", b.x, b.constant("one", np.float32(1)))
    dead = b.node("Relu", "dead", moved)
    flat = b.node("Flatten", "flat", b.node("GlobalAveragePool", "pool", dead))
    weight = b.weight("fc.w", 4, graphs.CHANNELS)
    bias = b.constant("fc.b", np.array([-3, -1, 1, 3], np.float32))
    return graphs.model_of(b.model(b.node("Gemm", "fc", flat, weight, bias, transB=1)))


@pytest.mark.parametrize("made", [pruned_conv, pruned_gemm])
@pytest.mark.parametrize("simulate", [False, True])
def test_a_bias_without_weights_arrives(made: Callable[[], Model], simulate: bool) -> None:
    """ONNX Runtime makes int32 of it, in steps of input scale x weight scale."""
    model = made()
    result = quantize(model, target="cpu", table=graphs.table_of(model), options=FAST)
    feeds = graphs.feeds_of(model)
    (wanted,) = graphs.run(model.ir, feeds).values()
    (found,) = graphs.run(result.ir, feeds, simulate=simulate).values()
    assert np.abs(found - wanted).max() < 0.03 * np.abs(wanted).max()


def test_scales_that_suffice_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    model = graphs.model_of(graphs.conv_bn_relu())
    table = graphs.table_of(model)
    with_room = quantize(model, target="cpu", table=table, options=FAST)
    monkeypatch.setattr("qbench.quantization.int8.with_room_for_biases", lambda *a: a[3])
    without = quantize(model, target="cpu", table=table, options=FAST)
    scales = [
        {name: value.const_value.numpy() for name, value in one.ir.graph.initializers.items()}
        for one in (with_room, without)
    ]
    np.testing.assert_equal(*scales)
