from collections.abc import Sequence
from itertools import product

import graphs
import numpy as np
import pytest

from qbench.model.passes.fuse_slices import fuse_slices, sliced_convolutions

EVERY_SECOND = list(product((0, 1), repeat=2))


def cut(
    b: graphs.Builder,
    starts: Sequence[int],
    x: str | None = None,
    *,
    step: int = 2,
    end: int = 2**63 - 1,
    axes: Sequence[int] = (2, 3),
) -> str:
    """One Slice along several axes; its name tells where it starts."""
    name = "cut_" + "_".join(map(str, starts))
    count = len(starts)
    numbers = {"starts": starts, "ends": [end] * count, "axes": axes, "steps": [step] * count}
    given = (b.constant(f"{name}.{key}", np.array(n)) for key, n in numbers.items())
    return b.node("Slice", name, x or b.x, *given)


def stacked(b: graphs.Builder, parts: Sequence[str], axis: int = 1) -> str:
    return b.node("Concat", "stacked", *parts, axis=axis)


def fused(b: graphs.Builder, *outputs: str) -> list[str]:
    """Run the pass, check that the model computes the same, return what was fused."""
    model = graphs.model_of(b.model(*outputs))
    feeds = graphs.feeds_of(model)
    wanted = graphs.run(model.ir, feeds)
    names = list(sliced_convolutions(model.ir))
    assert fuse_slices(model.ir) == len(names)
    assert sliced_convolutions(model.ir) == ()
    found = graphs.run(model.ir, feeds)
    for name, array in wanted.items():
        assert found[name].shape == array.shape
        assert np.allclose(found[name], array, atol=1e-4)
    convs = [node for node in model.ir.graph if node.op_type == "Conv"]
    assert [conv.name for conv in convs if conv.inputs[0] in model.ir.graph.inputs] == names
    return names


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [0, 2, 1, 3], [3, 1, 0, 2]])
def test_slices_in_any_order_become_a_part_of_the_conv(order: list[int]) -> None:
    b = graphs.Builder()
    parts = [cut(b, EVERY_SECOND[number]) for number in order]
    assert fused(b, b.conv("conv", stacked(b, parts), cin=4 * graphs.CHANNELS)) == ["conv"]


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("strides", [[1, 1], [2, 1]])
def test_its_own_kernel_strides_and_pads_count(size: int, strides: list[int]) -> None:
    b = graphs.Builder((1, 3, 12, 20))
    stack = stacked(b, [cut(b, start) for start in EVERY_SECOND])
    conv = b.conv("conv", stack, cin=12, size=size, strides=strides, pads=[0, 1, 1, 0])
    assert fused(b, conv) == ["conv"]


def test_a_step_of_three() -> None:
    b = graphs.Builder((1, 2, 9, 12))
    parts = [cut(b, start, step=3) for start in product(range(3), repeat=2)]
    assert fused(b, b.conv("conv", stacked(b, parts, axis=-3), cin=18)) == ["conv"]


def test_one_axis_after_the_other_as_pytorch_exports_them() -> None:
    b = graphs.Builder()
    rows = [b.every(2, "rows", b.x, axis=2, start=start) for start in (0, 1)]
    parts = [b.every(2, x, x, axis=-1, start=start) for start in (0, 1) for x in rows]
    assert fused(b, b.conv("conv", stacked(b, parts), cin=4 * graphs.CHANNELS)) == ["conv"]


def test_an_end_at_the_size_of_the_axis_and_axes_that_are_kept_whole() -> None:
    b = graphs.Builder()
    parts = [cut(b, (row, column), end=16) for row, column in EVERY_SECOND]
    whole = [b.every(1, part, part, axis=1, start=0) for part in parts]
    assert fused(b, b.conv("conv", stacked(b, whole), cin=4 * graphs.CHANNELS)) == ["conv"]


def test_slices_that_others_read_stay_for_them() -> None:
    b = graphs.Builder()
    parts = [cut(b, start) for start in EVERY_SECOND]
    other = b.node("Relu", "other", parts[0])
    conv = b.conv("conv", stacked(b, parts), cin=4 * graphs.CHANNELS)
    assert fused(b, conv, other) == ["conv"]


@pytest.mark.parametrize("attributes", [{"group": 4}, {"dilations": [2, 2], "pads": [2] * 4}])
def test_grouped_and_dilated_convolutions_stay(attributes: dict[str, int]) -> None:
    b = graphs.Builder()
    stack = stacked(b, [cut(b, start) for start in EVERY_SECOND])
    assert fused(b, b.conv("conv", stack, cin=4 * graphs.CHANNELS, **attributes)) == []


def test_convolutions_that_pad_by_themselves_stay() -> None:
    b = graphs.Builder()
    stack = stacked(b, [cut(b, start) for start in EVERY_SECOND])
    weight = b.weight("w", 8, 4 * graphs.CHANNELS, 3, 3)
    assert fused(b, b.node("Conv", "conv", stack, weight, auto_pad="SAME_UPPER")) == []


@pytest.mark.parametrize(
    "starts",
    [
        pytest.param([(0, 0), (1, 0), (0, 1)], id="one is missing"),
        pytest.param([(0, 0), (1, 0), (0, 1), (0, 1)], id="one comes twice"),
    ],
)
def test_a_stack_of_other_slices_stays(starts: list[tuple[int, int]]) -> None:
    b = graphs.Builder()
    cuts = {start: cut(b, start) for start in dict.fromkeys(starts)}
    stack = stacked(b, [cuts[start] for start in starts])
    assert fused(b, b.conv("conv", stack, cin=len(starts) * graphs.CHANNELS)) == []


def test_a_stack_of_two_tensors_stays() -> None:
    b = graphs.Builder()
    other = b.node("Relu", "other", b.x)
    parts = [cut(b, start, other if start == (1, 1) else b.x) for start in EVERY_SECOND]
    assert fused(b, b.conv("conv", stacked(b, parts), cin=4 * graphs.CHANNELS)) == []


def test_slices_that_end_early_stay() -> None:
    b = graphs.Builder()
    stack = stacked(b, [cut(b, start, end=14) for start in EVERY_SECOND])
    assert fused(b, b.conv("conv", stack, cin=4 * graphs.CHANNELS)) == []


def test_slices_of_channels_stay() -> None:
    b = graphs.Builder()
    parts = [cut(b, start, axes=(1, 3)) for start in EVERY_SECOND]
    assert fused(b, b.conv("conv", stacked(b, parts), cin=2 * graphs.CHANNELS)) == []


def test_a_stack_of_rows_stays() -> None:
    b = graphs.Builder()
    stack = stacked(b, [cut(b, start) for start in EVERY_SECOND], axis=2)
    assert fused(b, b.conv("conv", stack)) == []


def test_a_stack_that_something_else_reads_stays() -> None:
    b = graphs.Builder()
    stack = stacked(b, [cut(b, start) for start in EVERY_SECOND])
    conv = b.conv("conv", stack, cin=4 * graphs.CHANNELS)
    assert fused(b, conv, b.node("Relu", "other", stack)) == []


def test_slices_of_computed_starts_stay() -> None:
    b = graphs.Builder()
    rows = b.input("first", [1])
    start = b.node("Cast", "start", rows, to=7)
    given = (b.constant(f"own.{key}", np.array([n])) for key, n in (("e", 16), ("a", 2), ("s", 2)))
    parts = [b.node("Slice", "computed", b.x, start, *given)]
    assert fused(b, b.conv("conv", stacked(b, parts))) == []
