"""`qbench debug`: its text, its JSON and its errors."""

from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

import graphs
import onnx
import pytest
from rich.console import Console

from qbench.cli.output.layer_table import chart, layer_table
from qbench.engines import reduce
from qbench.engines.reduce import Part, Reduced
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


@pytest.mark.usefixtures("calibrated")
def test_a_threshold_that_is_no_number(qbench: Qbench) -> None:
    outcome = qbench("debug", "m.onnx", "m.onnx", "--threshold", "nan")
    assert "a threshold of nan dB tells nothing; use 10" in refused(outcome, 2)


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


REDUCED = Reduced(
    model="m.onnx",
    output="m.reduced.onnx",
    backend="TensorRT for RTX 1.7",
    failure="TensorRT for RTX 1.7 cannot parse the model",
    nodes=tuple(Part(f"det{i}", "Det") for i in range(14)),
    whole=20,
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `reduce_model` was called with."""
    calls: list[Any] = []

    def reduce_model(*arguments: Any, **options: Any) -> Reduced:
        calls.extend([*arguments, options["backend"], options["image_size"]])
        return REDUCED

    monkeypatch.setattr(reduce, "reduce_model", reduce_model)
    return calls


@pytest.mark.usefixtures("project")
def test_the_part_that_fails_is_described(qbench: Qbench, asked: list[Any]) -> None:
    outcome = qbench("debug", "m.onnx", "--reduce", "--size", 32, "--backend", "rtx")
    assert outcome.code == 0
    assert asked == [Path("m.onnx"), Path("m.reduced.onnx"), "rtx", (32, 32)]
    lines = [line.split() for line in outcome.out.splitlines()]
    assert lines[1] == ["part", "14", "of", "20", "nodes"]
    assert lines[2] == ["Det", "det0"]
    assert lines[-2] == ["2", "more;", "--json", "lists", "them"]
    assert lines[-1] == ["wrote", "m.reduced.onnx"]


@pytest.mark.usefixtures("project", "asked")
def test_json_of_a_part(qbench: Qbench) -> None:
    document = qbench("debug", "m.onnx", "--reduce", "--json", "-o", "part.onnx").json
    assert document.keys() == {
        "schema_version",
        "model",
        "output",
        "backend",
        "failure",
        "nodes",
        "whole",
    }
    assert document["nodes"][0] == {"name": "det0", "op_type": "Det"}


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("m.onnx",), "what is m.onnx compared with? name B, or add --reduce"),
        (("m.onnx", "q.onnx", "--reduce"), "--reduce cuts one model; leave out q.onnx"),
        (("m.onnx", "q.onnx", "-o", "x"), "-o is the file of --reduce, and nothing is reduced"),
    ],
)
def test_what_is_compared_or_reduced_has_to_be_plain(
    qbench: Qbench, arguments: tuple[str, ...], error: str
) -> None:
    assert error in refused(qbench("debug", *arguments), 2)
