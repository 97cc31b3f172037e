"""What `qbench bench` keeps, goes on with, and holds against an older run."""

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

from qbench.benchmarking.ledger import Cell
from qbench.benchmarking.result import Row
from qbench.benchmarking.timing.settings import MODES
from qbench.cli import bench_run
from qbench.runs.ledger import RunLedger
from qbench.runs.reader import Reader

from .conftest import Outcome, Qbench, SaveModel, classifier, refused

pytestmark = pytest.mark.usefixtures("quick")

BENCH = ("bench", "m.onnx", "--quick", "--in-process")
CALIBRATION = ("--data", "imgs", "--recipe", "raw")
DATA = (*CALIBRATION, "--task", "classify")


@pytest.fixture(autouse=True)
def folder(project: Path) -> Path:
    return project


def test_every_run_is_kept_and_named(qbench: Qbench) -> None:
    outcome = qbench(*BENCH, "--precisions", "fp32,fp16", *DATA)
    assert outcome.code == 0
    (run,) = Reader().summaries()
    assert outcome.out.splitlines()[-1].split() == ["run", run.id]
    assert (run.models, run.rows, run.finished) == (("m.onnx",), 2, True)
    kept = Reader().load(run.id)
    assert list(kept.samples) == list(kept.judged) == [0, 1]
    assert all(row.latency_ms for row in kept.result.rows)
    shown = qbench("runs", "show", run.id).out.splitlines()
    assert shown[-len(outcome.out.splitlines()) + 1 :] == outcome.out.splitlines()[:-1]


def test_json_is_one_document_with_the_name_of_the_run(qbench: Qbench) -> None:
    outcome = qbench(*BENCH, "--json")
    assert outcome.json["run"] == Reader().resolve("latest")
    assert outcome.err == ""
    assert qbench("runs", "export", "latest").json["rows"] == outcome.json["rows"]


def test_nothing_is_kept_where_that_is_asked(qbench: Qbench, folder: Path) -> None:
    outcome = qbench(*BENCH, "--no-store", "--json")
    assert outcome.json["run"] is None
    assert not (folder / ".qbench").exists()
    assert "run  " not in qbench(*BENCH, "--no-store").out


def test_a_run_that_fails_leaves_nothing(qbench: Qbench, folder: Path) -> None:
    assert qbench(*BENCH, "--precisions", "int3").code == 2
    assert not (folder / ".qbench").exists()


def test_where_nothing_can_be_written_the_table_is_printed(
    qbench: Qbench, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / ".qbench").write_text("in the way")
    outcome = qbench(*BENCH)
    assert outcome.code == 0
    assert outcome.out.startswith("precision")
    assert "run  " not in outcome.out
    assert caplog.text.count("this run is not kept: cannot make .qbench: File exists;") == 1


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_costs_no_figure(
    qbench: Qbench, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.chmod(0o555)
    try:
        outcome = qbench(*BENCH)
    finally:
        folder.chmod(0o755)
    assert (outcome.code, outcome.out[:9]) == (0, "precision")
    assert "this run is not kept: cannot make .qbench: Permission denied" in caplog.text


# Going on


DYING = """
import os, signal, sys
from qbench.benchmarking.ledger import Cell
from qbench.benchmarking.result import Row
from qbench.benchmarking.timing.settings import MODES, Settings
from qbench.cli.main import main
from qbench.runs.ledger import RunLedger

MODES["quick"] = Settings(
    min_rounds=6, max_rounds=6, max_seconds=0.05, block_seconds=1e-5, warmup_seconds=0.0
)
save, rows = RunLedger.save, int(sys.argv.pop(1))

def dying(self, *given):
    global rows
    save(self, *given)
    rows -= 1
    if not rows:
        os.kill(os.getpid(), signal.SIGKILL)

RunLedger.save = dying
main()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 here")
def test_a_bench_that_was_killed_goes_on(qbench: Qbench, save: SaveModel) -> None:
    save(classifier(("N", 3, 16, 16)), "m.onnx")
    asked = (*BENCH, "--batch", ",".join(map(str, range(1, 12))), *DATA)
    died = subprocess.run(
        [sys.executable, "-c", DYING, "9", *asked], capture_output=True, text=True, check=False
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    (run,) = Reader().summaries()
    assert (run.rows, run.finished) == (9, False)
    before = Reader().load(run.id)
    assert len(before.samples) == 9

    outcome = qbench(*asked, "--json")
    assert outcome.code == 0
    assert outcome.err.startswith(f"run {run.id} goes on; kept: the rows m.onnx fp32 cpu, ")
    assert outcome.err.endswith("and 1 accuracy (--restart measures all)\n")
    assert outcome.json["run"] == run.id
    (again,) = Reader().summaries()
    assert (again.rows, again.finished) == (11, True)
    after = Reader().load(run.id)
    assert [row.batch for row in after.result.rows] == list(range(1, 12))
    assert after.result.rows[:9] == before.result.rows
    assert all((after.samples[i] == before.samples[i]).all() for i in range(9))
    assert len(after.samples) == len(after.judged) == 11


@pytest.fixture
def stopped(qbench: Qbench, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """A run that Ctrl-C ended after its first row."""
    save = RunLedger.save

    def interrupted(self: RunLedger, *given: object) -> None:
        save(self, *given)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunLedger, "save", interrupted)
        return qbench(*BENCH, "--precisions", "fp32,fp16")


def test_ctrl_c_says_what_is_kept(stopped: Outcome) -> None:
    (run,) = Reader().summaries()
    assert (stopped.code, stopped.out) == (130, "")
    assert f"run {run.id} is kept; the same command goes on with it" in stopped.err
    assert (run.rows, run.finished) == (1, False)


def test_a_stopped_run_can_be_measured_anew(stopped: Outcome, qbench: Qbench) -> None:
    outcome = qbench(*BENCH, "--precisions", "fp32,fp16", "--restart")
    assert (outcome.code, outcome.err) == (0, "")
    latest, first = Reader().summaries()
    assert (latest.rows, latest.finished, first.finished) == (2, True, False)
    assert f"run {first.id} is kept" in stopped.err


@pytest.mark.parametrize(
    "changed", [("--quick", "--threads", 1), ("--quick", "--limit", 3), ("--strict",)]
)
def test_other_options_begin_another_run(
    changed: tuple[str, ...], qbench: Qbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODES, "strict", msgspec.structs.replace(MODES["quick"], seed=1))
    asked = (*BENCH, "--precisions", "fp32,fp16", *DATA)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunLedger, "save", interrupted)
        assert qbench(*asked).code == 130
    without_effort = (word for word in asked if word != "--quick")
    assert qbench(*without_effort, *changed).err == ""
    assert len(Reader().summaries()) == 2
    assert "goes on; kept: 2 accuracies" in qbench(*asked).err


def test_what_the_folder_says_in_place_of_options_begins_another_run(
    qbench: Qbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes and recipes of `qbench.toml`, and what a recipe's file says."""
    asked: list[dict[str, object]] = []

    def noted(self: RunLedger) -> None:
        asked.append(self._request.options)

    def measured(*given: object) -> None:
        assert qbench("bench", "m.onnx", "--quick", "--in-process", *given).code == 0

    monkeypatch.setattr(RunLedger, "resume", noted)
    images = ("--data", "imgs", "--task", "classify")
    measured()
    Path("qbench.toml").write_text("size = 16\n", encoding="utf-8")
    measured()
    Path("qbench.toml").write_text('recipe = "mine"\n', encoding="utf-8")
    Path("calibration").mkdir(exist_ok=True)
    for mean in (0, 1):
        Path("calibration/mine.toml").write_text(f"mean = {mean}\n", encoding="utf-8")
        measured(*images)
    measured(*images, "--recipe", "calibration/mine.toml")
    assert all(one != other for one, other in itertools.pairwise(asked[:4]))
    assert asked[4] == asked[3]  # the same, named otherwise


def test_other_boxes_beside_the_images_begin_another_run(
    qbench: Qbench,
    monkeypatch: pytest.MonkeyPatch,
    project: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    keys = []
    monkeypatch.setattr(RunLedger, "resume", lambda self: keys.append(self._request.images))
    (project / "imgs").rename(project / "images")
    (project / "labels").mkdir()
    for text in ("0 .5 .5 1 1", "0 .5 .5 .5 .5"):
        (project / "labels" / "00.txt").write_text(text, encoding="utf-8")
        qbench("bench", "m.onnx", "--data", "images", "--task", "detect")
    assert len(set(keys)) == 2
    assert caplog.text.count("the boxes of images are read from") == 2  # once each time


def test_another_calibration_begins_another_run(
    qbench: Qbench, monkeypatch: pytest.MonkeyPatch, calibrated: Path
) -> None:
    del calibrated
    keys = []

    def noted(self: RunLedger) -> None:
        keys.append(self._request.options["tables"])

    monkeypatch.setattr(RunLedger, "resume", noted)
    qbench("calibrate", "m.onnx", "--data", "imgs", "--recipe", "raw")
    qbench(*BENCH, "--precisions", "int8")
    qbench("calibrate", "m.onnx", "--data", "imgs", "--recipe", "raw", "--limit", 3)
    qbench(*BENCH, "--precisions", "int8")
    qbench(*BENCH, "--precisions", "int8", "--table", "calibration/m.json")
    qbench(*BENCH)
    qbench(*BENCH, "--precisions", "fp16")  # which a table may help
    qbench(*BENCH, *DATA, "--simulate")
    assert len(set(keys[0].values()) | set(keys[1].values())) == 2
    assert keys[2].keys() - keys[1].keys() == {"given"}
    assert keys[3] == {}
    assert keys[4] == keys[5] == keys[1]


# Holding against an older run


def other(save: SaveModel) -> Path:
    """The model of the folder in another file, with another hash."""
    model = onnx.load("m.onnx")
    model.doc_string = "newer"
    return save(model, "new.onnx")


def test_the_baseline_is_measured_again_beside_the_new_model(
    qbench: Qbench, save: SaveModel
) -> None:
    first = qbench(*BENCH, *DATA, "--json").json["run"]
    outcome = qbench("bench", other(save), *BENCH[2:], *DATA, "--baseline", first, "--json")
    found = outcome.json
    assert [row["model"] for row in found["rows"]] == ["m.onnx", "new.onnx"]
    baseline = found["baseline"]
    assert baseline["reason"] == f"the models of {first}, measured again beside the new ones"
    assert baseline["judgement"] is None
    (change,) = baseline["comparison"]["rows"]
    assert change["speed"]["ratio"] == found["rows"][1]["ratio"]["value"]
    assert change["speed"]["ci_low"] == pytest.approx(found["rows"][1]["ratio"]["ci_low"])
    assert change["accuracy"]["difference"] == 0
    assert change["accuracy"]["verdict"] == "within noise"


def test_the_kept_figures_are_taken_where_the_model_is_gone(
    qbench: Qbench, save: SaveModel
) -> None:
    first = qbench(*BENCH, "--json").json["run"]
    path = other(save)
    Path("m.onnx").unlink()
    outcome = qbench("bench", path, *BENCH[2:], "--baseline", "latest")
    text = " ".join(outcome.out.split())
    assert f"baseline the figures of {first} as they were kept: " in text
    assert "m.onnx is gone" in text
    assert (
        "measured in two sessions, and intervals are wider by what these may differ; "
        "to measure both in one, put it back"
    ) in text
    assert max(map(len, outcome.out.splitlines())) <= 100
    assert outcome.out.splitlines()[-1].split()[0] == "run"


def test_a_given_table_is_that_of_its_model_and_the_baseline_finds_its_own(
    qbench: Qbench, save: SaveModel
) -> None:
    newer = other(save)
    qbench("calibrate", "m.onnx", *CALIBRATION)
    int8 = ("--precisions", "fp32,int8")
    first = qbench(*BENCH, *int8, "--json").json["run"]
    qbench("calibrate", newer, *CALIBRATION, "-o", "new.json")
    asked = ("bench", newer, *BENCH[2:], *int8, "--table", "new.json", "--baseline")
    found = qbench(*asked, first, "--json").json
    assert found["baseline"]["reason"] == (
        f"the models of {first}, measured again beside the new ones"
    )
    assert [(row["model"], row["precision"], row["error"]) for row in found["rows"]] == [
        ("m.onnx", "fp32", None),
        ("m.onnx", "int8", None),
        ("new.onnx", "fp32", None),
        ("new.onnx", "int8", None),
    ]
    Path("calibration/m.json").unlink()
    text = " ".join(qbench(*asked, first).out.split())
    assert "no calibration table of m.onnx is in calibration" in text
    assert "to measure both in one, put it there" in text


def test_a_table_of_none_of_several_models(qbench: Qbench, save: SaveModel) -> None:
    first = other(save)
    model = onnx.load("m.onnx")
    model.doc_string = "newest"
    second = save(model, "newest.onnx")
    for path in ("m.onnx", first, second):
        qbench("calibrate", path, *CALIBRATION)
    table = ("--table", "calibration/m.json")
    error = refused(qbench("bench", first, second, "--precisions", "int8", *table), 1)
    assert "was made from m.onnx, which is none of these models; drop --table" in error


def test_a_document_can_be_the_baseline(qbench: Qbench, folder: Path) -> None:
    (folder / "before.json").write_text(qbench(*BENCH, "--no-store", "--json").out)
    found = qbench(*BENCH, "--no-store", "--baseline", "before.json", "--json").json["baseline"]
    assert found["reason"].endswith("as they were kept: a document names no model files")
    assert found["comparison"]["rows"][0]["speed"]["ci_low"] is None


def forged(monkeypatch: pytest.MonkeyPatch, milliseconds: float) -> None:
    """Let the next run take as long as said, with a control that finds no noise."""
    measured, save = bench_run.benchmark, RunLedger.save

    def forge_samples(ledger: RunLedger, cell: Cell, row: Row, samples: Any) -> None:
        save(ledger, cell, row, np.full_like(samples, milliseconds / 1e3))

    def forge(*given: object, **more: object) -> object:
        result = measured(*given, **more)  # type: ignore[arg-type]
        rows = [msgspec.structs.replace(row, ratio=None) for row in result.rows]
        return msgspec.structs.replace(result, rows=tuple(rows), control=None, trusted=True)

    monkeypatch.setattr(RunLedger, "save", forge_samples)
    monkeypatch.setattr(bench_run, "benchmark", forge)


@pytest.mark.parametrize(
    ("milliseconds", "code", "message"),
    [
        (2.0, 0, ""),
        (2.06, 4, "qbench: error: not settled: m.onnx fp32 cpu takes +3.0 % ["),
        (4.0, 3, "qbench: error: regression: m.onnx fp32 cpu takes +100.0 % ["),
    ],
)
def test_limits(
    milliseconds: float, code: int, message: str, qbench: Qbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = qbench(*BENCH, "--json").json["run"]
    (file,) = Path(f".qbench/samples/{first}").glob("*.npy")
    np.save(file, np.full(100, 0.002))
    forged(monkeypatch, milliseconds)
    monkeypatch.setattr("qbench.runs.compare.Sides.trusted", True)
    monkeypatch.setattr("qbench.runs.compare.Sides.noise", 0.0)
    outcome = qbench(*BENCH, "--baseline", first, "--fail-on", "3%")
    assert outcome.code == code
    assert outcome.err.startswith(message)
    assert outcome.out.splitlines()[-1].split()[0] == "run"


def test_limits_need_a_baseline(qbench: Qbench, folder: Path) -> None:
    error = refused(qbench(*BENCH, "--fail-on", "3%"), 2)
    assert "--fail-on holds against an older run; add --baseline RUN" in error
    assert not (folder / ".qbench").exists()


def test_a_baseline_that_is_none(qbench: Qbench) -> None:
    assert "no run 'zz': none is kept in" in refused(qbench(*BENCH, "--baseline", "zz"), 2)
