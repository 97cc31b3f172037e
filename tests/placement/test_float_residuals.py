"""Residual streams that stay float on a CPU: which they are, and what of the plan depends on it."""

from typing import Any

import graphs
import pytest
from onnx import ModelProto

from qbench.model.load import Model
from qbench.model.prepare import prepare
from qbench.placement.float_residuals import float_residuals
from qbench.placement.targets import place

PROJECTIONS = {"project1", "project2", "project3"}


def prepared(**sizes: int) -> Model:
    return prepare(graphs.model_of(graphs.linear_bottlenecks(**sizes)))


def products_of(proto: ModelProto) -> set[str | None]:
    return {
        node.name for node in float_residuals(prepare(graphs.model_of(proto)).ir.graph).products
    }


def two_projections(last: dict[str, Any], activation: str = "") -> ModelProto:
    """Two pointwise convolutions of 128 channels, whose sum a third one reads."""
    b = graphs.Builder((1, 128, 48, 48))
    first = b.conv("first", b.x, size=1, cin=128)
    joined = b.node("Add", "joined", first, b.conv("last", b.x, **{"size": 1, "cin": 128, **last}))
    read = b.node(activation, "activation", joined) if activation else joined
    return b.model(b.conv("head", b.conv("after", read, size=1)))


def test_streams_of_wide_linear_convolutions_stay_float() -> None:
    found = float_residuals(prepared().ir.graph)
    assert {node.name for node in found.products} == PROJECTIONS
    assert {node.name for node in found.adds} == {"joined", "joined_twice"}


@pytest.mark.parametrize("sizes", [{"width": 64}, {"size": 16}])
def test_where_writing_floats_would_cost_too_much_they_do_not(sizes: dict[str, int]) -> None:
    assert not float_residuals(prepared(**sizes).ir.graph).adds


def test_a_map_of_unknown_size_counts_as_large() -> None:
    proto = graphs.linear_bottlenecks()
    for dim in proto.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = "size"
    assert products_of(proto) == PROJECTIONS


def test_every_term_is_a_wide_linear_convolution() -> None:
    assert products_of(two_projections({})) == {"first", "last"}
    assert not products_of(two_projections({"size": 3}))
    assert not products_of(two_projections({"group": 8}))
    assert not products_of(two_projections({}, activation="Relu"))


@pytest.mark.parametrize(
    "excluded", [*sorted(PROJECTIONS), "expand3", "joined", "expand*", "project*"]
)
def test_what_is_calibrated_suffices_for_any_node_that_stays_float(excluded: str) -> None:
    model = prepared()
    assert set(place(model, "cpu", [excluded]).observed) <= set(place(model, "cpu").observed)
