"""Which data to read, and how: a folder or arrays, and a recipe."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from qbench.data.recipes import Recipe, load_recipe
from qbench.data.samples import Source, subset
from qbench.data.sources import is_arrays, open_source
from qbench.errors import DataError
from qbench.model.spec import TensorSpec

logger = logging.getLogger(__name__)

USUAL_RECIPE = "imagenet"
"""What is assumed where nothing says how images are to be prepared."""


@dataclass(frozen=True)
class DataChoice:
    """Which data to read, and how.

    Attributes:
        path: A folder of images, or .npz arrays.
        recipe: A recipe, its name, or a .toml file; ignored for arrays.
        size: Height and width where model and recipe leave them open.
        limit: Use this many samples, evenly spaced; None for all.
    """

    path: Path | str
    recipe: Recipe | str | None = None
    size: tuple[int, int] | None = None
    limit: int | None = None


def open_choice(
    model: Path | None, specs: Sequence[TensorSpec], choice: DataChoice
) -> tuple[Recipe | None, Source]:
    """Return the recipe (None for arrays) and the samples of `choice`.

    Args:
        model: File of the model or engine that is fed.
        specs: Its inputs.
        choice: Which data.

    Raises:
        DataError: The data cannot be read, or does not fit the model.
    """
    recipe = chosen_recipe(model, choice)
    source = open_source(Path(choice.path), specs, recipe)
    return recipe, subset(source, choice.limit)


def prepared_alike(choice: DataChoice, model: Path | None, known: Recipe | None) -> DataChoice:
    """Return `choice` with its recipe read, or with the one that calibration used.

    Images may be of another size than for calibration, where that is said.

    Args:
        choice: Which data.
        model: File of the model or engine that is fed.
        known: What calibration used; None where that is not known, or it used arrays.

    Raises:
        DataError: The two differ.
    """
    choice = choice if choice.recipe is not None else replace(choice, recipe=known)
    recipe = chosen_recipe(model, choice)
    if known is None or recipe is None:
        return replace(choice, recipe=recipe)
    if _but_for_size(known) != _but_for_size(recipe):
        raise DataError(
            f"images are prepared by recipe {recipe.name!r}, but calibration used "
            f"{known.name!r}; drop --recipe or calibrate again with it"
        )
    size = known.size if recipe.size is None else recipe.size
    return replace(choice, recipe=msgspec.structs.replace(recipe, size=size))


def _but_for_size(recipe: Recipe) -> Recipe:
    return msgspec.structs.replace(recipe, size=None, dynamic_size=None)


def chosen_recipe(model: Path | None, choice: DataChoice) -> Recipe | None:
    """Return the recipe of `choice` for the model or engine in a file; None for arrays.

    Raises:
        RecipeError: The recipe is unknown or malformed.
    """
    return None if is_arrays(Path(choice.path)) else _recipe(model, choice)


def _recipe(model: Path | None, choice: DataChoice) -> Recipe:
    recipe = choice.recipe
    if recipe is None:
        recipe = guess_recipe(model)
    if isinstance(recipe, str):
        recipe = load_recipe(recipe)
    return msgspec.structs.replace(recipe, size=choice.size) if choice.size else recipe


def guess_recipe(model: Path | None) -> str:
    """Return the recipe that a model's file name speaks of, else `imagenet`; say so in the log.

    A wrong recipe is a common cause of lost accuracy, so the guess is a warning.
    """
    recipe = recipe_by_name(model) or USUAL_RECIPE
    logger.warning("no --recipe given: %r is assumed; a wrong recipe costs accuracy", recipe)
    return recipe


def recipe_by_name(path: Path | None) -> str | None:
    """Return the recipe that a model's file name speaks of; None where it speaks of none."""
    stem = path.stem.lower().replace("_", "-") if path else ""
    known = {"efficientnet-lite": "efficientnet-lite", "yolox": "yolox", "yolo": "yolov8"}
    return next((recipe for key, recipe in known.items() if key in stem), None)
