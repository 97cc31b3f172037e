"""What a model is judged on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qbench.data.recipes import Recipe
from qbench.data.samples import Source
from qbench.errors import UsageError

if TYPE_CHECKING:
    from qbench.model.load import Model  # which loads the graph library, and that takes seconds


@dataclass(frozen=True)
class Material:
    """What a model is judged on.

    Attributes:
        source: The samples.
        data: Where they come from.
        recipe: How they were prepared; None for arrays.
        labels: Where their labels are; None where the task needs none, or finds them by itself.
        decoder: How boxes are read; see `model.decoders`.
        reference: The float model, or its file, that is agreed with without labels; None where only
            engines are judged and their model is gone.
    """

    source: Source
    data: Path
    recipe: Recipe | None
    labels: Path | None
    decoder: str
    reference: Model | Path | None

    @property
    def names(self) -> list[str]:
        """Names of all samples."""
        return [self.source.name(index) for index in range(len(self.source))]

    def float_model(self) -> Model:
        """Return the reference.

        Raises:
            UsageError: There is none.
        """
        if self.reference is None:
            raise UsageError(
                "without labels an engine is compared with its float model, which is gone or "
                "changed; name an .onnx file before it, or give --labels"
            )
        if isinstance(self.reference, Path):
            from qbench.model.load import load  # takes seconds to import, and labels do without

            return load(self.reference)
        return self.reference
