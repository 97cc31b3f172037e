"""`qbench debug`: its text, its JSON and its errors."""

from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import graphs
import onnx
import pytest
from rich.console import Console

from qbench.cli.layer_table import chart, layer_table
from qbench.evaluation.layerwise import LayerScore
from qbench.quantization.quantize import quantize

from .conftest import Qbench, SaveModel, refused

DATA = ("--data", "imgs", "--limit", 3)


@pytest.fixture
def pair(calibrated: Path) -> tuple[str, str]:
    """A model and its INT8 form, whose second convolution reads a ruined tensor."""
    del calibrated
    quantize("m.onnx", target="tensorrt", output="q.onnx")
    spoilt = onnx.load("q.onnx")
    for constant in spoilt.graph.initializer:
        if constant.name == "stem_relu_scale":
            scale = onnx.numpy_helper.to_array(constant) / 50
            constant.CopyFrom(onnx.numpy_helper.from_array(scale, constant.name))
    onnx.save(spoilt, "q.onnx")
    return "m.onnx", "q.onnx"


def test_the_text_names_the_layer(pair: tuple[str, str], qbench: Qbench) -> None:
    outcome = qbench("debug", *pair, *DATA, "--top", 2)
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    text = " ".join(outcome.out.split())
    assert "compared m.onnx with q.onnx, exact arithmetic, 3 samples" in text
    assert "layers 8 of 8 float tensors of m.onnx" in text
    assert "first bad stem_relu (Relu, depth 2) at" in text
    assert "steepest stem_relu (Relu, depth 2) at" in text
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("depth")) :]
    assert len(table) == 3
    assert table[1].split()[:3] == ["2", "stem_relu", "Relu"]


def test_json(pair: tuple[str, str], qbench: Qbench) -> None:
    outcome = qbench("debug", *pair, *DATA, "--json")
    document = outcome.json
    assert outcome.code == 0
    assert document.keys() == {
        "schema_version",
        "reference",
        "test",
        "data",
        "samples",
        "skipped",
        "arithmetic",
        "total",
        "threshold_db",
        "first_bad",
        "steepest",
        "layers",
    }
    assert (document["samples"], document["first_bad"]) == (3, "stem_relu")
    assert {layer["name"]: layer["depth"] for layer in document["layers"]} == {
        "x": 0,
        "stem": 1,
        "stem_relu": 2,
        "deep": 3,
        "deep_relu": 4,
        "mean": 5,
        "flat": 6,
        "fc": 7,
    }
    assert document["layers"][0].keys() == {
        "name",
        "test",
        "op_type",
        "depth",
        "sqnr_db",
        "cosine",
        "input_sqnr_db",
        "added_noise",
        "inputs",
    }


@pytest.mark.usefixtures("calibrated")
def test_a_model_beside_itself_has_nothing_bad(qbench: Qbench) -> None:
    text = " ".join(qbench("debug", "m.onnx", "m.onnx", *DATA).out.split())
    assert "first bad none; no layer is below 10 dB" in text
    assert "steepest" not in text
    assert "equal equal 1.0000 0.0 %" in text


def test_native_and_another_threshold(pair: tuple[str, str], qbench: Qbench) -> None:
    document = qbench("debug", *pair, *DATA, "--native", "--threshold", -100, "--json").json
    assert (document["arithmetic"], document["first_bad"]) == ("native", None)
    assert document["threshold_db"] == -100


@pytest.mark.usefixtures("project")
def test_without_images_or_table_noise_is_fed(qbench: Qbench) -> None:
    text = " ".join(qbench("debug", "m.onnx", "m.onnx").out.split())
    assert "data 4 random samples (seed 0)" in text


@pytest.mark.usefixtures("calibrated")
def test_errors(qbench: Qbench, save: SaveModel) -> None:
    save(graphs.two_inputs())
    assert "no model at none.onnx" in refused(qbench("debug", "m.onnx", "none.onnx"))
    assert "other.onnx takes x, y and m.onnx takes x; compare two forms of one model" in refused(
        qbench("debug", "m.onnx", "other.onnx")
    )
    assert "add --data" in refused(qbench("debug", "m.onnx", "m.onnx", "--limit", 3), 2)
    quantize("m.onnx", target="cpu", output="q.onnx")
    assert "is quantized already; give the float model" in refused(
        qbench("debug", "q.onnx", "m.onnx")
    )


def score(name: str, sqnr_db: float) -> LayerScore:
    return LayerScore(name, name, "Conv", 1, sqnr_db, 1.0, 200.0, 0.0, ())


def test_the_chart_shows_the_worst_of_the_layers_of_a_column() -> None:
    assert chart([score("a", 20), score("b", 5), score("c", -200)]) == [
        " 10 |█",
        "  0 |█▄",
        " dB +---> depth 1",
    ]
    layers = [score(str(i), 15 if i == 77 else 60) for i in range(640)]
    *rows, axis = chart(layers)
    assert len(rows) == 6
    assert rows[-1] == "  0 |" + "█" * 64
    assert rows[-2] == " 10 |" + "█" * 7 + "▄" + "█" * 56
    assert rows[0] == " 50 |" + "█" * 7 + " " + "█" * 56
    assert axis == " dB +" + "-" * 64 + "> depth 1"


def test_the_chart_is_plain_where_blocks_cannot_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", TextIOWrapper(BytesIO(), encoding="ascii"))
    assert chart([score("a", 10), score("b", 4)])[0] == "  0 |#"


def test_the_table_fits_80_columns_with_the_worst_first() -> None:
    long = "/backbone/stage3/block2/branch1/depthwise/Conv_output_0_with_a_longer_name"
    layers = [
        LayerScore(long, long, "BatchNormalization", 123, 9.87, 0.9512, 34.5, 0.103, ()),
        LayerScore("b", "b", "Relu", 1, -200, 0, 200, 1, ()),
        LayerScore("c", "c", "Add", 2, 60, 1, 90, 1e-6, ()),
    ]
    out = StringIO()
    Console(file=out, width=80).print(layer_table(layers, 10))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].split() == ["1", "b", "Relu", "lost", "equal", "0.0000", "100.0", "%"]
    assert lines[-1].split()[-2:] == ["0.0001", "%"]
    assert "".join(line[7:40].split(" ")[0] for line in lines[2:-1]) == long
