"""`qbench tune`: its options, its text, its JSON and its exit codes."""

import json
from pathlib import Path

import pytest

from qbench.benchmarking import speedup
from qbench.benchmarking.timing.settings import MODES

from .conftest import Qbench, files, refused

DATA = ("--data", "imgs", "--recipe", "raw")
FAST = ("--effort", "fast")
TENSORRT = ("tune", "m.onnx", "--target", "tensorrt", *DATA, *FAST)
IMPOSSIBLE = ("--metric", "cosine", "--budget", "0.0000001%", "--max-trials", 1)


def test_the_best_model_is_written_with_its_trials(calibrated: Path, qbench: Qbench) -> None:
    before = files(calibrated)
    outcome = qbench(*TENSORRT, "--metric", "cosine", "--budget", "5%", "--json")
    document = outcome.json
    assert (outcome.code, document["met"], document["minimal"]) == (0, True, True)
    assert document.keys() == {
        "schema_version",
        "output",
        "journal",
        "target",
        "budget",
        "met",
        "within_noise",
        "minimal",
        "baseline",
        "best",
        "float_nodes",
        "trials",
    }
    assert document["budget"] == pytest.approx(0.05)
    assert document["baseline"]["value"] == pytest.approx(1)
    assert document["best"] in document["trials"]
    assert document["best"]["accuracy"]["difference"].keys() == {"value", "ci_low", "ci_high"}
    assert files(calibrated) - before == {document["output"], document["journal"]}
    assert document["output"] == "m.tensorrt.tuned.onnx"
    assert json.loads(Path(document["journal"]).read_bytes())["trials"] == document["trials"]


@pytest.mark.usefixtures("calibrated", "quick")
def test_top1_on_the_cpu_is_timed(qbench: Qbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speedup, "GLANCE", MODES["quick"])
    outcome = qbench(
        "tune", "m.onnx", "--target", "cpu", *DATA, *FAST, "--budget", "50%", "-o", "best.onnx"
    )
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "top1" in lines[0]
    assert "meets the budget of 50" in " ".join(outcome.out.split())
    assert lines[-1].split() == ["wrote", "best.onnx"]


@pytest.mark.usefixtures("calibrated")
def test_ctrl_c_says_that_trials_are_kept(qbench: Qbench, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("qbench.tuning.tune.tune", interrupted)
    outcome = qbench(*TENSORRT, *IMPOSSIBLE)
    assert (outcome.code, outcome.out) == (130, "")
    assert "what was tried is kept; the same command goes on with it" in outcome.err
    outcome = qbench(*TENSORRT, *IMPOSSIBLE, "--restart")
    assert "is kept; the same command without --restart goes on with it" in outcome.err


@pytest.mark.usefixtures("calibrated")
def test_a_budget_that_is_missed_is_exit_code_3_and_the_nearest_is_written(qbench: Qbench) -> None:
    outcome = qbench(*TENSORRT, *IMPOSSIBLE)
    assert outcome.code == 3
    assert outcome.err.startswith("qbench: error: the nearest of 1 trials loses ")
    assert "raise --budget" in outcome.err
    assert outcome.err.count("\n") == 1
    assert max(map(len, outcome.out.splitlines())) <= 80
    assert "misses the budget of 1e-07" in " ".join(outcome.out.split())
    assert Path("m.tensorrt.tuned.onnx").exists()


@pytest.mark.usefixtures("calibrated")
def test_json_of_a_budget_that_is_missed(qbench: Qbench) -> None:
    outcome = qbench(*TENSORRT, *IMPOSSIBLE, "--json")
    assert (outcome.code, outcome.json["met"], outcome.json["minimal"]) == (3, False, False)


@pytest.mark.usefixtures("calibrated")
@pytest.mark.parametrize("budget", ["0", "x", "200%", "1", "-1%", "nan%"])
def test_budgets_that_are_no_share(qbench: Qbench, budget: str) -> None:
    error = refused(qbench(*TENSORRT, f"--budget={budget}"), 2)
    assert f"{budget!r} is no share; write percent, as in 95%" in error


@pytest.mark.usefixtures("calibrated")
def test_a_budget_that_says_nothing(qbench: Qbench) -> None:
    error = refused(qbench(*TENSORRT, "--budget=100%"), 2)
    assert "'100%' allows any loss; write what may be lost, as in 0.5%" in error


@pytest.mark.usefixtures("calibrated")
def test_nothing_may_be_lost(qbench: Qbench) -> None:
    outcome = qbench(*TENSORRT, "--budget=0%", "--json")
    assert outcome.code == (0 if outcome.json["met"] else 3)
    assert outcome.json["met"] is (outcome.json["best"]["accuracy"]["difference"]["value"] >= 0)


@pytest.mark.usefixtures("calibrated")
def test_all_work_may_be_held_in_int8(qbench: Qbench) -> None:
    outcome = qbench(*TENSORRT, "--budget", "99%", "--min-int8", "100%", "--json")
    assert (outcome.code, outcome.json["best"]["float_nodes"]) == (0, [])


@pytest.mark.usefixtures("calibrated")
def test_images_are_needed(qbench: Qbench) -> None:
    outcome = qbench("tune", "m.onnx", "--target", "cpu", "--budget", "1%")
    assert "top1 is taken on images; add --data FOLDER" in refused(outcome, 2)


@pytest.mark.usefixtures("calibrated")
def test_images_are_prepared_as_in_calibration(qbench: Qbench) -> None:
    outcome = qbench(*TENSORRT, "--budget", "1%", "--recipe", "imagenet", "--size", 16)
    assert "prepared by recipe 'imagenet', but calibration used 'raw'" in refused(outcome)


@pytest.mark.usefixtures("project")
def test_a_table_is_needed(qbench: Qbench) -> None:
    error = refused(qbench(*TENSORRT, "--budget", "1%"))
    assert "run `qbench calibrate m.onnx --data OTHER_IMAGES` before" in error


@pytest.mark.usefixtures("calibrated")
def test_a_tuned_model_is_not_taken_for_the_model_of_the_folder(qbench: Qbench) -> None:
    arguments = ("--target", "tensorrt", *DATA, *FAST, "--metric", "cosine", "--budget", "5%")
    assert qbench("tune", *arguments).code == 0
    assert qbench("tune", *arguments).code == 0
