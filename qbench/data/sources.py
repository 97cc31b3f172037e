"""Open what a user names as data: a folder of images, or NumPy files."""

import logging
from collections.abc import Sequence
from pathlib import Path

from qbench.data.image_folder import ImageFolder
from qbench.data.images import IMAGE_ENDINGS, UNREAD_ENDINGS
from qbench.data.npz import NpzSource
from qbench.data.recipes import Recipe, builtin_recipes
from qbench.data.samples import Source, files_below
from qbench.errors import DataError
from qbench.formatting import counted, first_names
from qbench.model.spec import TensorSpec

logger = logging.getLogger(__name__)

_ACCEPTED = (
    f"give a folder of images ({' '.join(IMAGE_ENDINGS)}) or of .npz files, or one .npz file"
)

_DATA_SETS = (".yaml", ".yml")


def open_source(path: Path, specs: Sequence[TensorSpec], recipe: Recipe | None) -> Source:
    """Return the samples at `path` for a model with the inputs `specs`.

    A folder with images is read as images by `recipe`, any other as .npz files.

    Raises:
        DataError: There is nothing that can be used, or it does not fit the inputs.
    """
    if path.is_file() and path.suffix.lower() == ".npz":
        return NpzSource(path, specs)
    if not path.is_dir():
        if path.suffix.lower() in _DATA_SETS:
            raise DataError(
                f"{path} describes a data set and is not read; give the folder of images that its "
                "line `val` (to calibrate: `train`) names"
            )
        problem = f"{path} is a file" if path.exists() else f"no data at {path}"
        raise DataError(f"{problem}; {_ACCEPTED}")
    if files_below(path, IMAGE_ENDINGS):
        return _open_images(path, specs, recipe)
    if files_below(path, (".npz",)):
        return NpzSource(path, specs)
    raise DataError(f"no images in {path}; {_ACCEPTED}")


def is_arrays(path: Path) -> bool:
    """Return whether `open_source` reads arrays at `path`: it prefers images in a folder."""
    if path.is_dir():
        return bool(files_below(path, (".npz",))) and not files_below(path, IMAGE_ENDINGS)
    return path.suffix.lower() == ".npz"


def _open_images(path: Path, specs: Sequence[TensorSpec], recipe: Recipe | None) -> ImageFolder:
    if len(specs) != 1:
        names = ", ".join(spec.name for spec in specs)
        raise DataError(
            f"{path} holds images, but the model has {len(specs)} inputs ({names}); give "
            "--data with .npz files that hold one array per input"
        )
    if recipe is None:
        raise DataError(
            f"{path} holds images, but no recipe says how to preprocess them; "
            f"give --recipe with one of {', '.join(builtin_recipes())} or a .toml file"
        )
    source = ImageFolder(path, recipe, specs[0])
    if unread := files_below(path, UNREAD_ENDINGS):
        logger.warning(
            "%s in %s passed over for the type: %s; convert to PNG what shall count",
            counted(len(unread), "file"),
            path,
            first_names(unread),
        )
    return source
