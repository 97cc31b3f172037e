from collections.abc import Iterator
from contextlib import closing

import graphs
import numpy as np
import pytest

from qbench.errors import DataError
from qbench.model import parts
from qbench.model.load import Model
from qbench.model.parts import Part, in_parts, with_outputs
from qbench.model.prepare import prepare
from qbench.model.shapes import bound_to_one, elements_by_name
from qbench.runtimes.ort.graphs import empty_arena, open_graph
from qbench.runtimes.ort.parts import OrtParts

ASKED = ["x", "stem_relu", "branch_relu", "joined_relu", "head"]


def parts_of(model: Model, asked: list[str]) -> list[Part]:
    return in_parts(model.ir, asked, elements_by_name(bound_to_one(model, (16, 16))))


@pytest.fixture(scope="module")
def model() -> Model:
    return prepare(graphs.model_of(graphs.residual()))


@pytest.fixture
def runner(model: Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[OrtParts]:
    monkeypatch.setattr(parts, "_FEWEST_ELEMENTS", 1)
    with closing(OrtParts(parts_of(model, ASKED), threads=1)) as opened:
        yield opened


def test_tensors_come_part_by_part(model: Model, runner: OrtParts) -> None:
    feeds = graphs.feeds_of(model)
    whole = open_graph(with_outputs(model.ir, ASKED), threads=1).run(feeds)
    stages = [dict(found) for found in runner.run(feeds)]
    assert len(stages) > 1
    assert [name for found in stages for name in found] == ASKED
    for found in stages:
        for name, array in found.items():
            np.testing.assert_allclose(array, whole[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("feeds", "reason"),
    [
        ({"y": np.zeros(graphs.IMAGE, np.float32)}, "the names differ"),
        ({"x": np.zeros((1, 3, 16, 16), np.float32)}, "Got invalid dimensions"),
    ],
)
def test_feeds_that_do_not_fit(runner: OrtParts, feeds: graphs.Feeds, reason: str) -> None:
    wanted = rf"does not fit the model's inputs \(x \[1, 8, 16, 16\] float32\): .*{reason}"
    with pytest.raises(DataError, match=wanted):
        list(runner.run(feeds))


def test_what_fails_in_a_later_part_is_told_of_the_models_inputs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Odd sizes come back from half the resolution with one row more."""
    monkeypatch.setattr(parts, "_FEWEST_ELEMENTS", 1)
    b = graphs.Builder(("n", 8, "height", "width"))
    stem = b.conv("stem", b.x)
    half = b.node("MaxPool", "half", b.conv("deep", stem), kernel_shape=[2, 2], strides=[2, 2])
    scales = b.constant("scales", np.array([1, 1, 2, 2], np.float32))
    again = b.node("Resize", "again", b.conv("low", half), "", scales, mode="nearest")
    model = prepare(graphs.model_of(b.model(b.node("Add", "sum", stem, again))))
    asked = ["x", "stem", "deep", "low", "sum"]
    runner = OrtParts(parts_of(model, asked), threads=1)
    list(runner.run({"x": np.zeros((1, 8, 16, 16), np.float32)}))
    with pytest.raises(
        DataError,
        match=r"fits it \(x \[1, 8, 15, 15\] float32\).*running Add.*; try a --size of mul",
    ):
        list(runner.run({"x": np.zeros((1, 8, 15, 15), np.float32)}))


def test_an_emptied_arena_serves_again(model: Model) -> None:
    feeds = graphs.feeds_of(model)
    runner = open_graph(model.ir, threads=1, shares_arena=True)
    before = runner.run(feeds)
    empty_arena()
    for name, array in runner.run(feeds).items():
        assert np.array_equal(array, before[name])
