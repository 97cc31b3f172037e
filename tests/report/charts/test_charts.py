"""What the charts hold, read back from their specifications."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as replace_fields
from runs_to_show import contents_to_show, rows

from qbench.benchmarking.result import Accuracy, Latency, OperatorTime, Row
from qbench.report.charts.intervals import draw_changes, draw_speedups
from qbench.report.charts.latencies import draw_latencies
from qbench.report.charts.layers import draw_layers
from qbench.report.charts.operators import draw_operators, type_colour
from qbench.report.charts.percentiles import draw_percentiles
from qbench.report.charts.tradeoff import draw_throughput, draw_tradeoff, front
from qbench.report.contents import Contents, Layer
from qbench.report.figures import FIGURES, figures_for
from qbench.report.theme import NARROW, PLAIN

CONTENTS = contents_to_show()


def with_rows(*given: Row) -> Contents:
    result = replace_fields(CONTENTS.result, rows=given)
    return replace(CONTENTS, run=replace(CONTENTS.run, result=result, samples={}))


def layers(chart: Any) -> list[dict[str, Any]]:
    """Return the layers of a chart; it is valid Vega-Lite, or this fails."""
    assert chart is not None
    found: list[dict[str, Any]] = chart.to_dict()["layer"]
    return found


def values(layer: dict[str, Any], chart: Any) -> list[dict[str, Any]]:
    given: dict[str, Any] = layer.get("data") or chart.to_dict()["data"]
    if "name" in given:
        return list(chart.to_dict()["datasets"][given["name"]])
    return list(given["values"])


def mark(layer: dict[str, Any]) -> str:
    return str(layer["mark"]["type"])


def test_the_front_is_what_nothing_beats_in_both() -> None:
    assert front([(1.0, 0.8), (2.0, 0.9), (2.5, 0.85), (3.0, 0.9)]) == [True, True, False, False]
    assert front([(1.0, 0.8), (1.0, 0.8)]) == [True, True]


@given(st.lists(st.tuples(st.floats(0.1, 9), st.floats(0, 1)), min_size=1, max_size=12))
def test_along_the_front_more_time_buys_more_accuracy(points: list[tuple[float, float]]) -> None:
    kept = sorted({p for p, is_on in zip(points, front(points), strict=True) if is_on})
    assert kept
    assert [share for _, share in kept] == sorted(share for _, share in kept)


def test_the_tradeoff_shows_rows_with_both_figures_and_their_intervals() -> None:
    chart = draw_tradeoff(CONTENTS, PLAIN)
    found = next(layer for layer in layers(chart) if mark(layer) == "point")
    points = {item["row"]: item for item in values(found, chart)}
    assert len(points) == 7
    int8 = points["int8 cpu"]
    assert (int8["share"], int8["low"], int8["high"]) == pytest.approx((90.4, 87.9, 92.6))
    assert int8["at"] == pytest.approx(4 / 2.13)
    assert (int8["left"], int8["right"]) == pytest.approx((4 / 2.13 / 1.015, 4 / 2.13 / 0.985))
    assert {name for name, item in points.items() if item["front"]} == {
        "int8 tensorrt",
        "fp16 cuda",
    }


def test_other_batch_sizes_have_a_front_of_their_own() -> None:
    fp32, fp16, *_ = rows()
    chart = draw_tradeoff(with_rows(fp32, replace_fields(fp16, batch=8)), PLAIN)
    found = next(layer for layer in layers(chart) if mark(layer) == "point")
    assert [item["front"] for item in values(found, chart)] == [True, True]


def test_throughput_is_compared_over_batch_sizes_and_more_is_better() -> None:
    fp32, fp16, int8, *_ = rows()
    given = [replace_fields(row, batch=batch) for row, batch in ((fp32, 1), (fp16, 8), (int8, 8))]
    chart = draw_throughput(with_rows(*given), PLAIN)
    found = next(layer for layer in layers(chart) if mark(layer) == "point")
    points = {item["row"]: item for item in values(found, chart)}
    assert [item["front"] for item in points.values()] == [True, False, True]
    fast = points["int8 cpu batch 8"]
    assert (fast["left"], fast["at"], fast["right"]) == pytest.approx(
        (532.5 * 0.985, 532.5, 532.5 * 1.015)
    )
    assert fast["throughput"] == "532.5 images/s"


def test_percentiles_stand_beside_when_the_next_call_was_due() -> None:
    latency = Latency(4.0, 0.1, 3.9, p90=5.0, p95=12.0)  # too few calls for p99
    paced = replace_fields(
        rows()[0], mode="paced", rate=100.0, latency_ms=latency, missed_share=0.07
    )
    due, _, points = layers(draw_percentiles(with_rows(paced, *rows()[1:]), PLAIN))
    chart = draw_percentiles(with_rows(paced, *rows()[1:]), PLAIN)
    assert values(due, chart) == [{"ms": 10.0}]
    shown = [(item["percentile"], item["ms"]) for item in values(points, chart)]
    assert shown == [("median", 4.0), ("p90", 5.0), ("p95", 12.0)]
    assert values(points, chart)[0]["late calls"] == "7.0 %"


def test_percentiles_of_rows_of_one_precision_are_not_joined() -> None:
    latency = Latency(4.0, 0.1, 3.9, p90=5.0)
    paced = [
        replace_fields(row, precision="fp32", mode="paced", rate=100.0, latency_ms=latency)
        for row in rows()[:2]
    ]
    _, line, _ = layers(draw_percentiles(with_rows(*paced), PLAIN))
    assert line["encoding"]["detail"]["field"] == "row"


@pytest.mark.parametrize(
    ("axes", "names"),
    [
        ({}, {"accuracy-latency"}),
        ({"batch": 8}, {"accuracy-latency", "accuracy-throughput"}),
        ({"mode": "throughput"}, {"accuracy-throughput"}),
        ({"mode": "paced", "rate": 30.0}, {"accuracy-latency"}),
    ],
)
def test_the_mode_and_the_batch_sizes_decide_what_accuracy_stands_against(
    axes: dict[str, Any], names: set[str]
) -> None:
    first, second, *_ = rows()
    found = figures_for(with_rows(first, replace_fields(second, **axes)))
    assert {figure.name for figure in found if figure.name.startswith("accuracy-")} == {
        *names,
        "accuracy-change",
    }


def test_many_points_have_a_legend_in_place_of_names() -> None:
    few = draw_tradeoff(CONTENTS, PLAIN)
    assert any(mark(layer) == "text" for layer in layers(few))
    many = draw_tradeoff(with_rows(*rows(), *rows("other.onnx")), NARROW)
    assert not any(mark(layer) == "text" for layer in layers(many))
    assert (
        "legend"
        in next(layer for layer in layers(many) if mark(layer) == "point")["encoding"]["shape"]
    )


def test_a_single_row_can_be_drawn() -> None:
    lone = replace_fields(rows()[0], accuracy=Accuracy("top1", 1.0, 1, 1.0, 1.0))
    assert draw_tradeoff(with_rows(lone), PLAIN) is not None


def test_a_row_without_speed_up_has_no_width() -> None:
    chart = draw_tradeoff(with_rows(replace_fields(rows()[2], ratio=None)), PLAIN)
    found = next(layer for layer in layers(chart) if mark(layer) == "point")
    (point,) = values(found, chart)
    assert point["left"] == point["at"] == point["right"]


def test_speed_ups_stand_beside_the_control_and_the_band() -> None:
    chart = draw_speedups(CONTENTS, PLAIN)
    band, middle, _, points = layers(chart)
    assert values(band, chart) == [{"low": 1 / 1.01, "high": 1.01, "value": 1.0}]
    assert [mark(layer) for layer in (band, middle, points)] == ["rect", "rule", "point"]
    shown = [(item["row"], item["value"]) for item in values(points, chart)]
    assert len(shown) == 7
    assert shown[0] == ("fp16 cpu", 0.84)
    assert shown[-1] == ("same candidate twice", 1.002)


def test_costs_are_in_points_but_a_cosine_is_not() -> None:
    chart = draw_changes(CONTENTS, PLAIN)
    shown = {item["row"]: item["value"] for item in values(layers(chart)[-1], chart)}
    assert shown["int8 cpu"] == pytest.approx(-0.8)
    row = rows()[2]
    assert row.accuracy is not None
    cosine = replace_fields(row, accuracy=replace_fields(row.accuracy, metric="cosine"))
    chart = draw_changes(with_rows(cosine), PLAIN)
    assert values(layers(chart)[-1], chart)[0]["value"] == pytest.approx(-0.008)


def test_every_call_is_in_a_histogram() -> None:
    chart = draw_latencies(CONTENTS, PLAIN)
    bars, line, heading = layers(chart)
    counts: dict[str, int] = {}
    for bar in values(bars, chart):
        counts[bar["row"]] = counts.get(bar["row"], 0) + int(bar["calls"].split()[0])
    assert counts == dict.fromkeys(counts, 2000)
    assert len(counts) == 7
    summary = values(line, chart)[-1]
    assert summary["tip"].splitlines()[2:4] == ["p90: 4.40 ms", "p95: 4.80 ms"]
    assert heading["mark"]["type"] == "text"


def test_an_outlier_is_not_clipped() -> None:
    samples = {0: np.array([0.001] * 9 + [0.5])}
    chart = draw_latencies(replace(CONTENTS, run=replace(CONTENTS.run, samples=samples)), PLAIN)
    bars = values(layers(chart)[0], chart)
    assert bars[-1]["left"] <= 500 <= bars[-1]["right"]
    assert bars[-1]["calls"] == "1 of 10 (10.0 %)"


def test_operators_fill_the_bar_of_their_row() -> None:
    chart = draw_operators(CONTENTS, PLAIN)
    parts = values(layers(chart)[0], chart)
    int8 = [part for part in parts if part["row"] == "int8 cpu"]
    assert [part["operator"] for part in int8] == [
        *("QLinearConv", "QLinearMatMul", "Softmax", "QuantizeLinear")
    ]
    assert (int8[0]["left"], int8[-1]["right"]) == pytest.approx((0, 100))
    assert all(a["right"] == b["left"] for a, b in itertools.pairwise(int8))
    assert int8[-1]["computes in"] == "not told"


def test_operators_of_hardly_any_time_are_one_part() -> None:
    profile = (
        OperatorTime("Conv", "int8", 0.985),
        OperatorTime("Cast", "float32", 0.009),
        OperatorTime("Relu", "int8", 0.006),
    )
    chart = draw_operators(with_rows(replace_fields(rows()[0], profile=profile)), PLAIN)
    _, others = values(layers(chart)[0], chart)
    assert (others["operator"], others["computes in"]) == ("2 others", "several")
    assert others["share"] == "1.5 %"


def test_an_operator_is_named_only_where_its_name_fits() -> None:
    profile = (OperatorTime("Conv", "float32", 0.98), OperatorTime("LongOperator", None, 0.02))
    chart = draw_operators(with_rows(replace_fields(rows()[0], profile=profile)), NARROW)
    assert [item["text"] for item in values(layers(chart)[1], chart)] == ["Conv"]


@pytest.mark.parametrize(
    ("name", "colour"),
    [
        ("int8", "int8"),
        ("UINT8", "int8"),
        ("float32", "fp32"),
        ("float16", "fp16"),
        ("Half", "fp16"),
        ("float8e4m3fn", "fp8"),
        ("bfloat16", "bf16"),
        (None, "other"),
        ("bool", "other"),
    ],
)
def test_types_have_the_colours_of_precisions(name: str | None, colour: str) -> None:
    assert type_colour(name) == colour


def test_layers_keep_to_the_edges_and_equal_ones_have_no_point() -> None:
    given = (
        Layer("lost", 1, -200.0, 0.0),
        Layer("fine", 2, 30.0, 0.999),
        Layer("exact", 3, 150.0, 1.0),
        Layer("equal", 4, 200.0, 1.0),
        Layer("unknown", 5, None, None),
    )
    chart = draw_layers(replace(CONTENTS, layers=given), PLAIN)
    points = values(layers(chart)[1], chart)
    assert [(item["layer"], item["db"]) for item in points] == [
        ("lost", -20.0),
        ("fine", 30.0),
        ("exact", 100.0),
    ]
    assert points[0]["SQNR"] == "-200.0 dB"


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_where_there_is_nothing_there_is_no_chart(figure: Any) -> None:
    assert figure.draw(Contents(with_rows(rows()[7]).run), PLAIN) is None
