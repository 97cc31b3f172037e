"""What a caller gives to feed and judge on, brought together with what calibration knows."""

from dataclasses import dataclass, replace
from pathlib import Path

from qbench.benchmarking.feeding import Feeding, Images
from qbench.calibration.table import CalibrationTable
from qbench.data.box_labels import labels_beside
from qbench.data.choice import DataChoice, chosen_recipe, recipe_by_name
from qbench.errors import DataError
from qbench.model.load import Model
from qbench.model.spec import TensorSpec


@dataclass(frozen=True)
class LabelledData:
    """Images to judge accuracy on.

    Attributes:
        choice: Which images; their recipe is the calibration table's unless it names one.
        labels: For `classify` a CSV `file,label`, or None for a folder per class; for `detect` a
            COCO JSON file or a folder of YOLO text files, or None where their place tells (see
            `box_labels.labels_beside`); for `segment` a folder of masks; not for `embed`.
            `classify` and `detect` without any labels are about the agreement with the first model
            in FP32.
        task: A key of `judges.TASKS`.
        decoder: How `detect` reads boxes; see `evaluation.decoders`.
    """

    choice: DataChoice
    labels: Path | str | None = None
    task: str = "classify"
    decoder: str = "auto"

    def with_labels(self) -> "LabelledData":
        """Return the same with the labels that the place of its images tells, if none are given.

        Raises:
            DataError: A folder cannot be read.
        """
        if self.labels is not None or self.task != "detect":
            return self
        return replace(self, labels=labels_beside(Path(self.choice.path)))


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

    def of_model(self, model: Model, table: CalibrationTable | None) -> Feeding:
        """Return what an ONNX model takes, in all its precisions.

        Raises:
            DataError: The images cannot be used, or are prepared otherwise than for calibration.
        """
        feeding = self._feeding(model.path, table, model.inputs)
        feeding.check()
        return feeding

    def of_engine(self, path: Path, table: CalibrationTable | None) -> Feeding:
        """Return what an engine takes.

        Raises:
            DataError: The images are prepared otherwise than for calibration.
        """
        return self._feeding(path, table, None)

    def _feeding(
        self,
        fed: Path | None,
        table: CalibrationTable | None,
        inputs: tuple[TensorSpec, ...] | None,
    ) -> Feeding:
        size = self.image_size or (table.header.image_size if table else None)
        return Feeding(inputs, size, self._images(fed, table))

    def _images(self, fed: Path | None, table: CalibrationTable | None) -> Images | None:
        if self.images is None:
            return None
        given, reference = self.images, self.reference
        # A name that says nothing, such as int8.onnx, is that of a variant of the first model.
        named = reference.path if reference and recipe_by_name(fed) is None else fed
        recipe = chosen_recipe(named, _with_recipe(given.choice, table))
        known = table.header.recipe if table else None
        if known is not None and recipe is not None and known != recipe:
            raise DataError(
                f"images are prepared by recipe {recipe.name!r}, but calibration used "
                f"{known.name!r}; drop --recipe or calibrate again with it"
            )
        return Images(
            Path(given.choice.path),
            recipe,
            given.choice.limit,
            None if given.labels is None else Path(given.labels),
            given.task,
            given.decoder,
            reference.path if reference else None,
        )


def _with_recipe(choice: DataChoice, table: CalibrationTable | None) -> DataChoice:
    """Return `choice` with the recipe that the table was made with, unless it names its own."""
    if choice.recipe is not None or table is None:
        return choice
    return replace(choice, recipe=table.header.recipe)
