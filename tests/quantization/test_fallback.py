import graphs
import pytest
from graphs import Builder, model_of

from qbench.model.prepare import prepare
from qbench.placement.targets import place
from qbench.quantization.fallback import Work, least_gain, least_shares, nodes_to_free, work_of


def test_what_reads_a_tensor_is_freed() -> None:
    model = prepare(model_of(graphs.fragile()))
    plan = place(model, "tensorrt")
    assert nodes_to_free(model.ir.graph, plan, "unlike") == {"depthwise"}


def test_on_cpu_the_writer_is_freed_with_the_reader() -> None:
    builder = Builder()
    relu = builder.node("Relu", "relu", builder.conv("first", builder.x))
    second = builder.node("Relu", "relu2", builder.conv("second", relu))
    model = prepare(model_of(builder.model(builder.conv("third", second))))
    plan = place(model, "cpu")
    assert nodes_to_free(model.ir.graph, plan, "relu") == {"first", "second"}


def test_on_cpu_what_writes_a_residual_stream_is_not_freed() -> None:
    model = prepare(model_of(graphs.linear_bottlenecks()))
    plan = place(model, "cpu")
    assert nodes_to_free(model.ir.graph, plan, "project1") == {"expand2"}


@pytest.mark.parametrize(
    ("noise", "shares"),
    [(0.001, (0.95, 0.98)), (0.02, (0.9, 0.95)), (0.05, (0.75, 0.75)), (1.0, (0.0, 0.0))],
)
def test_the_worse_the_output_the_more_may_stay_float(
    noise: float, shares: tuple[float, float]
) -> None:
    assert least_shares(noise) == shares


def test_leaving_more_work_float_must_gain_more() -> None:
    assert least_gain(0) == 0.02
    assert least_gain(0.04) == pytest.approx(0.2)


def test_the_shares_kept_are_those_of_nodes_and_work() -> None:
    builder = Builder()
    model = prepare(model_of(builder.model(builder.conv("b", builder.conv("a", builder.x)))))
    everything = place(model, "tensorrt")
    work = work_of(model.ir.graph, everything, {"a": 90, "b": 10})
    without = place(model, "tensorrt", ["a"])
    assert work.shares_kept(everything) == (1, 1)
    assert work.shares_kept(without) == pytest.approx((0.5, 0.1))
    assert work.int8_fraction(without) == pytest.approx(0.1)


def test_what_the_target_cannot_do_is_not_held_against_a_plan() -> None:
    builder = Builder()
    model = prepare(model_of(builder.model(builder.conv("b", builder.conv("a", builder.x)))))
    plan = place(model, "tensorrt", ["a"])
    assert work_of(model.ir.graph, plan, {"a": 90, "b": 10}).shares_kept(plan) == (1, 1)


def test_unknown_work_is_no_share() -> None:
    model = prepare(model_of(graphs.fragile()))
    plan = place(model, "tensorrt")
    assert Work({}, set(plan.quantized), set(plan.quantized)).int8_fraction(plan) is None
