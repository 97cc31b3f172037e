"""The main job from end to end on generated images and an embedded model, offline."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import msgspec

from qbench.artifacts import write_bytes
from qbench.benchmarking.benchmark import Options, benchmark
from qbench.benchmarking.judging.labelled_data import LabelledData
from qbench.benchmarking.result import RunResult
from qbench.benchmarking.timing.settings import MODES
from qbench.calibration.calibrate import calibrate
from qbench.calibration.table import CalibrationTable
from qbench.data.choice import DataChoice
from qbench.demo.crowds import write_crowds
from qbench.demo.scenes import CALIBRATION_SEEDS, EVALUATION_SEEDS, write_images
from qbench.engines.build import Engine, EngineOptions, build_engine
from qbench.errors import UnfitError, UsageError
from qbench.evaluation.coco import load_library
from qbench.quantization.quantize import quantize

MODEL = Path(__file__).with_name("classifier.onnx")
DETECTOR = Path(__file__).with_name("detector.onnx")

_CALIBRATION_PER_CLASS = 20
_EVALUATION_PER_CLASS = 60
_CALIBRATION_CROWDS = 64
_EVALUATION_CROWDS = 120

_CLASSIFIER_RECIPE = """\
# How the demo's classifier wants its images.
resize = "stretch"
size = 64
colour = "rgb"
scale = 0.00392156862745098 # 1 / 255
mean = 0.5
std = 0.25
"""

_DETECTOR_RECIPE = """\
# How the demo's detector wants its images: as the models of the YOLOv8 family.
resize = "letterbox"
size = 160
interpolation = "bilinear"
colour = "rgb"
scale = 0.00392156862745098 # 1 / 255
pad = "centre"
pad_value = 114
"""

_PROJECT_FILE = "qbench.toml"

_PROJECT = """\
# Stands in for options that are not given, in this folder.
model = "{}"
recipe = "demo"
"""


@dataclass(frozen=True)
class Subject:
    """What the demo shows.

    Attributes:
        model: The embedded model.
        recipe: Its recipe, as TOML.
        draw: Writes images into a folder, `imgs/` to calibrate on and `val/` to judge on; returns
            the labels of `val/`, None where its folders say.
    """

    model: Path
    recipe: str
    draw: Callable[[Path], Path | None]

    @property
    def project(self) -> bytes:
        """Content of the project file."""
        return _PROJECT.format(self.model.name).encode()


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    Attributes:
        folder: A project folder: images, model, recipe, table, quantized models, engine.
        result: The table of accuracy against latency.
        engine: The TensorRT engine, or None where no TensorRT is installed.
        missing: What is missing for the engine, or None.
    """

    folder: Path
    result: RunResult
    engine: Engine | None
    missing: str | None


def run_demo(
    folder: Path, on_step: Callable[[str], None] = lambda _: None, *, task: str = "classify"
) -> DemoResult:
    """Generate images, calibrate, quantize for each target, build an engine and benchmark.

    Args:
        folder: Where everything goes; files of an earlier run are replaced.
        on_step: Told in a few words what comes next.
        task: A key of `SUBJECTS`.

    Raises:
        StorageError: The folder cannot be written.
        UnfitError: The task is `detect`, and what computes mAP is not installed.
        UsageError: The task is unknown, or the folder holds files that no demo wrote.
    """
    if task not in SUBJECTS:
        raise UsageError(f"there is no demo of task {task!r}; choose {' or '.join(SUBJECTS)}")
    check_folder(folder, task)
    if task == "detect":
        load_library()  # before anything is made in vain
    on_step("drawing labelled images")
    model, images = write_project(folder, task)
    on_step("calibrating")
    table = calibrate(model, DataChoice(folder / "imgs", images.choice.recipe))
    _seen_from_within(table).save(folder / "calibration" / f"{model.stem}.json")
    for target in ("cpu", "tensorrt"):
        on_step(f"quantizing for {target}")
        output = folder / f"{model.stem}.{target}.int8.onnx"
        quantize(model, target=target, table=table, output=output)
    on_step("building a TensorRT engine")
    engine, missing = _build(model, table, folder)
    result = benchmark(
        model,
        precisions=("fp32", "int8"),
        table=table,
        images=images,
        options=Options(settings=MODES["quick"], simulate=True, on_step=on_step),
    )
    return DemoResult(folder, result, engine, missing)


def check_folder(folder: Path, task: str) -> None:
    """Make sure that the demo of a key of `SUBJECTS` replaces no files but those of an earlier one.

    Raises:
        UsageError: It would.
    """
    project = folder / _PROJECT_FILE
    if project.is_file() and project.read_bytes() in {one.project for one in SUBJECTS.values()}:
        return
    names = (_PROJECT_FILE, "imgs", "val", SUBJECTS[task].model.name)
    for name in names:
        if (folder / name).exists():
            raise UsageError(
                f"{folder / name} is not of the demo, which would replace it; "
                "choose another folder with -o"
            )


def write_project(folder: Path, task: str = "classify") -> tuple[Path, LabelledData]:
    """Write images, model, recipe and project file of a key of `SUBJECTS`.

    Returns:
        Path of the model, and the images to judge it on.
    """
    subject = SUBJECTS[task]
    write_bytes(folder / _PROJECT_FILE, subject.project)  # first, by which the rest is known again
    for images in ("imgs", "val"):
        shutil.rmtree(folder / images, ignore_errors=True)
    labels = subject.draw(folder)
    model, recipe = folder / subject.model.name, folder / "calibration" / "demo.toml"
    write_bytes(model, subject.model.read_bytes())
    write_bytes(recipe, subject.recipe.encode())
    return model, LabelledData(DataChoice(folder / "val", str(recipe)), labels, task)


def _seen_from_within(table: CalibrationTable) -> CalibrationTable:
    """Return `table` as it would be, had it been made by hand in the project folder."""
    data = msgspec.structs.replace(table.header.data, source="imgs")
    return replace(table, header=msgspec.structs.replace(table.header, data=data))


def _draw_classes(folder: Path) -> None:
    write_images(folder / "imgs", _CALIBRATION_PER_CLASS, CALIBRATION_SEEDS.start)
    write_images(folder / "val", _EVALUATION_PER_CLASS, EVALUATION_SEEDS.start)


def _draw_crowds(folder: Path) -> Path:
    write_crowds(folder / "imgs", _CALIBRATION_CROWDS, CALIBRATION_SEEDS.start)
    return write_crowds(folder / "val", _EVALUATION_CROWDS, EVALUATION_SEEDS.start)


def _build(model: Path, table: CalibrationTable, folder: Path) -> tuple[Engine | None, str | None]:
    options = EngineOptions(folder=folder / "engines")
    try:
        return build_engine(model, table=table, options=options), None
    except UnfitError as error:
        return None, str(error)


SUBJECTS: Mapping[str, Subject] = MappingProxyType(
    {
        "classify": Subject(MODEL, _CLASSIFIER_RECIPE, _draw_classes),
        "detect": Subject(DETECTOR, _DETECTOR_RECIPE, _draw_crowds),
    }
)
"""What each task is shown on."""
