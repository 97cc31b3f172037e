"""Class labels of images: a CSV file, or a folder per class."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qbench.data.samples import sample_name
from qbench.errors import DataError
from qbench.formatting import first_names

_CLASSES_FILE = "classes.txt"
# Tables in which a label was missing once have all of them as floats: 7.0.
_INDEX = re.compile(r"[+-]?[0-9]{1,18}(\.0*)?")


@dataclass(frozen=True)
class Labels:
    """Which class each sample belongs to.

    Attributes:
        index: Class index by sample name.
        classes: Class names by index; None where only indices are known.
        notes: What does not match but does no harm, one line each.
    """

    index: dict[str, int]
    classes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def load_labels(source_names: Sequence[str], labels: Path | None, data: Path) -> Labels:
    """Return the labels of the samples `source_names` of the source at `data`.

    Args:
        source_names: Names of samples, as a source gives them.
        labels: A CSV file with the header `file,label`, where a label is a class index or a class
            name; or a folder which has a folder per class; None means `data` is such a folder.
            Class names are in the order of a `classes.txt` beside them, else sorted.
        data: Folder or file of the source; files in a CSV are relative to the folder.

    Raises:
        DataError: A label cannot be understood, or no sample has one.
    """
    if labels is None or labels.is_dir():
        return _labels_from_tree(source_names, labels or data, data)
    return _labels_from_csv(source_names, labels, data)


def named_classes(labels: Path | None, data: Path) -> tuple[str, ...]:
    """Return the names whose order gives classes their indices, but for those in a CSV file itself.

    Args:
        labels: As in `load_labels`.
        data: As in `load_labels`.

    Raises:
        DataError: A `classes.txt` cannot be read.
    """
    root = data if labels is None else labels
    if root.is_dir():
        return _read_classes(root) or _folders(root)
    return _read_classes(root.parent) or ()


def has_class_folders(source_names: Sequence[str], data: Path) -> bool:
    """Return whether any sample of the source at `data` lies in a folder, which names its class."""
    return data.is_dir() and any("/" in name for name in source_names)


def _labels_from_tree(names: Sequence[str], root: Path, data: Path) -> Labels:
    if not root.is_dir():
        raise DataError(f"{root} has no folder per class; give --labels with a CSV file,label")
    classes = _read_classes(root) or _folders(root)
    place = {name: index for index, name in enumerate(classes)}
    base, top = _base(data).resolve(), root.resolve()
    index: dict[str, int] = {}
    for name in names:
        folder = _class_folder(base / name, top)
        if folder is None:
            continue
        if folder not in place:
            raise DataError(f"{root / _CLASSES_FILE} lacks the class {folder!r} of {name}; add it")
        index[name] = place[folder]
    if not index:
        raise DataError(
            f"no image lies in a class folder of {root}; give --labels with a CSV file,label"
        )
    return Labels(index, classes, _notes(names, index, f"lie in a class folder of {root}"))


def _folders(root: Path) -> tuple[str, ...]:
    # All folders count, not only those of the samples at hand: a subset must not shift the indices.
    found = (path.name for path in root.iterdir() if path.is_dir())
    return tuple(sorted(name for name in found if not name.startswith(".")))


def _class_folder(path: Path, root: Path) -> str | None:
    """Return the first folder below `root` on the way to a sample, None where there is none."""
    if not path.is_relative_to(root):
        return None
    parts = path.relative_to(root).parts
    return parts[0] if len(parts) > 1 else None


def _labels_from_csv(names: Sequence[str], file: Path, data: Path) -> Labels:
    texts = _read_rows(file)
    indices, classes = _indices(texts, file)
    index = {name: indices[name] for name in names if name in indices}
    if not index:
        raise DataError(
            f"{file} has no label for any of the {len(names)} samples: it names "
            f"{first_names(texts)}, the samples are {first_names(names)}; "
            f"make its files relative to {_base(data)}"
        )
    # Files that are there but were not chosen, as with a limit, need no note.
    absent = [name for name in texts if name not in index and not _exists(name, data)]
    notes = _notes(names, index, f"have a label in {file}")
    if absent:
        notes += (
            f"{len(absent)} of {len(texts)} labels in {file} belong to no file in {_base(data)}: "
            f"{first_names(absent)}",
        )
    return Labels(index, classes, notes)


def _read_rows(file: Path) -> dict[str, str]:
    """Return the label texts by file."""
    texts: dict[str, str] = {}
    for line, (name, text) in _rows(file):
        if not name or not text:
            raise DataError(f"{file}, line {line} has no file or no label; complete or remove it")
        if texts.setdefault(name, text) != text:
            raise DataError(f"{file}, line {line} gives {name} a second label {text!r}; keep one")
    if not texts:
        raise DataError(f"{file} holds no labels; add lines of file,label")
    return texts


def _rows(file: Path) -> list[tuple[int, tuple[str, str]]]:
    """Return line numbers with file and label."""
    try:
        # utf-8-sig: spreadsheets put a byte-order mark in front.
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            reader.fieldnames = columns = [_text(name).lower() for name in reader.fieldnames or ()]
            if columns.count("file") != 1 or columns.count("label") != 1:
                raise DataError(f"{file} lacks the header file,label; make it the first line")
            return [
                (reader.line_num, _file_and_label(row, reader.line_num, file)) for row in reader
            ]
    except OSError as error:
        raise DataError(f"cannot read labels {file}: {error.strerror}; check the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} is no CSV in UTF-8 ({error}); save it as such") from error


def _file_and_label(row: Mapping[str | None, Any], line: int, file: Path) -> tuple[str, str]:
    if any(row.get(None, ())):  # where the reader puts cells beyond the header
        raise DataError(
            f"{file}, line {line} has more cells than the header; put names with a comma in quotes"
        )
    return sample_name(_text(row["file"])), _text(row["label"])


def _text(cell: str | None) -> str:
    return (cell or "").strip()


def _indices(texts: Mapping[str, str], file: Path) -> tuple[dict[str, int], tuple[str, ...] | None]:
    """Return class indices by file, and the class names."""
    classes = _read_classes(file.parent)
    if all(map(_INDEX.fullmatch, texts.values())):
        indices = {name: int(text.partition(".")[0]) for name, text in texts.items()}
        for name, index in indices.items():
            if index < 0 or (classes is not None and index >= len(classes)):
                end = "" if classes is None else f" to {len(classes) - 1}"
                raise DataError(f"{file}: label {index} of {name} is no class; give 0{end}")
        return indices, classes
    place = _places(texts, classes, file)
    return {name: place[text] for name, text in texts.items()}, tuple(place)


def _places(
    texts: Mapping[str, str], classes: tuple[str, ...] | None, file: Path
) -> dict[str, int]:
    """Return class indices by class name, after checking that every label is one."""
    known = classes or tuple(sorted(set(texts.values())))
    for name, text in texts.items():
        if known.count(text) > 1:
            raise DataError(f"{text!r} stands twice in {_CLASSES_FILE}; give indices in {file}")
        if classes is not None and text not in classes:
            raise DataError(
                f"{file}: label {text!r} of {name} is not in {_CLASSES_FILE}; correct it"
            )
        if classes is None and _INDEX.fullmatch(text):
            raise DataError(
                f"{file}: label {text} of {name} is an int, but others are not; "
                "give indices or names throughout"
            )
    return {text: index for index, text in enumerate(known)}


def _read_classes(folder: Path) -> tuple[str, ...] | None:
    path = folder / _CLASSES_FILE
    if not path.is_file():
        return None
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read {path} ({error}); save it as UTF-8, a class a line"
        ) from error
    return tuple(line.strip() for line in lines if line.strip())


def _notes(names: Sequence[str], index: Mapping[str, int], what: str) -> tuple[str, ...]:
    left = [name for name in names if name not in index]
    if not left:
        return ()
    return (
        f"{len(left)} of {len(names)} samples do not {what} and are left out: {first_names(left)}",
    )


def _base(data: Path) -> Path:
    """Return the folder that sample names are relative to."""
    return data if data.is_dir() else data.parent


def _exists(name: str, data: Path) -> bool:
    # The samples of an .npz file are named FILE.npz[ROW].
    try:
        return (_base(data) / re.sub(r"(?<=\.npz)\[[0-9]+\]$", "", name)).exists()
    except OSError:  # longer than a file's name can be
        return False
