"""The main job from end to end on generated images and the embedded model, offline."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qbench.artifacts import write_bytes
from qbench.benchmarking.benchmark import Options, benchmark
from qbench.benchmarking.result import RunResult
from qbench.benchmarking.settings import MODES
from qbench.benchmarking.subject import LabelledData
from qbench.calibration.calibrate import DataChoice, calibrate
from qbench.calibration.table import CalibrationTable
from qbench.demo.scenes import CALIBRATION_SEEDS, EVALUATION_SEEDS, write_images
from qbench.engines.build import Engine, EngineOptions, build_engine
from qbench.errors import UnfitError
from qbench.quantization.quantize import quantize

MODEL = Path(__file__).with_name("classifier.onnx")

_CALIBRATION_PER_CLASS = 20
_EVALUATION_PER_CLASS = 60

_RECIPE = """\
# How the demo's classifier wants its images.
resize = "stretch"
size = 64
colour = "rgb"
scale = 0.00392156862745098 # 1 / 255
mean = 0.5
std = 0.25
"""

_PROJECT = """\
# Stands in for options that are not given, in this folder.
model = "classifier.onnx"
recipe = "demo"
"""


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


def run_demo(folder: Path, on_step: Callable[[str], None] = lambda _: None) -> DemoResult:
    """Generate images, calibrate, quantize for each target, build an engine and benchmark.

    Args:
        folder: Where everything goes; files of an earlier run are replaced.
        on_step: Told in a few words what comes next.

    Raises:
        StorageError: The folder cannot be written.
    """
    on_step("drawing labelled images")
    model = write_project(folder)
    choice = DataChoice(folder / "imgs", str(folder / "calibration" / "demo.toml"))
    on_step("calibrating")
    table = calibrate(model, choice)
    table.save(folder / "calibration" / "classifier.json")
    for target in ("cpu", "tensorrt"):
        on_step(f"quantizing for {target}")
        output = folder / f"classifier.{target}.int8.onnx"
        quantize(model, target=target, table=table, output=output)
    on_step("building a TensorRT engine")
    engine, missing = _build(model, table, folder)
    result = benchmark(
        model,
        precisions=("fp32", "int8"),
        table=table,
        images=LabelledData(DataChoice(folder / "val")),
        options=Options(settings=MODES["quick"], simulate=True, on_step=on_step),
    )
    return DemoResult(folder, result, engine, missing)


def write_project(folder: Path) -> Path:
    """Write images, model, recipe and project file; return the path of the model."""
    for images, per_class, seeds in (
        ("imgs", _CALIBRATION_PER_CLASS, CALIBRATION_SEEDS),
        ("val", _EVALUATION_PER_CLASS, EVALUATION_SEEDS),
    ):
        shutil.rmtree(folder / images, ignore_errors=True)
        write_images(folder / images, per_class, seeds.start)
    model = folder / MODEL.name
    write_bytes(model, MODEL.read_bytes())
    write_bytes(folder / "calibration" / "demo.toml", _RECIPE.encode())
    write_bytes(folder / "qbench.toml", _PROJECT.encode())
    return model


def _build(model: Path, table: CalibrationTable, folder: Path) -> tuple[Engine | None, str | None]:
    options = EngineOptions(folder=folder / "engines")
    try:
        return build_engine(model, table=table, options=options), None
    except UnfitError as error:
        return None, str(error)
