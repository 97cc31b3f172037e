"""A file that keeps kernel timings from build to build.

The compiler's own data follow one line of JSON that says which TensorRT made them on which GPU, and
gives their hash. A cache that does not fit is set aside under another name: timings cost minutes to
make, and may fit another machine.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import msgspec

from qbench.artifacts import sha256_bytes, write_bytes
from qbench.errors import StorageError, UsageError

Notify = Callable[[str], None]


class CacheKey(msgspec.Struct, frozen=True):
    """What timings depend on: module and version of TensorRT, and the GPU's name."""

    flavour: str
    version: str
    gpu: str

    def __str__(self) -> str:
        return f"{self.flavour} {self.version} on {self.gpu}"


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    timing_cache: CacheKey
    sha256: str


class TimingCache:
    """A timing cache while an engine is built."""

    def __init__(self, path: Path, key: CacheKey, notify: Notify) -> None:
        """Set up the cache; see `attach` and `store`.

        Args:
            path: The file, which need not exist yet.
            key: What the timings of this build depend on.
            notify: Takes what the user has to know.
        """
        self._path = path
        self._key = key
        self._notify = notify

    def attach(self, config: Any) -> None:
        """Give the stored timings to the compiler, or an empty cache where there are none.

        Raises:
            StorageError: The file cannot be read or set aside.
        """
        data = self._load()
        if not _offer(config, data):
            self._set_aside("TensorRT does not take it on this machine")
            _offer(config, b"")

    def store(self, config: Any) -> None:
        """Write the timings that the compiler holds now; a failure costs no more than them."""
        cache = config.get_timing_cache()
        data = bytes(cache.serialize())
        header = _Header(self._key, sha256_bytes(data))
        content = msgspec.json.encode(header) + b"\n" + data
        try:
            write_bytes(self._path, content, "name another file with --timing-cache")
        except StorageError as error:
            self._notify(f"the timing cache was not kept: {error}")

    def _load(self) -> bytes:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise UsageError(
                f"cannot read --timing-cache {self._path} ({error.strerror}); name another file"
            ) from error
        line, _, data = content.partition(b"\n")
        problem = self._problem(line, data)
        if problem is None:
            return data
        self._set_aside(problem)
        return b""

    def _problem(self, line: bytes, data: bytes) -> str | None:
        try:
            header = msgspec.json.decode(line, type=_Header)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return "qbench did not write it"
        if header.sha256 != sha256_bytes(data):
            return "it is damaged"
        if header.timing_cache != self._key:
            return f"it is of {header.timing_cache}, this is {self._key}"
        return None

    def _set_aside(self, problem: str) -> None:
        place = _free_name(self._path)
        try:
            self._path.replace(place)
        except OSError as error:
            raise StorageError(
                f"cannot rename {self._path} to {place.name} ({error.strerror}); "
                "name another file with --timing-cache"
            ) from error
        self._notify(f"{self._path} is not used: {problem}; it is kept as {place}")


def check_place(path: Path) -> None:
    """Make sure, before any work, that a timing cache can be written at `path`.

    Raises:
        StorageError: Its folder takes no file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise StorageError(
            f"cannot write --timing-cache {path} ({error.strerror}); name another file"
        ) from error


def _offer(config: Any, data: bytes) -> bool:
    cache = config.create_timing_cache(data)
    return cache is not None and config.set_timing_cache(cache, ignore_mismatch=False)


def _free_name(path: Path) -> Path:
    """Return the first of `x.old`, `x.old2`, ... that is not taken."""
    number = 1
    while True:
        place = path.with_name(f"{path.name}.old{number if number > 1 else ''}")
        if not place.exists():
            return place
        number += 1
