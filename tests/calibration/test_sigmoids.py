import graphs
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from qbench.calibration.collect import Settings, collect
from qbench.calibration.sigmoids import sigmoids_between
from qbench.calibration.statistics import TensorStatistics
from qbench.data.synthetic import SyntheticSource
from qbench.model.prepare import prepare


def silu() -> onnx.ModelProto:
    b = graphs.Builder()
    stem = b.conv("stem", b.x)
    gated = b.node("Mul", "gated", stem, b.node("Sigmoid", "gate", stem))
    return b.model(b.conv("head", gated))


def sigmoid(values: NDArray[np.float32]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-values.astype(np.float64)))


@given(arrays(np.float32, st.integers(1, 50), elements=st.floats(-100, 100, width=32)))
def test_moments_behind_a_sigmoid_are_those_of_its_output(values: NDArray[np.float32]) -> None:
    derived, wanted = TensorStatistics(), sigmoid(values)
    seen = TensorStatistics().add(values, counted=values.size)
    assert seen is not None
    derived.add_sigmoids(seen)
    assert derived.count == values.size
    assert (derived.low, derived.high) == pytest.approx((wanted.min(), wanted.max()), rel=1e-5)
    assert derived.mean == pytest.approx(wanted.mean(), rel=1e-5)
    assert derived.second_moment == pytest.approx(np.square(wanted).mean(), rel=1e-5)


def test_a_sigmoid_is_derived_where_its_input_is_observed_and_no_channels_are_wanted() -> None:
    graph = graphs.model_of(silu()).ir.graph
    assert sigmoids_between(graph, {"stem": None, "gate": None}) == {"stem": "gate"}
    assert sigmoids_between(graph, {"stem": None, "gate": 1}) == {}
    assert sigmoids_between(graph, {"gate": None}) == {}
    assert sigmoids_between(graph, {"stem": None}) == {}


def test_a_sigmoid_of_a_sigmoid_is_read() -> None:
    b = graphs.Builder()
    twice = b.node("Sigmoid", "twice", b.node("Sigmoid", "once", b.x))
    graph = graphs.model_of(b.model(twice)).ir.graph
    assert sigmoids_between(graph, {"x": None, "once": None, "twice": None}) == {"x": "once"}


def test_derived_statistics_agree_with_those_that_are_read() -> None:
    model = prepare(graphs.model_of(silu()))
    source = SyntheticSource(model.inputs, 4, seed=0)
    settings = Settings(threads=1)
    derived = collect(model, {"stem": None, "gate": None}, source, settings).statistics["gate"]
    read = collect(model, {"gate": None}, source, settings).statistics["gate"]
    assert (derived.low, derived.high) == pytest.approx((read.low, read.high), rel=1e-5)
    assert (derived.mean, derived.exponent) == (pytest.approx(read.mean, rel=1e-5), read.exponent)
    assert derived.counts.sum() == read.counts.sum()
    assert np.abs(derived.counts - read.counts).sum() <= 0.02 * read.counts.sum()
