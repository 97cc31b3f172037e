"""Samples, the Source protocol, and what holds for every source: skipping, choosing, hashing."""

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qbench.artifacts import check_name, sha256_bytes, sha256_files
from qbench.errors import DataError, UsageError
from qbench.formatting import first_names
from qbench.model.spec import TensorSpec

MAX_SKIPPED_PERCENT = 10
"""Share of unusable samples beyond which the whole set is not to be trusted."""

_SHIFT = np.random.default_rng(0).random()
"""Where a chosen sample lies in its stretch of the source, from 0 to 1."""


@dataclass(frozen=True)
class Sample:
    """One sample, ready to be fed to a model.

    Attributes:
        name: Unique in its source; of an image, its path below the folder with forward slashes.
        feeds: Arrays by input name. The leading batch axis is 1, or what the model fixes: then the
            sample is repeated.
        image_size: Height and width of the image before preprocessing; None for arrays.
        is_call: The arrays are those of one call, whose leading axis need not be a batch.
        stacked: How many samples make up the batch of one that holds several; else 0.
    """

    name: str
    feeds: dict[str, NDArray[Any]]
    image_size: tuple[int, int] | None = None
    is_call: bool = False
    stacked: int = 0

    @property
    def batch(self) -> int:
        """How many samples it is, or how many times one is repeated."""
        if self.is_call or self.stacked:
            return self.stacked or 1
        return max((len(array) for array in self.feeds.values() if array.ndim), default=1)


def filled(array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """Return a copy of `array`, which is one sample, as often as the input `spec` fixes its batch.

    A part of an array would keep all of it in memory. Statistics of a repeated sample are those of
    the sample, but for the counts.
    """
    return np.repeat(array, fixed_batch(spec), axis=0)


def fixed_batch(spec: TensorSpec) -> int:
    """Return the batch that an input is fixed to, 1 where it is open."""
    first = spec.shape[0] if spec.shape else None
    return first if isinstance(first, int) else 1


def share_batch(specs: Sequence[TensorSpec]) -> bool:
    """Return whether axis 0 of all inputs can be one batch.

    It cannot where an input is a scalar, or where one has a fixed first axis of more than 1 that
    others do not have, as the state [2, N, 128] of a recurrent model.
    """
    firsts = [spec.shape[0] for spec in specs if spec.shape]
    sizes = {first if isinstance(first, int) else 1 for first in firsts}
    return len(firsts) == len(specs) and len(sizes) == 1


class Source(Protocol):
    """A finite, ordered set of samples, read one by one."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def name(self, index: int) -> str:
        """Return the name of a sample without reading it."""

    def load(self, index: int) -> Sample:
        """Return a sample. Threads may call it at the same time.

        Raises:
            DataError: This sample cannot be used.
        """

    def digest(self, index: int) -> str:
        """Return the SHA-256 of what a sample is made from: a file, or a generator's seed."""

    def fingerprint(self) -> str:
        """Return one SHA-256 over the sorted names and digests of all samples."""

    def describe(self) -> str:
        """Return what this is, for messages."""


class Skips:
    """Samples that could not be used; threads may add to it at the same time."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._errors: dict[str, DataError] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the samples, sorted."""
        with self._lock:
            return tuple(sorted(self._errors))

    def add(self, name: str, error: DataError) -> None:
        """Note that a sample cannot be used.

        Raises:
            DataError: More than `MAX_SKIPPED_PERCENT` of all samples cannot be used.
        """
        with self._lock:
            self._errors[name] = error
            failed = len(self._errors)
        if 100 * failed > MAX_SKIPPED_PERCENT * self._total:
            raise DataError(
                f"more than {MAX_SKIPPED_PERCENT} % of the samples cannot be used: "
                f"{self.describe()}; replace or remove them"
            ) from error

    def describe(self) -> str:
        """Return counts, the first names and the first reason in one line; empty without skips."""
        with self._lock:
            errors = dict(sorted(self._errors.items()))
        if not errors:
            return ""
        reason = next(iter(errors.values()))
        return f"{len(errors)} of {self._total} skipped: {first_names(errors)} ({reason})"


def subset(source: Source, limit: int | None) -> Source:
    """Return `limit` evenly spaced samples of `source`, or all if there are no more than that.

    Even spacing keeps the shares of classes that lie in folders of their own.

    Raises:
        UsageError: `limit` is not positive.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"cannot take {limit} samples; give a limit of at least 1")
    if limit is None or limit >= len(source):
        return source
    indices = ((np.arange(limit) + _SHIFT) * (len(source) / limit)).astype(int)
    return _Subset(source, tuple(int(index) for index in indices))


def without(source: Source, names: Iterable[str]) -> Source:
    """Return the samples of `source` but for those with these names."""
    lost = set(names)
    if not lost:
        return source
    return _Subset(source, tuple(i for i in range(len(source)) if source.name(i) not in lost))


def every(source: Source, step: int, start: int) -> Source:
    """Return every `step`-th sample of `source`, from `start` on."""
    return _Subset(source, tuple(range(start, len(source), step)))


@dataclass(frozen=True)
class _Subset:
    """Some samples of another source."""

    whole: Source
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, index: int) -> str:
        return self.whole.name(self.indices[index])

    def load(self, index: int) -> Sample:
        return self.whole.load(self.indices[index])

    def digest(self, index: int) -> str:
        return self.whole.digest(self.indices[index])

    def fingerprint(self) -> str:
        return fingerprint(self)

    def describe(self) -> str:
        return f"{len(self)} of {self.whole.describe()}"


def fingerprint(source: Source) -> str:
    """Return one SHA-256 over the sorted names and digests of all samples of `source`."""
    pairs = sorted((source.name(index), source.digest(index)) for index in range(len(source)))
    return sha256_bytes("\n".join(f"{digest} {name}" for name, digest in pairs).encode())


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file; that of nothing where it cannot be read, and is skipped."""
    try:
        return sha256_files([path])
    except OSError:
        return sha256_bytes(b"")


def files_below(folder: Path, endings: tuple[str, ...]) -> tuple[str, ...]:
    """Return the paths below `folder`, with forward slashes and sorted, that have one of `endings`.

    Letter case does not matter. Links to folders are followed. Hidden files and folders are left
    out; broken links are not: they are noticed when they are read.

    Raises:
        DataError: A folder cannot be read.
        StorageError: A name is not in UTF-8.
    """
    found = (path for path in walk(folder) if path.suffix.lower() in endings)
    names = tuple(sorted(path.relative_to(folder).as_posix() for path in found))
    for name in names:
        check_name(name)
    return names


def walk(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Yield the files below `folder` that are not hidden, also behind links to folders.

    Raises:
        DataError: A folder cannot be read.
    """
    place = folder.resolve()
    if place in above:  # a link that leads in a circle
        return
    try:
        with os.scandir(folder) as found:
            entries = [(entry.name, _is_folder(entry)) for entry in found]
    except OSError as error:
        raise DataError(
            f"cannot read folder {folder}: {error.strerror}; check its permissions and links"
        ) from error
    for name, is_folder in entries:
        if name.startswith("."):
            continue
        if is_folder:
            yield from walk(folder / name, above | {place})
        else:
            yield folder / name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # A Path takes a link to itself for a broken one, which an entry does not.
    return Path(entry).is_dir() if entry.is_symlink() else entry.is_dir()


def sample_name(path: str) -> str:
    """Return what a source calls the file that labels call `path`, relative to its folder."""
    return path.replace("\\", "/").removeprefix("./")
