"""Images to judge accuracy on."""

from dataclasses import dataclass, replace
from pathlib import Path

from qbench.data.box_labels import labels_beside
from qbench.data.choice import DataChoice, prepared_alike, recipe_by_name
from qbench.data.recipes import Recipe


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
        decoder: How `detect` reads boxes; see `model.decoders`.
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

    def with_recipe(
        self, fed: Path | None, first: Path | None, known: Recipe | None
    ) -> "LabelledData":
        """Return the same with the recipe by which a model's images are prepared.

        Args:
            fed: File of the model or engine.
            first: That of the first model. A name that says nothing, such as int8.onnx, is that of
                a variant of it.
            known: What the model's calibration used.

        Raises:
            DataError: The images are prepared otherwise than for calibration.
        """
        named = first if first is not None and recipe_by_name(fed) is None else fed
        return replace(self, choice=prepared_alike(self.choice, named, known))
