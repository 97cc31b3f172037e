"""Labelled pixels of images: a folder of masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from qbench.data.images import png_chunks, png_from_chunks
from qbench.data.preprocess import Pixels
from qbench.errors import DataError
from qbench.formatting import first_names

_HEADER_SIZE, _BITS_AT, _COLOUR_AT = 13, 8, 9
_GRAY, _PALETTE = 0, 3
_MOST_BITS = 8


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
        DataError: There is no such folder, or no sample has one.
    """
    if not folder.is_dir():
        raise DataError(f"no folder of masks at {folder}; check the path")
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
        path: A gray or palette PNG of 1, 2, 4 or 8 bits, whose values as they are stored are class
            indices; 255 does not count. Colours of a palette do not matter.
        image_size: Height and width of the image that the mask belongs to.

    Raises:
        DataError: It is no such image, or of another size.
    """
    try:
        mask = _stored_values(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read mask {path}: {error.strerror}; check the file") from error
    if mask is None:
        raise DataError(
            f"{path} is no gray or palette PNG of up to 8 bits, or damaged; save class indices as "
            "gray values, 255 for none"
        )
    if mask.shape != image_size:
        raise DataError(
            f"{path} has {mask.shape[0]}x{mask.shape[1]} pixels, but its image has "
            f"{image_size[0]}x{image_size[1]}; give the masks of this folder"
        )
    return mask


def _stored_values(data: bytes) -> Pixels | None:
    """Return the values of the pixels of a PNG file, None where it has none of up to 8 bits.

    OpenCV gives the colours of a palette in place of its indices, and stretches gray values of few
    bits to 0..255. So the file is decoded as if its values were gray, and the stretching undone.
    """
    chunks = png_chunks(data)
    if chunks is None or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != _HEADER_SIZE:
        return None
    header = bytearray(chunks[0][1])
    bits = header[_BITS_AT]
    if header[_COLOUR_AT] not in (_GRAY, _PALETTE) or bits > _MOST_BITS:
        return None
    header[_COLOUR_AT] = _GRAY
    pixels = [chunk for chunk in chunks if chunk[0] == b"IDAT"]
    file = png_from_chunks([(b"IHDR", bytes(header)), *pixels, (b"IEND", b"")])
    try:
        mask: Any = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    return None if mask is None else mask // np.uint8(255 // (2**bits - 1))
