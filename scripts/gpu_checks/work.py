"""What the checks work on: a model, its data, and a folder that holds whatever they make."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gpu_checks.rows import Rows
from numpy.typing import NDArray

from qbench.benchmarking.judging.labelled_data import LabelledData
from qbench.benchmarking.timing.settings import MODES, Settings
from qbench.calibration.calibrate import calibrate
from qbench.calibration.table import CalibrationTable, load_table
from qbench.data.choice import DataChoice
from qbench.demo.workflow import write_project
from qbench.engines.manifest import read_manifest
from qbench.runtimes.cuda.choose import DEFAULT_BACKEND, open_cuda
from qbench.runtimes.tensorrt.flavour import flavour_named
from qbench.runtimes.tensorrt.runner import TensorRtRunner

PRECISIONS = ("fp32", "fp16", "int8")

_CALIBRATION_IMAGES = 100
_SIDE = 64


@dataclass(frozen=True)
class Work:
    """What to check with.

    Attributes:
        folder: Where models, engines and rows go.
        model: A float ONNX file; None takes the demo's classifier and generated images.
        data: Images for calibration.
        val: Labelled images for accuracy; None measures none.
        labels: Their labels, where folders do not tell.
        recipe: How to preprocess.
        task: Which metric `val` is judged by.
        settings: How long to time.
        cuda_backend: What engines reach the GPU through.
    """

    folder: Path
    model: Path | None = None
    data: Path | None = None
    val: Path | None = None
    labels: Path | None = None
    recipe: str | None = None
    task: str = "classify"
    settings: Settings = MODES["quick"]
    cuda_backend: str = DEFAULT_BACKEND

    @property
    def onnx(self) -> Path:
        """The float model."""
        return self.model or self.folder / "classifier.onnx"

    @property
    def table_path(self) -> Path:
        """Where the calibration table lies."""
        return self.folder / "table.json"

    def table(self) -> CalibrationTable:
        """Return the calibration table.

        Raises:
            CalibrationError: There is none, since the calibration failed.
        """
        return load_table(self.table_path)

    def side(self) -> int:
        """Return what to make of open dimensions: the height that calibration has used."""
        size = self.table().image_size if self.table_path.exists() else None
        return size[0] if size else _SIDE

    def images(self) -> LabelledData | None:
        """Return the labelled images."""
        if self.model is None:
            return LabelledData(DataChoice(self.folder / "val"))
        if self.val is None:
            return None
        return LabelledData(DataChoice(self.val, self.recipe), labels=self.labels, task=self.task)

    def engines(self, rows: Rows) -> Iterator[tuple[str, Path]]:
        """Yield name and path of every engine; say so where there is none, or no GPU."""
        found = sorted(self.folder.glob("engines/*/*.engine"))
        if not found:
            rows.fail("engines", "no engine was built; see `build` above")
            return
        with rows.about("engines"):
            open_cuda(self.cuda_backend).close()
            for path in found:
                yield f"{path.parent.name} {read_manifest(path).precision}", path

    def open(self, engine: Path) -> TensorRtRunner:
        """Load an engine with the TensorRT of its manifest."""
        flavour = flavour_named(read_manifest(engine).flavour)
        return TensorRtRunner(engine, flavour, cuda_backend=self.cuda_backend)


def prepare(work: Work, rows: Rows) -> None:
    """Write the demo's files, unless a model is given, and calibrate."""
    with rows.about("calibration"):
        choice = None
        if work.data is not None:
            choice = DataChoice(work.data, work.recipe, limit=_CALIBRATION_IMAGES)
        if work.model is None:
            write_project(work.folder)
            recipe = work.folder / "calibration" / "demo.toml"
            choice = DataChoice(work.folder / "imgs", str(recipe), limit=_CALIBRATION_IMAGES)
        if choice is None:
            rows.fail("calibration", "INT8 needs --data with the model; the rest goes on")
            return
        table = calibrate(work.onnx, choice)
        table.save(work.table_path)
        rows.add("calibration", f"{work.onnx.name}, {table.header.data.images} samples")


def feeds_for(runner: TensorRtRunner, count: int = 1) -> list[dict[str, NDArray[Any]]]:
    """Return seeded random inputs in the shapes that an engine has most often, batch 1."""
    rng = np.random.default_rng(0)
    return [
        {
            spec.name: rng.standard_normal(
                [d if isinstance(d, int) else 1 for d in spec.shape]
            ).astype(spec.dtype)
            for spec in runner.typical_inputs()
        }
        for _ in range(count)
    ]
