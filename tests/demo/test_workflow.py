from pathlib import Path

import pytest

from qbench.benchmarking.timing.settings import Settings
from qbench.calibration.table import load_table
from qbench.data.choice import DataChoice
from qbench.data.recipes import load_recipe
from qbench.demo import workflow
from qbench.demo.workflow import SUBJECTS, check_folder, run_demo, write_project
from qbench.errors import UnfitError, UsageError

TINY = Settings(min_rounds=6, max_rounds=6, max_seconds=0.05, block_seconds=1e-5, warmup_seconds=0)


@pytest.fixture(autouse=True)
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    for count in ("CALIBRATION_PER_CLASS", "EVALUATION_PER_CLASS"):
        monkeypatch.setattr(workflow, f"_{count}", 1)
    for count in ("CALIBRATION_CROWDS", "EVALUATION_CROWDS"):
        monkeypatch.setattr(workflow, f"_{count}", 6)
    monkeypatch.setitem(workflow.MODES, "quick", TINY)


def no_library() -> None:
    raise UnfitError("mAP needs faster-coco-eval")


def test_the_detector_goes_all_the_way(tmp_path: Path) -> None:
    steps: list[str] = []
    found = run_demo(tmp_path, steps.append, task="detect")
    rows = {(row.precision, row.provider): row for row in found.result.rows}
    assert list(rows) == [
        ("fp32", "cpu"),
        ("int8", "cpu"),
        ("int8", "cpu (simulated)"),
        ("int8", "tensorrt (simulated)"),
    ]
    for row in rows.values():
        assert row.accuracy is not None
        assert (row.accuracy.metric, row.accuracy.n) == ("map", 6)
        assert row.accuracy.value > 0.5
    assert rows["int8", "cpu"].latency_ms is not None
    made = {path.name for path in tmp_path.iterdir()}
    models = {"detector.onnx", "detector.cpu.int8.onnx", "detector.tensorrt.int8.onnx"}
    assert made >= models | {"imgs", "imgs.json", "val", "val.json", "calibration", "qbench.toml"}
    assert steps[:2] == ["drawing labelled images", "calibrating"]
    table = load_table(tmp_path / "calibration" / "detector.json")
    assert table.header.data.source == "imgs"  # for commands that are run in the folder


@pytest.mark.parametrize("task", SUBJECTS)
def test_a_project_says_how_its_model_is_fed(task: str, tmp_path: Path) -> None:
    model, images = write_project(tmp_path, task)
    recipe = tmp_path / "calibration" / "demo.toml"
    assert images.choice == DataChoice(tmp_path / "val", str(recipe))
    assert images.task == task
    assert load_recipe(str(recipe)).size is not None
    project = (tmp_path / "qbench.toml").read_text()
    assert f'model = "{model.name}"\nrecipe = "demo"\n' in project


def test_the_detector_is_fed_as_its_family_is(tmp_path: Path) -> None:
    write_project(tmp_path, "detect")
    own, family = load_recipe(str(tmp_path / "calibration" / "demo.toml")), load_recipe("yolov8")
    for key in ("resize", "interpolation", "colour", "scale", "pad", "pad_value", "mean", "std"):
        assert getattr(own, key) == getattr(family, key)


def test_images_of_an_earlier_run_are_replaced(tmp_path: Path) -> None:
    stale = tmp_path / "val" / "stale.png"
    stale.parent.mkdir()
    stale.touch()
    write_project(tmp_path, "detect")
    assert not stale.exists()


@pytest.mark.parametrize("name", ["imgs", "val", "qbench.toml", "classifier.onnx"])
def test_files_that_are_not_of_the_demo_stay(name: str, tmp_path: Path) -> None:
    """Whoever runs the demo in a project of their own keeps it."""
    (tmp_path / name).write_text("own")
    with pytest.raises(UsageError, match=rf"{name} is not of the demo, .*; choose another folder"):
        run_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "own"


def test_a_demo_takes_the_place_of_another(tmp_path: Path) -> None:
    check_folder(tmp_path / "not-there", "classify")
    write_project(tmp_path, "detect")
    for task in SUBJECTS:
        check_folder(tmp_path, task)


def test_what_is_missing_for_map_is_said_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow, "load_library", no_library)
    with pytest.raises(UnfitError, match="mAP needs faster-coco-eval"):
        run_demo(tmp_path / "demo", task="detect")
    assert not (tmp_path / "demo").exists()


def test_a_task_without_a_demo(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no demo of task 'segment'; choose classify or detect"):
        run_demo(tmp_path, task="segment")
