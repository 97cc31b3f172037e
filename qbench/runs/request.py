"""What a benchmark was asked to measure, and the key by which a stopped run is found again.

Who only reads requests waits for no graph library, whose import takes a second.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from qbench.artifacts import check_name, sha256_bytes, sha256_files
from qbench.benchmarking.environment import Environment, machine_of
from qbench.benchmarking.presentation.naming import told_apart
from qbench.benchmarking.timing.settings import Settings
from qbench.data.samples import walk

_BY_CONTENT = {".csv", ".json", ".npz", ".txt"}
"""Arrays and labels, whose size alone would not tell that they changed."""


class ModelFile(msgspec.Struct, frozen=True):
    """A model or an engine that was measured.

    Attributes:
        path: Absolute.
        sha256: Of the file, and of a model's external data.
    """

    path: str
    sha256: str

    @property
    def name(self) -> str:
        """Name of the file."""
        return Path(self.path).name


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for.

    Attributes:
        command: The words of the command line.
        models: In their order.
        options: All else that decides what is measured.
        images: Fingerprint of the images and labels; None without any.
    """

    command: tuple[str, ...]
    models: tuple[ModelFile, ...]
    options: dict[str, Any]
    images: str | None = None

    def key(self, settings: Settings, environment: Environment) -> str:
        """Return a hash of all that two parts of one run must have in common."""
        names = told_apart(Path(model.path) for model in self.models)
        models = [(names[Path(model.path)], model.sha256) for model in self.models]
        machine = (machine_of(environment), environment.python, environment.versions)
        parts = (models, self.options, self.images, settings, machine)
        return sha256_bytes(msgspec.json.encode(parts, order="sorted"))


def model_file(path: Path) -> ModelFile:
    """Return a model's or engine's file with its hash; of an engine that is missing, it is empty.

    Raises:
        ModelError: The model is missing, or cannot be read.
        StorageError: Its path is not in UTF-8.
    """
    from qbench.benchmarking.given_engines import is_engine
    from qbench.model.load import load

    check_name(path.absolute())
    if not is_engine(path):
        return ModelFile(str(path.absolute()), load(path).sha256)
    return ModelFile(str(path.absolute()), sha256_files([path]) if path.is_file() else "")


def fingerprint(data: Path | None, labels: Path | None = None) -> str | None:
    """Return a hash of the files at and below both; None where both are None.

    Images count by name and size, so that thousands of them take no time; all else by its content,
    also masks.
    """
    if data is None and labels is None:
        return None
    places = ((data, False), (labels, labels != data))
    found = [list(_traits(place, whole)) for place, whole in places if place is not None]
    return sha256_bytes(repr(found).encode())  # which escapes names that are no text


def _traits(place: Path, whole: bool) -> Iterator[tuple[str, int, str]]:
    """Yield name, size and hash of files; images have no hash, unless the `whole` counts."""
    files = sorted(walk(place)) if place.is_dir() else [place]
    for file in files:
        if file.is_file():
            is_read = whole or file.suffix.lower() in _BY_CONTENT
            content = sha256_files([file]) if is_read else ""
            yield file.relative_to(place).as_posix(), file.stat().st_size, content
