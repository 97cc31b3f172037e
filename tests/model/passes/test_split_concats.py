"""Convolutions add up what was stacked for them, where that takes less than stacking."""

from collections.abc import Sequence
from typing import Any

import graphs
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qbench.model.passes.split_concats import split_concats
from qbench.model.prepare import prepare

BLOCK = 16


def stack(b: graphs.Builder, *sizes: int, axis: int = 1) -> str:
    """A Concat of tensors of so many channels, called `stack`."""
    parts = [b.conv(f"in{number}", b.x, cout=size) for number, size in enumerate(sizes)]
    return b.node("Concat", "stack", *parts, axis=axis)


def reader(b: graphs.Builder, name: str, channels: int, **attributes: Any) -> str:
    given = {"cin": channels, "cout": BLOCK, "size": 1, **attributes}
    return b.conv(name, "stack", **given)


def split(proto: onnx.ModelProto) -> tuple[tuple[str, ...], ir.Graph]:
    """Run the pass and check that the model computes the same."""
    model = prepare(graphs.model_of(proto))
    feeds = graphs.feeds_of(model)
    wanted = graphs.run(model.ir, feeds)
    names = split_concats(model.ir)
    found = graphs.run(model.ir, feeds)
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)
    assert split_concats(model.ir) == ()
    return names, model.ir.graph


def operators(graph: ir.Graph) -> list[str]:
    return [node.op_type for node in graph if not (node.name or "").startswith("in")]


@pytest.mark.parametrize("axis", [1, -3])
def test_a_convolution_adds_up_the_parts(axis: int) -> None:
    b = graphs.Builder()
    stack(b, 16, 32, axis=axis)
    names, graph = split(b.model(reader(b, "sum", 48, size=3, strides=[2, 2])))
    assert names == ("sum",)
    assert operators(graph) == ["Conv", "Conv", "Add"]
    read = [node.inputs[1] for node in graph if (node.name or "").startswith("sum_part")]
    assert [value.shape[1] for value in read if value and value.shape] == [16, 32]


def test_a_part_may_be_stacked_twice() -> None:
    b = graphs.Builder()
    part = b.conv("in0", b.x, cout=BLOCK)
    b.node("Concat", "stack", part, part, axis=1)
    names, _ = split(b.model(reader(b, "sum", 32)))
    assert names == ("sum",)


def test_all_readers_are_split_and_the_stack_goes() -> None:
    b = graphs.Builder()
    stack(b, 32, 32)
    names, graph = split(b.model(reader(b, "left", 64), reader(b, "right", 64)))
    assert names == ("left", "right")
    assert "Concat" not in operators(graph)


def test_readers_may_share_their_weights() -> None:
    b = graphs.Builder()
    stack(b, 16, 16)
    weight = b.weight("w", 8, 32, 1, 1)
    names, _ = split(b.model(*(b.node("Conv", name, "stack", weight) for name in ("one", "two"))))
    assert names == ("one", "two")


def test_names_that_are_taken_are_left_to_their_owners() -> None:
    b = graphs.Builder()
    stack(b, 16, 16)
    taken = b.node("Relu", "sum_part0", reader(b, "sum", 32))
    assert split(b.model(taken, b.node("Neg", "sum_sum1", taken)))[0] == ("sum",)


def test_a_reason_to_be_float_is_kept() -> None:
    b = graphs.Builder()
    stack(b, 16, 16)
    model = prepare(graphs.model_of(b.model(reader(b, "sum", 32))))
    next(n for n in model.ir.graph if n.name == "sum").metadata_props["why"] = "so"
    split_concats(model.ir)
    convolutions = [n for n in model.ir.graph if (n.name or "").startswith("sum_part")]
    assert [node.metadata_props.get("why") for node in convolutions] == ["so", "so"]


@pytest.mark.parametrize(
    ("sizes", "outputs", "is_split"),
    [
        ([16, 16], [32], True),  # one more pass over 32, instead of one over 32
        ([16, 16], [33], False),
        ([16, 16], [16, 16], True),
        ([16, 16], [16, 32], False),
        ([16, 16, 16], [24], True),
        ([16, 16, 16], [32], False),
    ],
)
def test_only_what_saves_more_passes_than_it_takes(
    sizes: Sequence[int], outputs: Sequence[int], is_split: bool
) -> None:
    b = graphs.Builder()
    stack(b, *sizes)
    readers = [reader(b, f"r{n}", sum(sizes), cout=size) for n, size in enumerate(outputs)]
    assert bool(split(b.model(*readers))[0]) == is_split


def another_reader(b: graphs.Builder) -> list[str]:
    stack(b, 16, 16)
    return [reader(b, "sum", 32), b.node("Relu", "relu", "stack")]


def the_caller(b: graphs.Builder) -> list[str]:
    return [stack(b, 16, 16), reader(b, "sum", 32)]


def parts_of_no_whole_blocks(b: graphs.Builder) -> list[str]:
    stack(b, 24, 24)
    return [reader(b, "sum", 48)]


def groups(b: graphs.Builder) -> list[str]:
    stack(b, 16, 16)
    return [reader(b, "sum", 32, group=2)]


def rows_instead_of_channels(b: graphs.Builder) -> list[str]:
    stack(b, 16, 16, axis=2)
    return [reader(b, "sum", 16)]


def computed_weights(b: graphs.Builder) -> list[str]:
    stack(b, 16, 16)
    weight = b.node(
        "Mul", "twice", b.input("given", [8, 32, 1, 1]), b.constant("two", np.float32(2))
    )
    return [b.node("Conv", "sum", "stack", weight)]


@pytest.mark.parametrize(
    "outputs",
    [
        another_reader,
        the_caller,
        parts_of_no_whole_blocks,
        groups,
        rows_instead_of_channels,
        computed_weights,
    ],
)
def test_others_are_left_alone(outputs: Any) -> None:
    b = graphs.Builder()
    assert split(b.model(*outputs(b)))[0] == ()


def test_signals_are_left_alone_for_blocks_are_of_images() -> None:
    b = graphs.Builder((1, 8, 20))
    parts = [b.node("Conv", f"in{n}", b.x, b.weight(f"w{n}", 16, 8, 1)) for n in range(2)]
    stacked = b.node("Concat", "stack", *parts, axis=1)
    assert split(b.model(b.node("Conv", "sum", stacked, b.weight("w", 16, 32, 1))))[0] == ()
