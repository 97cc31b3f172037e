"""`qbench runs` and `qbench compare`, on a store that was filled by hand."""

import csv
import io
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest
import run_parts
from run_parts import accuracy, ratio, row

from qbench.benchmarking.result import RunResult
from qbench.runs.request import ModelFile
from qbench.runs.store import Store

from .conftest import Qbench, refused

LONG = "a_model_with_a_name_that_is_far_too_long_for_a_narrow_column.onnx"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def keep(
    ms: float = 2.0, *, model: str = "m.onnx", finished: bool = True, **changed: object
) -> str:
    """Keep a run with FP32, and INT8 twice as fast; return its id."""
    store = Store()
    asked = run_parts.request(models=(ModelFile(f"/models/{model}", "aa"),), images="i")
    found = run_parts.environment(**changed)
    run, claim = store.begin(asked, run_parts.SETTINGS, found)
    rows = (
        row(model=model, ms=ms, ratio=ratio(1.0, 0.0), accuracy=accuracy(0.85)),
        row("int8", model=model, ms=ms / 2, ratio=ratio(2.0), accuracy=accuracy(0.84)),
    )
    cells = [run_parts.cell(given.precision, model=model) for given in rows]
    for cell, given in zip(cells, rows, strict=True):
        seconds = np.full(50, given.latency_ms.median / 1e3) if given.latency_ms else None
        store.add(run, cell, given, seconds)
    if finished:
        store.finish(run, run_parts.result(*rows, environment=found), cells)
    claim.release()
    return run


def test_an_empty_folder_says_so(qbench: Qbench, folder: Path) -> None:
    outcome = qbench("runs", "list")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == "no run is kept in .qbench/runs.sqlite; `qbench bench` keeps one\n"
    assert qbench("runs", "list", "--json").json == {"schema_version": 1, "runs": []}
    assert list(folder.iterdir()) == []
    assert "no run 'latest': none is kept in" in refused(qbench("runs", "show", "latest"), 2)


def test_the_list_fits_80_columns(qbench: Qbench) -> None:
    first, second = keep(), keep(model=LONG, finished=False)
    outcome = qbench("runs", "list")
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["run", "when", "models", "rows", "finished", "trusted"]
    assert max(map(len, (line.rstrip() for line in lines))) <= 80
    assert lines[1].split()[0] == second
    assert lines[1].split()[-3:] == ["2", "no", "-"]
    assert lines[-1].split()[0] == first
    assert lines[-1].split()[-3:] == ["2", "yes", "yes"]


def test_the_list_can_be_narrowed(qbench: Qbench) -> None:
    keep()
    second = keep(model="other.onnx")
    assert qbench("runs", "list", "--model", "other.onnx").out.splitlines()[1].startswith(second)
    assert len(qbench("runs", "list", "--limit", 1).out.splitlines()) == 2
    assert "no run of none.onnx is kept in" in qbench("runs", "list", "--model", "none.onnx").out
    (entry,) = qbench("runs", "list", "--limit", 1, "--json").json["runs"]
    assert entry == {
        "id": second,
        "began": entry["began"],
        "finished": True,
        "trusted": True,
        "models": ["other.onnx"],
        "rows": 2,
    }


def test_show_prints_the_table_of_bench(qbench: Qbench) -> None:
    run = keep()
    text = qbench("runs", "show", run[:3]).out
    lines = text.splitlines()
    assert lines[0].split() == ["run", run]
    assert lines[1].split() == ["command", "bench", "m.onnx"]
    assert lines[3].split()[:3] == ["precision", "provider", "accuracy"]
    assert lines[5].split()[:5] == ["int8", "cpu", "84.0", "%", "1.00"]
    assert "ratio: time of the first row / time of the row" in text
    assert max(map(len, lines)) <= 80


def test_show_says_that_a_run_was_not_finished(qbench: Qbench) -> None:
    run = keep(finished=False)
    assert qbench("runs", "show", "latest").out.splitlines()[0].endswith("was not finished")
    assert qbench("runs", "show", run, "--json").json["finished"] is False


def test_a_run_without_rows_is_shown(qbench: Qbench) -> None:
    asked = run_parts.request()
    run, claim = Store().begin(asked, run_parts.SETTINGS, run_parts.ENVIRONMENT)
    claim.release()
    for arguments in ("show latest", "export latest --format csv", "export latest --format md"):
        assert qbench("runs", *arguments.split()).code == 0
    outcome = qbench("compare", run, run, "--fail-on", "3%")
    assert outcome.code == 4
    assert "no row of the one measures what a row of the other does" in outcome.out
    assert "is finished; name one by its id" in qbench("compare", run, "latest").err


def test_the_document_is_that_of_bench(qbench: Qbench) -> None:
    run = keep()
    document = qbench("runs", "show", run, "--json").json
    assert document["run"] == run
    assert msgspec.convert(document, RunResult) == Store().load(run).result
    assert qbench("runs", "export", run).json == document


@pytest.mark.parametrize("name", ["zz", "m.json"])
def test_names_of_no_run(name: str, qbench: Qbench) -> None:
    keep()
    assert f"no run '{name}' in .qbench/runs.sqlite" in refused(qbench("runs", "show", name), 2)


def test_csv(qbench: Qbench, folder: Path) -> None:
    run = keep()
    lines = list(csv.DictReader(io.StringIO(qbench("runs", "export", run, "--format", "csv").out)))
    assert [line["precision"] for line in lines] == ["fp32", "int8"]
    assert lines[1]["accuracy_value"] == "0.84"
    qbench("runs", "export", run, "--format", "csv", "-o", "runs.csv")
    assert len((folder / "runs.csv").read_text("utf-8").splitlines()) == 3


def test_markdown(qbench: Qbench) -> None:
    run = keep(model="a|b.onnx")
    lines = qbench("runs", "export", run, "--format", "md").out.splitlines()
    assert lines[0] == "| precision | provider | accuracy | ms | ratio [95 %] | verdict | MiB |"
    assert lines[1] == "| --- | --- | ---: | ---: | ---: | --- | ---: |"
    assert lines[3].startswith("| int8 | cpu | 84.0 % | 1.00 | 2.00 [2.00, 2.00] | faster |")
    assert "- ratio: time of the first row / time of the row" in lines


def test_mlflow(qbench: Qbench, monkeypatch: pytest.MonkeyPatch) -> None:
    run = keep()
    monkeypatch.setattr("qbench.runs.mlflow_export.export_run", lambda given: f"of {given.id}")
    assert qbench("runs", "export", run, "--format", "mlflow").out == f"MLflow run of {run}\n"
    outcome = qbench("runs", "export", run, "--format", "mlflow", "-o", "file")
    assert "mlflow writes no file file; set MLFLOW_TRACKING_URI and drop -o" in refused(outcome, 2)


def test_a_store_of_another_program(qbench: Qbench, folder: Path) -> None:
    keep()
    (folder / ".qbench/runs.sqlite").write_bytes(b"")
    with closing(sqlite3.connect(".qbench/runs.sqlite")) as database:
        database.execute("CREATE TABLE theirs (x)")
    assert "is a database of another program" in refused(qbench("runs", "list"))


# compare


def test_compare(qbench: Qbench) -> None:
    before, after = keep(2.0), keep(3.0)
    outcome = qbench("compare", before, after)
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert max(map(len, (line.rstrip() for line in lines))) <= 80
    text = " ".join(outcome.out.split())
    assert "slower" in text
    assert f"{before} -> {after}" in text
    assert "ratio: time then / time now, above 1 is faster" in text
    assert "measured in two sessions" in text


def test_compare_as_json(qbench: Qbench) -> None:
    before, after = keep(2.0), keep(3.0)
    document = qbench("compare", before, "latest", "--json").json
    assert document["judgement"] is None
    comparison = document["comparison"]
    assert (comparison["before"], comparison["after"]) == (before, after)
    speed = comparison["rows"][0]["speed"]
    assert (speed["basis"], speed["verdict"]) == ("time", "slower")
    assert speed["ratio"] == pytest.approx(2 / 3)
    assert comparison["rows"][0]["accuracy"]["verdict"] == "within noise"


def test_compare_of_two_machines(qbench: Qbench) -> None:
    before, after = keep(2.0), keep(9.0, cpu="Another")
    outcome = qbench("compare", before, after, "--fail-on", "latency=3%")
    text = " ".join(outcome.out.split())
    assert "different machines, so that milliseconds are not compared: CPU A CPU then" in text
    assert "9.00" not in text
    assert "1.00*" not in text
    assert outcome.code == 0


def test_compare_with_a_document(qbench: Qbench, folder: Path) -> None:
    run = keep()
    (folder / "before.json").write_text(qbench("runs", "export", run).out)
    text = " ".join(qbench("compare", "before.json", run).out.split())
    assert f"before.json -> {run}" in text
    assert "accuracy was not judged on the same images, or not known to be" in text


@pytest.mark.parametrize(
    ("ms", "limits", "code", "message"),
    [
        (3.0, "latency=3%", 3, "regression: m.onnx fp32 cpu takes +50.0 % ["),
        (3.0, "latency=80%", 0, ""),
        (2.06, "latency=3%", 4, "not settled: m.onnx fp32 cpu takes +3.0 % ["),
        (3.0, "accuracy=10%", 0, ""),
        (2.0, "accuracy=1%", 4, "not settled: m.onnx fp32 cpu has +0.0 ["),
    ],
)
def test_limits(ms: float, limits: str, code: int, message: str, qbench: Qbench) -> None:
    outcome = qbench("compare", keep(2.0), keep(ms), "--fail-on", limits)
    assert outcome.code == code
    assert message in outcome.err
    assert outcome.out


def test_the_judgement_is_in_the_document(qbench: Qbench) -> None:
    outcome = qbench("compare", keep(2.0), keep(3.0), "--fail-on", "3%", "--json")
    assert outcome.code == 3
    assert len(outcome.json["judgement"]["regressions"]) == 2


def test_a_limit_that_is_none(qbench: Qbench) -> None:
    run = keep()
    assert "limit 'x' is no percentage" in refused(qbench("compare", run, run, "--fail-on=x"), 2)
