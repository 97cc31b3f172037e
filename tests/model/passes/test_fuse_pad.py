from typing import Any

import graphs
import numpy as np
import pytest

from qbench.model.passes.fuse_pad import fuse_pad


def padded(b: graphs.Builder, amounts: list[int], *more: str, **attributes: Any) -> str:
    return b.node("Pad", "pad", b.x, b.constant("amounts", np.array(amounts)), *more, **attributes)


def pads_left(b: graphs.Builder, *outputs: str) -> int:
    """Run the pass, check that the model computes the same, count the Pads that stay."""
    model = graphs.model_of(b.model(*outputs))
    feeds = graphs.feeds_of(model)
    wanted = graphs.run(model.ir, feeds)
    before = sum(node.op_type == "Pad" for node in model.ir.graph)
    removed = fuse_pad(model.ir)
    found = graphs.run(model.ir, feeds)
    for name, array in wanted.items():
        assert np.allclose(found[name], array, atol=1e-4)
    assert sum(node.op_type == "Pad" for node in model.ir.graph) == before - removed
    return before - removed


SPATIAL = [0, 0, 1, 2, 0, 0, 3, 0]


@pytest.mark.parametrize("own", [[0, 0, 0, 0], [1, 0, 2, 1]])
def test_a_zero_pad_joins_the_pads_of_the_conv(own: list[int]) -> None:
    b = graphs.Builder()
    assert pads_left(b, b.conv("conv", padded(b, SPATIAL), pads=own)) == 0


def test_all_readers_take_it() -> None:
    b = graphs.Builder()
    pad = padded(b, SPATIAL)
    assert pads_left(b, b.conv("left", pad), b.conv("right", pad)) == 0


def test_an_explicit_fill_of_zero() -> None:
    b = graphs.Builder()
    pad = padded(b, SPATIAL, b.constant("fill", np.float32(0)))
    assert pads_left(b, b.conv("conv", pad)) == 0


def test_a_pad_of_nothing_vanishes_before_any_operator() -> None:
    b = graphs.Builder()
    assert pads_left(b, b.node("Relu", "relu", padded(b, [0] * 8))) == 0


@pytest.mark.parametrize("amounts", [[0, 1, 0, 0, 0, -1, 0, 0], [0, 0, -1, 0, 0, 0, 0, 0]])
def test_channels_and_crops_stay(amounts: list[int]) -> None:
    b = graphs.Builder()
    assert pads_left(b, b.conv("conv", padded(b, amounts))) == 1


def test_another_fill_stays() -> None:
    b = graphs.Builder()
    pad = padded(b, SPATIAL, b.constant("fill", np.float32(1)))
    assert pads_left(b, b.conv("conv", pad)) == 1


def test_reflection_stays() -> None:
    b = graphs.Builder()
    assert pads_left(b, b.conv("conv", padded(b, SPATIAL, mode="reflect"))) == 1


def test_a_second_reader_that_takes_no_pads_keeps_it() -> None:
    b = graphs.Builder()
    pad = padded(b, SPATIAL)
    assert pads_left(b, b.conv("conv", pad), b.node("Relu", "relu", pad)) == 1


def test_a_conv_that_pads_by_itself_keeps_it() -> None:
    b = graphs.Builder()
    weight = b.weight("w", 4, graphs.CHANNELS, 3, 3)
    conv = b.node("Conv", "conv", padded(b, SPATIAL), weight, auto_pad="SAME_UPPER")
    assert pads_left(b, conv) == 1


def test_a_pad_that_is_an_output_stays() -> None:
    b = graphs.Builder()
    pad = padded(b, SPATIAL)
    assert pads_left(b, pad, b.conv("conv", pad)) == 1


def test_pads_that_are_computed_stay() -> None:
    b = graphs.Builder()
    amounts = b.node("Neg", "amounts", b.constant("negated", -np.array(SPATIAL)))
    assert pads_left(b, b.conv("conv", b.node("Pad", "pad", b.x, amounts))) == 1


def test_a_pad_of_the_weight_stays() -> None:
    b = graphs.Builder()
    kernel = b.input("kernel", (2, graphs.CHANNELS, 1, 1))
    pad = b.node("Pad", "pad", kernel, b.constant("amounts", np.array([0, 0, 1, 1, 0, 0, 1, 1])))
    # ONNX Runtime cannot tell whether the model computes the same: it fuses such a Pad itself.
    assert fuse_pad(graphs.model_of(b.model(b.node("Conv", "conv", b.x, pad))).ir) == 0


def test_operators_of_other_domains_are_others() -> None:
    b = graphs.Builder()
    b.conv("conv", padded(b, SPATIAL))
    b.nodes[-1].domain = "local"
    b.node("Pad", "odd", "conv")
    b.nodes[-1].domain = "local"
    assert fuse_pad(graphs.model_of(b.model("odd")).ir) == 0
