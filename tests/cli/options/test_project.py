"""Which model a command takes when none is named, and what `qbench.toml` stands in for."""

from pathlib import Path

import pytest

from qbench.cli.options.project import Project, find_model, load_project
from qbench.errors import UsageError

from ..conftest import Qbench, SaveModel, classifier


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found() -> str:
    return str(find_model(None, load_project()))


def test_the_only_model_of_the_folder() -> None:
    Path("net.v2.onnx").touch()
    assert found() == "net.v2.onnx"


def test_what_was_made_from_a_model_is_passed_over() -> None:
    made = ("m.cpu.int8", "m.tensorrt.int8", "m.cpu.fp16", "m.cpu.dynamic", "m.cpu.tuned")
    for name in ("m", *made, "m.reduced"):
        Path(f"{name}.onnx").touch()
    assert found() == "m.onnx"


def test_what_was_made_is_taken_where_nothing_else_is_there() -> None:
    Path("m.reduced.onnx").touch()
    assert found() == "m.reduced.onnx"


def test_several_models() -> None:
    Path("a.onnx").touch()
    Path("b.onnx").touch()
    with pytest.raises(UsageError, match=r"holds 2 \.onnx files \(a\.onnx, \.\.\.\); name the MOD"):
        found()


def test_no_model() -> None:
    with pytest.raises(UsageError, match=r"holds no \.onnx file; name the MODEL, here or in qben"):
        found()


def test_a_given_model_wins_over_the_project() -> None:
    Path("qbench.toml").write_text('model = "a.onnx"')
    assert found() == "a.onnx"
    assert find_model(Path("b.onnx"), load_project()) == Path("b.onnx")


def test_all_keys() -> None:
    Path("qbench.toml").write_text('model="m.onnx"\ndata="d"\nrecipe="raw"\nsize=[32, 48]')
    assert load_project() == Project("m.onnx", "d", "raw", (32, 48))
    assert Project(size=64).image_size == (64, 64)
    assert Project().image_size is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('modl = "x"', "unknown field `modl`; the keys are model, data, recipe, size"),
        ("model = 3", r"Expected `str | null`, got `int` - at `\$\.model`"),
        ("model = ", "Invalid value"),
        ("size = -4", "size = -4 is not positive, give pixels"),
        ("size = [1, 2, 3]", "length 2, got 3"),
    ],
)
def test_a_wrong_file(text: str, message: str) -> None:
    Path("qbench.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        load_project()


def test_a_file_that_cannot_be_read() -> None:
    Path("qbench.toml").mkdir()
    with pytest.raises(UsageError, match=r"qbench\.toml: .*; the keys are"):
        load_project()


@pytest.mark.parametrize("command", [["calibrate"], ["inspect", "m.onnx"], ["bench", "m.onnx"]])
def test_a_typo_stops_every_command(command: list[str], qbench: Qbench) -> None:
    Path("qbench.toml").write_text('recipee = "raw"')
    outcome = qbench(*command)
    assert outcome.code == 2
    assert "qbench.toml: Object contains unknown field `recipee`" in outcome.err


def test_the_project_completes_a_command(project: Path, save: SaveModel, qbench: Qbench) -> None:
    save(classifier(("N", 3, "H", "W")), "m.onnx")
    save(classifier(), "second.onnx")
    Path("qbench.toml").write_text('model="m.onnx"\ndata="imgs"\nrecipe="raw"\nsize=[16, 24]')
    assert qbench("calibrate").code == 0
    from qbench.calibration.table import load_table

    header = load_table(project / "calibration" / "m.json").header
    assert (header.model, header.image_size, header.data.images) == ("m.onnx", (16, 24), 12)
    assert header.recipe is not None
    assert header.recipe.name == "raw"
