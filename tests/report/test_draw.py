import pytest
from msgspec.structs import replace
from runs_to_show import layers_to_show, result_to_show, rows

import qbench
from qbench.errors import UsageError
from qbench.evaluation.compare_layers import LayerComparison
from qbench.evaluation.layerwise import LayerScore
from qbench.report.draw import draw_chart
from qbench.report.sources import read_contents


def comparison(count: int = 5) -> LayerComparison:
    scores = tuple(
        LayerScore(layer.name, layer.name, "Conv", layer.depth, layer.sqnr_db, 0.9, 200.0, 0.1, ())
        for layer in layers_to_show(count)
        if layer.sqnr_db is not None
    )
    return LayerComparison(
        reference="a.onnx",
        test="b.onnx",
        data="random",
        samples=1,
        skipped=(),
        arithmetic="exact",
        total=count,
        threshold_db=10.0,
        first_bad=None,
        steepest=None,
        layers=scores,
    )


def test_a_notebook_draws_accuracy_against_latency_unless_it_names_another() -> None:
    assert "top-1, %" in qbench.draw_chart(result_to_show()).to_json()
    assert "times as fast" in qbench.draw_chart(result_to_show(), "speed-up").to_json()


def test_layers_are_drawn_from_a_comparison() -> None:
    assert "SQNR of the output, dB" in draw_chart(comparison()).to_json()
    assert len(read_contents(result_to_show(), comparison()).layers) == 5


def test_a_chart_that_does_not_exist_and_one_without_figures() -> None:
    with pytest.raises(UsageError, match="no chart is called 'pie'; choose from accuracy-latency"):
        draw_chart(result_to_show(), "pie")
    failed = replace(result_to_show(), rows=rows()[7:8])
    with pytest.raises(UsageError, match="nothing to draw for 'accuracy-latency'"):
        draw_chart(failed)
    with pytest.raises(UsageError, match="nothing to draw for 'layers'"):
        draw_chart(replace(comparison(), layers=()))
