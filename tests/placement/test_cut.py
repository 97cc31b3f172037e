"""Dividing a graph between float and integers by the times of kernels and the noise of tensors."""

from collections.abc import Iterator, Mapping
from itertools import combinations, pairwise
from types import MappingProxyType

import graphs
import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto

from qbench.model.graph import values_by_name
from qbench.model.prepare import prepare
from qbench.model.shapes import bind_shapes, example_shapes, macs_by_node
from qbench.placement import cut
from qbench.placement.cpu_times import (
    NodeTime,
    dequantize_time,
    is_silu,
    node_time,
    quantize_time,
)
from qbench.placement.cut import Divider, divider_of
from qbench.placement.targets import place

LARGE = (1, 64, 56, 56)


def chain(*kinds: str, shape: tuple[int, ...] = LARGE) -> ModelProto:
    """Convolutions of these kinds, one after the other, and a head, which stays float."""
    b = graphs.Builder(shape)
    of_kind = {"dense": {}, "depthwise": {"group": 64}, "pointwise": {"size": 1}}
    for index, kind in enumerate(kinds):
        b.x = b.conv(f"{kind}{index}", b.x, cin=64, cout=64, **of_kind[kind])
    return b.model(b.conv("head", b.x, cin=64, cout=64))


def divider_for(
    proto: ModelProto, target: str = "cpu", noise: Mapping[str, float] = MappingProxyType({})
) -> Divider | None:
    model = prepare(graphs.model_of(proto))
    bound = bind_shapes(model.ir, example_shapes(model))
    return divider_of(bound, place(model, target), macs_by_node(bound), noise)


def divider(proto: ModelProto, noise: Mapping[str, float] = MappingProxyType({})) -> Divider:
    found = divider_for(proto, noise=noise)
    assert found is not None
    return found


def times_of_chain(proto: ModelProto) -> Iterator[float]:
    """Time of every division of a chain, summed up from its beginning to its end."""
    model = prepare(graphs.model_of(proto))
    bound = bind_shapes(model.ir, example_shapes(model))
    nodes, macs = list(bound.graph), macs_by_node(bound)
    names = [node.name or "" for node in nodes]
    for count in range(len(names)):
        for integers in combinations(names[:-1], count):
            whole, before = 0.0, False
            for node, name in zip(nodes, names, strict=True):
                value, time, now = node.inputs[0], node_time(node, macs[name]), name in integers
                assert value is not None
                assert time is not None
                if now != before:
                    whole += quantize_time(value) if now else dequantize_time(value, node)
                if name != names[-1]:
                    whole += time.in_int8 if now else time.in_float
                before = now
            yield whole


@pytest.mark.parametrize(
    "kinds",
    [
        ("dense", "dense", "dense"),
        ("pointwise", "depthwise", "pointwise"),
        ("dense", "depthwise", "depthwise", "dense"),
        ("depthwise", "depthwise", "pointwise"),
    ],
)
def test_no_division_takes_less_time_than_the_cheapest(kinds: tuple[str, ...]) -> None:
    proto = chain(*kinds)
    assert divider(proto).cheapest().time == pytest.approx(min(times_of_chain(proto)), abs=0.01)


def test_dense_convolutions_stay_integer_and_depthwise_ones_between_them_too() -> None:
    assert not divider(chain("dense", "depthwise", "dense")).cheapest().floats


def test_depthwise_convolutions_at_the_edge_are_float() -> None:
    division = divider(chain("depthwise", "depthwise", "dense", "dense")).cheapest()
    assert division.floats == {"depthwise0", "depthwise1"}
    assert division.integers == 2


def test_where_nothing_saves_time_integers_go_where_they_lose_least(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = divider(chain(*["pointwise"] * 3, *["depthwise"] * 3, shape=(1, 64, 28, 28)))
    assert not found.cheapest().integers
    assert found.fastest() is None  # so small that the times say nothing
    monkeypatch.setattr(cut, "_SMALL", 0.0)
    division, everything = found.fastest(), found.cheapest(favour=4.0)
    assert division is not None
    assert division.floats == {"depthwise3", "depthwise4", "depthwise5"}
    assert not everything.floats
    assert found.float_time < division.time < everything.time


def test_the_first_convolution_of_few_channels_is_float() -> None:
    b = graphs.Builder((1, 3, 112, 112))
    stem = b.conv("stem", b.x, cin=3, cout=64)
    body = b.conv("body", stem, cin=64, cout=64)
    proto = b.model(b.conv("head", body, cin=64, cout=64))
    assert divider(proto).cheapest().floats == {"stem"}


@pytest.mark.parametrize(("channels", "is_float"), [(3, True), (64, False)])
def test_a_volume_of_few_channels_is_convolved_in_float(channels: int, is_float: bool) -> None:
    """ONNX Runtime's integer kernel takes 2 to 30 times as long as the float one there."""
    b = graphs.Builder((1, channels, 16, 32, 32))
    for name, inputs, outputs in [("stem", channels, 16), ("body", 16, 64), ("head", 64, 4)]:
        weight = b.weight(f"{name}.w", outputs, inputs, 3, 3, 3)
        b.x = b.node("Conv", name, b.x, weight, pads=[1] * 6)
    assert ("stem" in divider(b.model(b.x)).cheapest().floats) == is_float


def test_silu_alone_is_faster_in_float() -> None:
    b = graphs.Builder(LARGE)
    gate = b.node("Sigmoid", "gate", b.x)
    proto = b.model(b.node("Mul", "silu", b.x, gate))
    nodes = {node.name: node for node in prepare(graphs.model_of(proto)).ir.graph}
    for node in nodes.values():
        time = node_time(node, 0)
        assert is_silu(node)
        assert time is not None
        assert time.in_float < time.in_int8


def test_the_higher_the_price_of_noise_the_more_is_float() -> None:
    noise = {"x": 1e-3, "dense0": 1e-2, "dense1": 1e-4}
    found = [divider(chain(*["dense"] * 3), noise).cheapest(10.0**p) for p in range(10)]
    assert not found[0].floats
    assert not found[-1].integers
    for cheaper, dearer in pairwise(found):
        assert cheaper.floats <= dearer.floats
        assert cheaper.time <= dearer.time
        assert cheaper.noise >= dearer.noise


def test_a_division_knows_its_noise() -> None:
    proto = chain("dense", "dense")
    found = divider(proto, {"x": 1e-3, "dense0": 1e-2}).cheapest()
    assert found.noise == pytest.approx(1.1e-2)


class AlwaysCutting(Divider):
    def _surely_all_integer(self, _: object) -> bool:
        return False


GRAPHS = [
    chain("dense", "pointwise", "depthwise"),
    graphs.residual(),
    graphs.concat_branches(),
    graphs.silu_before_head(),
    graphs.two_heads(),
    graphs.output_in_the_middle(),
    graphs.linear_bottlenecks(),
]


@given(
    data=st.data(),
    proto=st.sampled_from(GRAPHS),
    price=st.sampled_from([0.0, 1.0, 1e3]),
    favour=st.sampled_from([1.0, 1.5]),
)
def test_without_a_cut_a_division_is_the_same(
    data: st.DataObject, proto: ModelProto, price: float, favour: float
) -> None:
    """Nodes save fewer microseconds, about as many or more than passes over small tensors take."""
    model = prepare(graphs.model_of(proto))
    graph = bind_shapes(model.ir, example_shapes(model)).graph
    plan = place(model, "cpu")
    least, span = data.draw(st.sampled_from([(0, 5), (5, 20), (200, 100)]))
    in_float, in_int8 = st.floats(least, least + span), st.floats(0, 3)
    times = {name: NodeTime(data.draw(in_float), data.draw(in_int8)) for name in plan.quantized}
    noise = {tensor: data.draw(st.floats(0, 0.1)) for tensor in plan.observed}
    parts = (graph, values_by_name(graph), plan, times, noise)
    found = Divider(*parts).cheapest(price, favour)
    assert found == AlwaysCutting(*parts).cheapest(price, favour)


def test_where_every_node_saves_time_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(nx, "minimum_cut")
    assert not divider(chain("dense", "dense", "dense")).cheapest().floats
    with pytest.raises(AttributeError, match="minimum_cut"):
        divider(chain("depthwise")).cheapest()


@pytest.mark.parametrize(("saved", "is_float"), [(1.0, False), (1e3, True)])
@pytest.mark.parametrize("node", ["project2", "expand3"])
def test_a_float_node_amid_a_residual_stream_waits_for_its_channels(
    node: str, saved: float, is_float: bool
) -> None:
    model = prepare(graphs.model_of(graphs.linear_bottlenecks()))
    graph = bind_shapes(model.ir, example_shapes(model)).graph
    plan = place(model, "cpu")
    times = dict.fromkeys(plan.quantized, NodeTime(in_float=1e3, in_int8=10.0))
    times[node] = NodeTime(in_float=1e3, in_int8=1e3 + saved)
    noise = {activation.scale_from: 0.0 for activation in plan.activations}
    found = Divider(graph, values_by_name(graph), plan, times, noise).cheapest()
    assert found.floats == ({node} if is_float else set())


def test_times_are_known_on_the_cpu_alone() -> None:
    assert divider_for(chain("dense"), "tensorrt") is None
