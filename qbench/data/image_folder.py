"""A folder of images as a source."""

from pathlib import Path

from qbench.data.images import IMAGE_ENDINGS, read_image
from qbench.data.preprocess import preprocess
from qbench.data.recipes import Recipe, check_recipe
from qbench.data.samples import Sample, file_digest, files_below, filled, fingerprint
from qbench.errors import DataError
from qbench.formatting import counted
from qbench.model.spec import TensorSpec


class ImageFolder:
    """The images below a folder, sorted by their path in it; hidden files are left out."""

    def __init__(self, folder: Path, recipe: Recipe, spec: TensorSpec) -> None:
        """Find the images.

        Raises:
            DataError: There are none, or the recipe does not fit the input `spec`.
        """
        self._folder, self._recipe, self._spec = folder, recipe, spec
        self._size = check_recipe(recipe, spec)
        self._names = files_below(folder, IMAGE_ENDINGS)
        if not self._names:
            raise DataError(f"no images in {folder}; accepted are {' '.join(IMAGE_ENDINGS)}")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._names)

    def name(self, index: int) -> str:
        """Return the path of an image below the folder."""
        return self._names[index]

    def load(self, index: int) -> Sample:
        """Decode and preprocess an image.

        Raises:
            DataError: The file is unreadable, truncated or no image.
        """
        image = read_image(self._folder / self._names[index])
        array = preprocess(image, self._recipe, self._size)
        feeds = {self._spec.name: filled(array, self._spec)}
        return Sample(self._names[index], feeds, image_size=image.shape[:2])

    def digest(self, index: int) -> str:
        """Return the SHA-256 of an image file; see `file_digest`."""
        return file_digest(self._folder / self._names[index])

    def fingerprint(self) -> str:
        """Return one SHA-256 over the sorted names and hashes of the image files."""
        return fingerprint(self)

    def describe(self) -> str:
        """Return the number of images, the folder, the recipe and the size."""
        height, width = self._size
        return (
            f"{counted(len(self), 'image')} in {self._folder} "
            f"(recipe {self._recipe.name}, {height}x{width})"
        )
