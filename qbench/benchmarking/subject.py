"""What is fed to a model or an engine in a benchmark, and what judges it."""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from qbench.benchmarking.judges import TASKS, Judge, Material
from qbench.calibration.calibrate import DataChoice, Fed, open_choice
from qbench.calibration.table import CalibrationTable
from qbench.data.samples import Sample, Source
from qbench.data.synthetic import SyntheticSource
from qbench.errors import DataError
from qbench.model.load import Model
from qbench.model.spec import TensorSpec
from qbench.runtimes.base import Runner
from qbench.runtimes.tensorrt import TensorRtRunner


@dataclass(frozen=True)
class LabelledData:
    """Images to judge accuracy on.

    Attributes:
        choice: Which images; their recipe is the calibration table's unless it names one.
        labels: For `classify` a CSV `file,label`, or None for a folder per class; for `detect` a
            COCO JSON file or a folder of YOLO text files; for `segment` a folder of masks; not for
            `embed`. `classify` and `detect` without any labels are about the agreement with the
            first model in FP32.
        task: A key of `judges.TASKS`.
        decoder: How `detect` reads boxes; see `evaluation.decoders`.
    """

    choice: DataChoice
    labels: Path | None = None
    task: str = "classify"
    decoder: str = "auto"


@dataclass(frozen=True)
class Feed:
    """How to feed, whatever the model.

    Attributes:
        images: Images to judge on; None judges nothing.
        reference: The float model that is agreed with where there are no labels.
        image_size: Height and width of random samples where the model is dynamic.
    """

    images: LabelledData | None = None
    reference: Model | None = None
    image_size: tuple[int, int] | None = None


class Subject(Protocol):
    """Feeds and judges the runners of one model."""

    def sample(self, runner: Runner) -> Sample:
        """Return what to feed while timing: the first good image, or noise of the right shape."""

    def judge(self, runner: Runner) -> Judge | None:
        """Return what judges accuracy; None where there are no images."""


class ModelSubject:
    """An ONNX model; all its precisions take the same data, which is opened at once.

    Raises:
        DataError: The images cannot be used, or are prepared otherwise than for calibration.
    """

    def __init__(self, model: Model, table: CalibrationTable | None, feed: Feed) -> None:
        self._data = _Data(model, table, feed)

    def sample(self, runner: Runner) -> Sample:
        """Return what to feed while timing."""
        del runner
        return self._data.sample()

    def judge(self, runner: Runner) -> Judge | None:
        """Return what judges accuracy."""
        del runner
        return self._data.judge


class EngineSubject:
    """An engine, which tells what it takes only once it is loaded."""

    def __init__(self, path: Path, table: CalibrationTable | None, feed: Feed) -> None:
        self._path, self._table, self._feed = path, table, feed
        self._data: _Data | None = None

    def sample(self, runner: Runner) -> Sample:
        """Return what to feed while timing."""
        return self._opened(runner).sample()

    def judge(self, runner: Runner) -> Judge | None:
        """Return what judges accuracy."""
        return self._opened(runner).judge

    def _opened(self, runner: Runner) -> "_Data":
        if self._data is None:
            inputs = (
                runner.typical_inputs() if isinstance(runner, TensorRtRunner) else runner.inputs
            )
            self._data = _Data(_Engine(self._path, inputs), self._table, self._feed)
        return self._data


@dataclass(frozen=True)
class _Engine:
    path: Path
    inputs: tuple[TensorSpec, ...]


class _Data:
    """Samples for what is fed, and the judge on them."""

    def __init__(self, fed: Fed, table: CalibrationTable | None, feed: Feed) -> None:
        self._fed = fed
        self._size = feed.image_size or (table.header.image_size if table else None)
        self._source: Source | None = None
        self.judge: Judge | None = None
        if feed.images is not None:
            images = feed.images
            recipe, self._source = open_choice(fed, _with_recipe(images.choice, table))
            known = table.header.recipe if table else None
            if known is not None and recipe is not None and known != recipe:
                raise DataError(
                    f"images are prepared by recipe {recipe.name!r}, but calibration used "
                    f"{known.name!r}; drop --recipe or calibrate again with it"
                )
            material = Material(
                self._source,
                images.choice.path,
                recipe,
                images.labels,
                images.decoder,
                feed.reference,
            )
            self.judge = TASKS[images.task](material)

    def sample(self) -> Sample:
        if self._source is not None:
            return _first_sample(self._source)
        return SyntheticSource(self._fed.inputs, count=1, seed=0, size=self._size).load(0)


def _first_sample(source: Source) -> Sample:
    """Return the first sample that can be read; too many that cannot are noticed elsewhere."""
    for index in range(len(source) - 1):
        with suppress(DataError):
            return source.load(index)
    return source.load(len(source) - 1)


def _with_recipe(choice: DataChoice, table: CalibrationTable | None) -> DataChoice:
    """Return `choice` with the recipe that the table was made with, unless it names its own."""
    if choice.recipe is not None or table is None:
        return choice
    return replace(choice, recipe=table.header.recipe)
