import graphs
import numpy as np
import onnx_ir as ir
import pytest

from qbench.errors import CalibrationError
from qbench.model import parts
from qbench.model.load import Model
from qbench.model.parts import Part, in_parts, with_outputs
from qbench.model.prepare import prepare
from qbench.model.shapes import bound_to_one, elements_by_name
from qbench.placement.targets import TARGETS, observed_tensors


@pytest.fixture(autouse=True)
def _cut_small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_FEWEST_ELEMENTS", 1)


def prepared(pattern: str) -> Model:
    return prepare(graphs.model_of(graphs.PATTERNS[pattern]()))


def observed(model: Model) -> list[str]:
    return list(observed_tensors(model, list(TARGETS)))


def parts_of(
    model: Model, tensors: list[str], size: tuple[int, int] | None = (16, 16)
) -> list[Part]:
    return in_parts(model.ir, tensors, elements_by_name(bound_to_one(model, size)))


def outputs_of(some: list[Part], feeds: graphs.Feeds) -> graphs.Feeds:
    """Run part after part; each gets what its inputs are called, and nothing else."""
    known, asked = dict(feeds), {}
    for part in some:
        names = [value.name or "" for value in part.model.graph.inputs]
        known |= graphs.run(part.model, {name: known[name] for name in names})
        asked |= {name: known[name] for name in part.asked}
    return asked


@pytest.mark.parametrize("pattern", graphs.PATTERNS)
def test_parts_compute_what_the_whole_does(pattern: str) -> None:
    model = prepared(pattern)
    asked, feeds = observed(model), graphs.feeds_of(model)
    inputs = {name: feeds[name] for name in asked if name in feeds}
    whole = inputs | graphs.run(
        with_outputs(model.ir, [name for name in asked if name not in feeds]), feeds
    )
    found = outputs_of(parts_of(model, asked), feeds)
    assert found.keys() == whole.keys()
    for name, array in whole.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)


def test_a_cut_is_where_nothing_passes_that_is_not_asked_for() -> None:
    """Between Sigmoid and Mul two tensors would pass; behind the Mul only what is read anyway."""
    model = prepared("silu_before_head")
    first, *others = parts_of(model, ["stem", "silu", "head"])
    assert others
    for part in (first, *others):
        assert {value.name for value in part.model.graph.outputs} == set(part.asked)


def test_parts_hold_about_as_much_each(monkeypatch: pytest.MonkeyPatch) -> None:
    b = graphs.Builder()
    names = ["x"]
    for number in range(12):
        names.append(b.conv(f"conv{number}", names[-1]))
    model = prepare(graphs.model_of(b.model(names[-1])))
    monkeypatch.setattr(parts, "_MOST_PARTS", 4)
    assert [part.asked for part in parts_of(model, names)] == [
        ("x", "conv0", "conv1", "conv2"),
        ("conv3", "conv4", "conv5"),
        ("conv6", "conv7", "conv8"),
        ("conv9", "conv10", "conv11"),
    ]


def test_what_nobody_asks_for_is_no_part() -> None:
    some = parts_of(prepared("residual"), ["stem_relu"])
    assert [node.op_type for part in some for node in part.model.graph] == ["Conv", "Relu"]


@pytest.mark.parametrize("least", [1, 1 << 30])
def test_small_models_are_one_part(least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_FEWEST_ELEMENTS", least)
    model = prepared("residual")
    assert (len(parts_of(model, observed(model))) == 1) == (least > 1)


def test_branches_and_unknown_sizes_are_one_part() -> None:
    b = graphs.Builder(("n", 8, "height", "width"))
    proto = b.model(b.conv("head", b.conv("stem", b.x)))
    free = prepare(graphs.model_of(proto))
    assert len(parts_of(free, ["x", "stem", "head"], None)) == 1
    assert len(parts_of(free, ["x", "stem", "head"])) == 2
    branching = prepare(graphs.model_of(graphs.with_if()))
    assert len(parts_of(branching, observed(branching))) == 1


def test_shapes_that_do_not_hold_stop_no_part() -> None:
    """A batch that was fixed by the export and opened at the inputs later is read as it comes."""
    b = graphs.Builder(("n", *graphs.IMAGE[1:]))
    model = prepare(graphs.model_of(b.model(b.conv("head", b.conv("stem", b.x)))))
    for node in model.ir.graph:
        node.outputs[0].shape = ir.Shape(graphs.IMAGE)
    batch = {"x": np.ones((3, *graphs.IMAGE[1:]), np.float32)}
    some = parts_of(model, ["x", "stem", "head"])
    assert len(some) == 2
    assert outputs_of(some, batch)["head"].shape == (3, *graphs.IMAGE[1:])


def test_an_unknown_tensor() -> None:
    model = prepared("residual")
    message = "tensor 'none' is not in the graph; prepare the model first"
    for ask in (lambda: parts_of(model, ["x", "none"]), lambda: with_outputs(model.ir, ["none"])):
        with pytest.raises(CalibrationError, match=message):
            ask()
