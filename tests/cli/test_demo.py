"""`qbench demo`: which folder it fills, and what it tells to do there."""

from pathlib import Path

import click
import pytest

from qbench.benchmarking import environment
from qbench.benchmarking.result import Accuracy, Row, RunResult
from qbench.benchmarking.timing.settings import Settings
from qbench.cli.demo import demo
from qbench.demo import workflow
from qbench.demo.workflow import SUBJECTS, DemoResult
from qbench.errors import UnfitError

from .conftest import Qbench, refused


def shown(folder: Path, on_step: object, *, task: str) -> DemoResult:
    """Take the place of `run_demo`."""
    del on_step
    accuracy = Accuracy("map" if task == "detect" else "top1", 0.8, 10, 0.7, 0.9)
    row = Row(model="m.onnx", precision="fp32", provider="cpu", accuracy=accuracy)
    result = RunResult(environment=environment.capture(), settings=Settings(), rows=(row,))
    return DemoResult(folder, result, None, "no TensorRT is installed")


@pytest.mark.parametrize(
    ("options", "folder", "command"),
    [
        ((), "qbench-demo", "qbench inspect && qbench calibrate --data imgs/"),
        (
            ("--task", "detect"),
            "qbench-detect",
            "qbench bench --task detect --data val --labels val.json",
        ),
        (
            ("--task", "detect", "-o", "d"),
            "d",
            "qbench bench --task detect --data val --labels val.json",
        ),
    ],
)
def test_what_to_do_next(
    options: tuple[str, ...],
    folder: str,
    command: str,
    qbench: Qbench,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workflow, "run_demo", shown)
    lines = qbench("demo", *options).out.splitlines()
    assert lines[-1] == f"  cd {folder} && {command}"
    assert "no engine: no TensorRT is installed" in lines
    assert max(map(len, lines)) <= 80


def test_every_task_that_has_a_demo_is_offered() -> None:
    (task,) = (option for option in demo.params if option.name == "task")
    assert isinstance(task.type, click.Choice)
    assert list(task.type.choices) == list(SUBJECTS)


def test_a_detector_needs_what_computes_map(
    tmp_path: Path, qbench: Qbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("qbench.evaluation.coco.import_module", missing)
    text = refused(qbench("demo", "--task", "detect"), UnfitError.exit_code)
    assert text.endswith(
        "mAP needs faster-coco-eval, which is not installed; "
        "run `uv pip install faster-coco-eval` or `pip install faster-coco-eval`\n"
    )
    assert not list(tmp_path.iterdir())
