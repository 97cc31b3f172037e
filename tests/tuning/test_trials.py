from pathlib import Path
from typing import Any

import graphs
import numpy as np

from qbench.benchmarking.result import Accuracy
from qbench.benchmarking.stats import Interval
from qbench.quantization.choice import Choice
from qbench.quantization.int8 import Int8Options, Quantizer
from qbench.tuning.journal import Journal, Trial
from qbench.tuning.trials import Trials


def quantizer() -> Quantizer:
    model = graphs.model_of(graphs.fragile())
    return Quantizer(model, "tensorrt", graphs.table_of(model), Int8Options())


def trials(budget: float = 0.01, **changes: Any) -> Trials:
    unused: Any = None
    fields = {"quantizer": unused, "start": Choice(), **changes}
    return Trials(
        judge=unused,
        stopwatch=unused,
        journal=Journal(key="k"),
        path=Path("unused"),
        budget=budget,
        most=9,
        **fields,
    )


def trial(nodes: str, change: float | None) -> Trial:
    interval = None if change is None else Interval(change, change, change)
    accuracy = Accuracy("cosine", 0.9, 9, 0.8, 1.0, interval)
    return Trial(float_nodes=tuple(nodes), int8_mac_fraction=None, accuracy=accuracy)


def test_the_best_has_the_fewest_float_nodes_and_of_those_loses_least() -> None:
    found = trials()
    found.seen = [trial("abc", 0), trial("a", -0.009), trial("b", -0.001), trial("", -0.02)]
    assert found.best().float_nodes == ("b",)


def test_where_none_meets_the_budget_the_best_loses_least() -> None:
    found = trials()
    found.seen = [trial("ab", None), trial("a", -0.5), trial("abc", -0.2)]
    assert found.best().float_nodes == ("a", "b", "c")


def test_nothing_is_equalized_for_float_nodes_alone() -> None:
    made = quantizer()
    factors = np.logspace(0, -4, graphs.CHANNELS).astype(np.float32)
    ranges = {**made.ranges(), "unlike": (-1.0, 1.0), "unlike_equalized": (-1.0, 1.0)}
    start = Choice(ranges, {"unlike": factors})
    freed = trials(quantizer=made, start=start).graph(["depthwise"]).ir
    plain = made.graph(Choice(float_nodes={"depthwise": "why"})).ir
    weights = freed.graph.initializers["kernel"].const_value
    expected = plain.graph.initializers["kernel"].const_value
    assert weights is not None
    assert expected is not None
    np.testing.assert_array_equal(weights.numpy(), expected.numpy())
    assert [node.op_type for node in freed.graph] == [node.op_type for node in plain.graph]
