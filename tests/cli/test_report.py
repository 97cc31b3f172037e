from pathlib import Path

import numpy as np
import pytest
from runs_to_show import ENVIRONMENT, layers_to_show, result_to_show, rows

from qbench.artifacts import write_json
from qbench.benchmarking.ledger import Cell
from qbench.benchmarking.timing.settings import Settings
from qbench.runs.request import ModelFile, Request
from qbench.runs.store import Store

from .conftest import Qbench, files, refused


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a benchmark's document in it."""
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "run.json", result_to_show())
    return tmp_path


def test_a_report_is_written_where_it_is_wanted(qbench: Qbench, folder: Path) -> None:
    outcome = qbench("report", "run.json")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("wrote report.html (")
    assert qbench("report", "run.json", "-o", "out/r.html").code == 0
    assert files(folder) == {"run.json", "report.html", "out/r.html"}


def test_the_latest_kept_run_is_reported_with_its_timings(qbench: Qbench, folder: Path) -> None:
    store, row = Store(folder / ".qbench"), rows()[2]
    request = Request(command=(), models=(ModelFile(path="net.onnx", sha256="0"),), options={})
    run, claim = store.begin(request, Settings(), ENVIRONMENT)
    with claim:
        cell = Cell(model="net.onnx", sha256="0", precision="int8", provider="cpu")
        store.add(run, cell, row, np.linspace(0.001, 0.002, 50))
    outcome = qbench("report")
    assert (outcome.code, outcome.err) == (0, "")
    page = (folder / "report.html").read_text("utf-8")
    assert f"run {run}" in page
    assert "This run was stopped half-way" in page
    assert "calls: 1 of 50 (2.0 %)" in page


def test_layers_and_images(qbench: Qbench, folder: Path) -> None:
    write_json(folder / "debug.json", {"layers": layers_to_show()})
    outcome = qbench("report", "run.json", "--debug", "debug.json", "--svg", "svg", "--json")
    assert outcome.json == {
        "schema_version": 1,
        "output": "report.html",
        "charts": [
            f"svg/{name}.svg"
            for name in ("accuracy-latency", "speed-up", "accuracy-change", "operators", "layers")
        ],
    }
    assert "/stage20/Conv_output_0" in (folder / "report.html").read_text("utf-8")
    assert (
        "wrote png/layers.png"
        in qbench("report", "run.json", "--debug", "debug.json", "--png", "png").out
    )


def test_what_is_no_run_is_one_line(qbench: Qbench, folder: Path) -> None:
    assert "no document at none.json" in refused(qbench("report", "none.json"))
    (folder / "text.json").write_text("text")
    assert "write it again" in refused(qbench("report", "text.json"))
    assert "no run 'latest': none is kept" in refused(qbench("report"), code=2)
    assert not (folder / "report.html").exists()
