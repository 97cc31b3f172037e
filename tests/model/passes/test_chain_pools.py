from collections.abc import Sequence

import graphs
import numpy as np
import pytest

from qbench.model.passes.chain_pools import chain_pools, chained_pools


def pool(b: graphs.Builder, *window: int, **attributes: object) -> str:
    """A MaxPool around each value, named after its window."""
    name = "pool" + "x".join(map(str, window))
    given = {"pads": [size // 2 for size in window] * 2, **attributes}
    return b.node("MaxPool", name, b.x, kernel_shape=list(window), **given)


def windows(b: graphs.Builder, *outputs: str) -> dict[str, list[int]]:
    """Run the pass, check that the model computes the same, return the windows by pool."""
    model = graphs.model_of(b.model(*outputs))
    feeds = graphs.feeds_of(model)
    wanted = graphs.run(model.ir, feeds)
    names = chained_pools(model.ir)
    assert chain_pools(model.ir) == len(names)
    assert chained_pools(model.ir) == ()
    found = graphs.run(model.ir, feeds)
    assert all(np.array_equal(found[name], array) for name, array in wanted.items())
    chained = [n.name for n in model.ir.graph if n.inputs[0] not in model.ir.graph.inputs]
    assert sorted(map(str, chained)) == sorted(names)
    nodes = {str(node.name): node for node in model.ir.graph}
    return {name: list(nodes[name].attributes["kernel_shape"].as_ints()) for name in outputs}


@pytest.mark.parametrize("order", [(5, 9, 13), (13, 9, 5), (9, 5, 13)])
def test_each_pool_goes_on_from_the_next_smaller_one(order: Sequence[int]) -> None:
    b = graphs.Builder()
    found = windows(b, *(pool(b, size, size) for size in order))
    assert found == {"pool5x5": [5, 5], "pool9x9": [5, 5], "pool13x13": [5, 5]}


def test_windows_need_not_be_square() -> None:
    b = graphs.Builder()
    found = windows(b, pool(b, 3, 5), pool(b, 5, 5), pool(b, 7, 11))
    assert found == {"pool3x5": [3, 5], "pool5x5": [3, 1], "pool7x11": [3, 7]}


def test_one_window_must_lie_within_the_other() -> None:
    b = graphs.Builder()
    found = windows(b, pool(b, 3, 7), pool(b, 5, 5))
    assert found == {"pool3x7": [3, 7], "pool5x5": [5, 5]}


def test_what_lies_within_need_not_be_the_next_in_order() -> None:
    b = graphs.Builder()
    found = windows(b, pool(b, 3, 3), pool(b, 5, 9), pool(b, 7, 3))
    assert found == {"pool3x3": [3, 3], "pool5x9": [3, 7], "pool7x3": [5, 1]}


def test_pools_along_one_axis() -> None:
    b = graphs.Builder((1, 8, 20))
    assert windows(b, pool(b, 3), pool(b, 9)) == {"pool3": [3], "pool9": [7]}


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [2, 2]},
        {"dilations": [2, 2], "pads": [8] * 4},
        {"pads": [4, 4, 3, 4]},
        {"pads": [0] * 4},
        {"auto_pad": "SAME_UPPER", "pads": None},
    ],
)
def test_other_pools_are_left_alone(attributes: dict[str, object]) -> None:
    b = graphs.Builder()
    given = {key: value for key, value in attributes.items() if value is not None}
    if "auto_pad" in attributes:
        large = b.node("MaxPool", "pool9x9", b.x, kernel_shape=[9, 9], **given)
    else:
        large = pool(b, 9, 9, **given)
    assert windows(b, pool(b, 5, 5), large)["pool9x9"] == [9, 9]


def test_pools_of_several_tensors_are_left_alone() -> None:
    b = graphs.Builder()
    small = pool(b, 5, 5)
    other = b.node("Relu", "other", b.x)
    large = b.node("MaxPool", "pool9x9", other, kernel_shape=[9, 9], pads=[4] * 4)
    model = graphs.model_of(b.model(small, large))
    assert chained_pools(model.ir) == ()
