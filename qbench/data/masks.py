"""Labelled pixels of images: a folder of masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from qbench.data.preprocess import Pixels
from qbench.data.samples import first_names
from qbench.errors import DataError


@dataclass(frozen=True)
class MaskLabels:
    """Where the mask of each image is.

    Attributes:
        files: Path of the mask by sample name.
        notes: What does not match but does no harm, one line each.
    """

    files: dict[str, Path]
    notes: tuple[str, ...] = ()


def find_masks(source_names: Sequence[str], folder: Path) -> MaskLabels:
    """Return the masks NAME.png in `folder` of the samples NAME.jpg, whatever their ending.

    Raises:
        DataError: No sample has one.
    """
    paths = {name: folder / PurePosixPath(name).with_suffix(".png") for name in source_names}
    files = {name: path for name, path in paths.items() if path.is_file()}
    if not files:
        raise DataError(
            f"{folder} has a .png mask for none of the {len(paths)} samples, such as "
            f"{first_names(paths)}; give the masks of this folder"
        )
    left = [name for name in paths if name not in files]
    note = f"{len(left)} of {len(paths)} samples have no mask in {folder} and are left out: "
    return MaskLabels(files, (note + first_names(left),) if left else ())


def read_mask(path: Path, image_size: tuple[int, int]) -> Pixels:
    """Return the class index of each pixel, [height, width].

    Args:
        path: A gray image of 8 bits, whose values are class indices; 255 does not count.
        image_size: Height and width of the image that the mask belongs to.

    Raises:
        DataError: It is no such image, or of another size.
    """
    # The stubs promise an array, but OpenCV returns None for what it cannot read.
    mask: Pixels | None = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)  # type: ignore[assignment]
    if mask is None or mask.ndim != 2 or mask.dtype != np.uint8:
        raise DataError(
            f"{path} is no gray image of 8 bits; save class indices as gray values, 255 for none"
        )
    if mask.shape != image_size:
        raise DataError(
            f"{path} has {mask.shape[0]}x{mask.shape[1]} pixels, but its image has "
            f"{image_size[0]}x{image_size[1]}; give the masks of this folder"
        )
    return mask
