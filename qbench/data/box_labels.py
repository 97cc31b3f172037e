"""Labelled boxes of images: a COCO JSON file, or a folder of YOLO text files."""

import codecs
import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from qbench.data.samples import files_below, sample_name
from qbench.errors import DataError
from qbench.formatting import first_names

logger = logging.getLogger(__name__)

_YOLO_ROW = 5


@dataclass(frozen=True)
class TrueBoxes:
    """The labelled boxes of one image.

    Attributes:
        boxes: x1, y1, x2, y2, [n, 4].
        categories: Category of each box, [n].
        crowd: Whether a box holds a crowd: it is nothing to find, and nothing found in it is wrong.
        relative: Whether `boxes` are shares of the image's width and height, not pixels.
    """

    boxes: NDArray[np.float64]
    categories: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    relative: bool = False

    def in_pixels(self, image_size: tuple[int, int]) -> "TrueBoxes":
        """Return the boxes in pixels of an image of `image_size`, (height, width)."""
        if not self.relative:
            return self
        return replace(self, boxes=self.boxes * np.tile(image_size[::-1], 2), relative=False)


@dataclass(frozen=True)
class BoxLabels:
    """What is to be found in each image.

    Attributes:
        truth: Boxes by sample name; none where an image shows nothing that is labelled.
        categories: All categories, ascending; None where the labels list none.
        notes: What does not match but does no harm, one line each.
        sizes: Height and width of the image that was labelled by sample name, where they are told.
    """

    truth: dict[str, TrueBoxes]
    categories: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)


class _Image(msgspec.Struct):
    id: int | str
    file_name: str
    height: Any = None
    width: Any = None


class _Annotation(msgspec.Struct):
    image_id: int | str
    category_id: int
    bbox: tuple[float, float, float, float]
    iscrowd: int | bool = 0


class _Category(msgspec.Struct):
    id: int


class _Coco(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def load_boxes(source_names: Sequence[str], labels: Path) -> BoxLabels:
    """Return the labelled boxes of the samples `source_names`.

    Args:
        source_names: Names of samples, as a source of images gives them.
        labels: A COCO JSON file, whose `file_name` is a sample's name; or a folder that has
            NAME.txt for NAME.jpg with lines of `class x y width height`: the box's centre and size
            as shares of the image. An image without such a file shows nothing that is labelled.

    Raises:
        DataError: The labels cannot be understood, or none is of these samples.
    """
    if labels.is_dir():
        found = _from_yolo(source_names, labels)
    elif labels.suffix.lower() == ".json":
        found = _from_coco(source_names, labels)
    else:
        raise DataError(
            f"{labels} holds no boxes that qbench reads; "
            "give a COCO .json file or a folder of YOLO .txt files"
        )
    if not any(len(boxes.boxes) for boxes in found.truth.values()):
        raise DataError(f"{labels} has no box for any of the samples; give labels of these images")
    return found


def labels_beside(images: Path) -> Path | None:
    """Return the folder of YOLO text files that belongs to a folder of `images` by its place.

    That is the layout of Ultralytics: of dataset/images/val it is dataset/labels/val, for the last
    `images` in the path. None where there is no such folder, or no text file in it. What is found
    is told by a warning.

    Raises:
        DataError: The folder cannot be read.
    """
    parts = images.absolute().parts
    if "images" not in parts:
        return None
    last = len(parts) - 1 - parts[::-1].index("images")
    folder = Path(*parts[:last], "labels", *parts[last + 1 :])
    if not (images.is_dir() and folder.is_dir() and files_below(folder, (".txt",))):
        return None
    logger.warning("the boxes of %s are read from %s; --labels names others", images, folder)
    return folder


def _from_coco(names: Sequence[str], file: Path) -> BoxLabels:
    document = _read_coco(file)
    if not document.images or not document.annotations:
        raise DataError(f"{file} lists no images or no annotations; give labels of these images")
    by_image = defaultdict(list)
    for annotation in document.annotations:
        by_image[annotation.image_id].append(annotation)
    place = _image_ids(document.images, file)
    truth = {name: _coco_boxes(by_image[place[name]]) for name in names if name in place}
    if not truth:
        raise DataError(
            f"{file} has none of the {len(names)} samples: it names {first_names(place)}, "
            f"the samples are {first_names(names)}; give the labels of this folder"
        )
    categories = tuple(sorted({category.id for category in document.categories}))
    _check_annotations(document, categories, file)
    sizes = {
        sample_name(image.file_name): (image.height, image.width)
        for image in document.images
        if isinstance(image.height, int) and isinstance(image.width, int)
    }
    return BoxLabels(truth, categories, _coco_notes(document, names, truth, file), sizes)


def _image_ids(images: Sequence[_Image], file: Path) -> dict[str, int | str]:
    """Return the id of each image by its name, after checking that each has one of its own."""
    ids: dict[str, int | str] = {}
    names: dict[int | str, str] = {}
    for image in images:
        name = sample_name(image.file_name)
        if ids.setdefault(name, image.id) != image.id:
            raise DataError(f"{file} lists {name} as images {ids[name]} and {image.id}; keep one")
        if names.setdefault(image.id, name) != name:
            raise DataError(
                f"{file} lists image {image.id} as {names[image.id]} and {name}; number them anew"
            )
    return ids


def _coco_notes(
    document: _Coco, names: Sequence[str], truth: Collection[str], file: Path
) -> tuple[str, ...]:
    notes = []
    left = [name for name in names if name not in truth]
    if left:
        counts = f"{len(left)} of {len(names)} samples"
        notes.append(f"{counts} are not in {file} and are left out: {first_names(left)}")
    known = {image.id for image in document.images}
    lost = sum(annotation.image_id not in known for annotation in document.annotations)
    if lost:
        counts = f"{lost} of {len(document.annotations)} boxes"
        notes.append(f"{counts} in {file} belong to no image that it lists and are left out")
    return tuple(notes)


def _read_coco(file: Path) -> _Coco:
    try:
        data = file.read_bytes().removeprefix(codecs.BOM_UTF8)
        return msgspec.json.decode(data, type=_Coco)
    except OSError as error:
        raise DataError(f"cannot read labels {file}: {error.strerror}; check the path") from error
    except msgspec.MsgspecError as error:
        raise DataError(
            f"{file} is no COCO file of boxes: {error}; it needs images, annotations and categories"
        ) from error


def _check_annotations(document: _Coco, categories: tuple[int, ...], file: Path) -> None:
    known = frozenset(categories)
    for annotation in document.annotations:
        if min(annotation.bbox[2:]) < 0:
            raise DataError(
                f"{file}: box {list(annotation.bbox)} of image {annotation.image_id} has a "
                "negative size; give x, y, width, height"
            )
        if annotation.category_id not in known:
            raise DataError(
                f"{file}: category {annotation.category_id} of image {annotation.image_id} is not "
                "among its categories; add it there"
            )


def _coco_boxes(annotations: Sequence[_Annotation]) -> TrueBoxes:
    corners = np.array([annotation.bbox for annotation in annotations], float).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return TrueBoxes(
        corners,
        np.array([annotation.category_id for annotation in annotations], np.int64),
        np.array([bool(annotation.iscrowd) for annotation in annotations], np.bool_),
    )


def _from_yolo(names: Sequence[str], folder: Path) -> BoxLabels:
    files = {name: folder / PurePosixPath(name).with_suffix(".txt") for name in names}
    rows = {name: _rows(file) for name, file in files.items() if file.is_file()}
    if not rows:
        raise DataError(
            f"{folder} has a .txt file for none of the {len(names)} samples, such as "
            f"{first_names(names)}; give the folder that has "
            f"{PurePosixPath(names[0]).with_suffix('.txt')}"
        )
    truth = {name: _yolo_boxes(rows.get(name, ()), file) for name, file in files.items()}
    missing = [name for name in names if name not in rows]
    note = (
        f"{len(missing)} of {len(names)} samples have no .txt file in {folder} and count as empty: "
    )
    return BoxLabels(truth, None, (note + first_names(missing),) if missing else ())


def _rows(file: Path) -> list[tuple[int, str]]:
    """Return line numbers with lines that are not empty."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read labels {file}: {error}; save it as UTF-8 text") from error
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _yolo_boxes(rows: Sequence[tuple[int, str]], file: Path) -> TrueBoxes:
    values = np.array([_yolo_row(*row, file) for row in rows], float).reshape(-1, _YOLO_ROW)
    centre, half = values[:, 1:3], values[:, 3:] / 2
    return TrueBoxes(
        np.hstack([centre - half, centre + half]),
        values[:, 0].astype(np.int64),
        np.zeros(len(values), np.bool_),
        relative=True,
    )


def _yolo_row(number: int, line: str, file: Path) -> list[float]:
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        values = []
    if len(values) != _YOLO_ROW or values[0] < 0 or values[0] % 1:
        raise DataError(
            f"{file}, line {number} is {line!r}; write a class index and the centre and size of "
            "its box: class x y width height"
        )
    if not all(0 <= value <= 1 for value in values[1:]):
        raise DataError(
            f"{file}, line {number} has a box beyond the image; "
            "give shares of the image's width and height, 0 to 1"
        )
    return values
