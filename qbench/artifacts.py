"""Files that qbench writes: hashes, provenance and atomic writes.

A file artifact carries the hashes of what it was made from, so that any stage restarts from disk,
and it appears under its name whole or not at all.
"""

import errno
import hashlib
import os
import shutil
import stat
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import msgspec

from qbench.errors import StorageError, UsageError

SCHEMA_VERSION = 1
"""Version of every JSON document that qbench writes; raised when a reader would have to change."""

_CHUNK = 1 << 20
"""Bytes that are read at once."""

_WINDOW = 1 << 26
"""Bytes that are mapped at once: what is mapped counts as memory of the process."""

DAMAGED_ARRAYS = (
    OSError,
    ValueError,
    EOFError,
    AttributeError,
    TypeError,
    KeyError,
    BadZipFile,
    zlib.error,
    TokenError,
    RuntimeError,
)
"""What NumPy raises of files of arrays that are damaged, cut off, or none of its own."""

_PACKAGES = ("qbench-onnx", "numpy", "onnx", "onnx-ir", "opencv-python")
_CHOOSE = "choose another place with -o"
_AS_UTF8 = "set PYTHONUTF8=1 or LANG=C.UTF-8, or choose another name"
_ORT_PACKAGES = ("onnxruntime-gpu", "onnxruntime")


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_files(paths: list[Path]) -> str:
    """Return one SHA-256 over the contents of `paths`, in their order."""
    digest = hashlib.sha256()
    for path in paths:
        _add_file(digest, path)
    return digest.hexdigest()


def sha256_with_data(path: Path, data: list[Path]) -> str:
    """Return the SHA-256 of a file, with the BLAKE3 hashes of its `data` files behind it.

    Weights may be gigabytes, of which BLAKE3 hashes several times as many a second.
    """
    digest = hashlib.sha256()
    _add_file(digest, path)
    for other in data:
        digest.update(_blake3(other))
    return digest.hexdigest()


def _add_file(digest: Any, path: Path) -> None:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)


def _blake3(path: Path) -> bytes:
    from blake3 import blake3

    digest = blake3(max_threads=blake3.AUTO)
    size = path.stat().st_size
    with path.open("rb") as file:
        for start in range(0, size, _WINDOW):
            length = min(_WINDOW, size - start)
            with mmap(file.fileno(), length, access=ACCESS_READ, offset=start) as view:
                digest.update(view)
    return digest.digest()


def versions(*more: str) -> dict[str, str]:
    """Return the versions of the packages whose code shapes an artifact, and of `more`."""
    from importlib import metadata  # its own imports take 10 ms, which workers do without

    found = {}
    for package in (*_PACKAGES, *_ORT_PACKAGES, *more):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


@contextmanager
def staged(target: Path, fix: str = _CHOOSE) -> Iterator[Path]:
    """Yield a path to write `target` at; it and its side files appear together, or nothing does.

    The yielded path has the name of `target` and lies in a temporary folder beside it. On success
    every file in that folder is renamed into place, `target` last, so that a reader who sees it
    sees the rest.

    Args:
        target: A file.
        fix: What to do where it cannot be written, for the error.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    try:
        _check_no_folder(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".qbench-", dir=target.parent))
    except OSError as error:
        raise storage_error(target, error, fix) from error
    try:
        yield folder / target.name
        for file in sorted(folder.iterdir(), key=lambda file: file.name == target.name):
            os.replace(file, target.parent / file.name)  # noqa: PTH105
    except OSError as error:
        raise storage_error(target, error, fix) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_writable(target: Path, fix: str = _CHOOSE) -> None:
    """Make sure, before any work, that `target` can be written; nothing is made.

    Args:
        target: A file.
        fix: What to do where it cannot, for the error.

    Raises:
        StorageError: It is a folder, its name is too long, or its own folder cannot be written
            or made.
    """
    try:
        _check_no_folder(target)
        there = next(folder for folder in target.absolute().parents if folder.exists())
        Path(tempfile.mkdtemp(prefix=".qbench-", dir=there)).rmdir()
    except OSError as error:
        raise storage_error(target, error, fix) from error


def check_unread(outputs: Iterable[Path], read: Iterable[Path | None]) -> None:
    """Make sure that no output takes the place of a file that it is made from.

    Args:
        outputs: Files to write.
        read: What is read, None for nothing; of folders, what lies in them is not looked at.

    Raises:
        UsageError: One does.
    """
    known = [path for path in read if path is not None and path.is_file()]
    for output in outputs:
        if output.exists() and any(output.samefile(path) for path in known):
            raise UsageError(f"{output} is read here, and would be replaced; choose another name")


def check_name(name: Path | str) -> None:
    """Make sure that a path can be kept as text, and opened by libraries that take no other.

    Raises:
        StorageError: It is not in UTF-8.
    """
    if any("\ud800" <= letter <= "\udfff" for letter in str(name)):
        here = sys.getfilesystemencoding().lower()
        fix = "choose another name" if here == "utf-8" else f"names are read as {here}: {_AS_UTF8}"
        raise StorageError(f"the name {str(name)!r} is not in UTF-8; {fix}")


def _check_no_folder(target: Path) -> None:
    try:
        is_folder = stat.S_ISDIR(target.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):  # other errors, as of long names, are told
        return
    if is_folder:
        raise StorageError(f"cannot write {target}: it is a folder; name a file in it with -o")


def write_bytes(target: Path, data: bytes, fix: str = _CHOOSE) -> None:
    """Write `data` to `target` atomically; for `fix` see `staged`.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    with staged(target, fix) as path:
        path.write_bytes(data)


def write_json(target: Path, document: object) -> None:
    """Write a msgspec-encodable `document` to `target` as indented JSON, atomically.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    write_bytes(target, json_bytes(document) + b"\n")


def json_bytes(document: object) -> bytes:
    """Return a msgspec-encodable `document` as indented JSON.

    What is no Unicode, such as the surrogates of a file name in another encoding, is escaped.
    """
    try:
        data = msgspec.json.encode(document)
    except UnicodeEncodeError:
        data = msgspec.json.encode(_in_unicode(msgspec.to_builtins(document)))
    return msgspec.json.format(data, indent=2)


def _in_unicode(value: Any) -> Any:
    """Return plain data with every surrogate in its texts escaped."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_in_unicode(key): _in_unicode(one) for key, one in value.items()}
    return [_in_unicode(one) for one in value] if isinstance(value, (list, tuple)) else value


def storage_error(target: Path, error: OSError, fix: str = _CHOOSE) -> StorageError:
    """Return the one-line error for a failed write of `target`; for `fix` see `staged`."""
    if error.errno == errno.ENOSPC:
        return StorageError(f"cannot write {target}: the disk is full; free space or {fix}")
    reason = error.strerror or str(error)
    return StorageError(f"cannot write {target}: {reason}; {fix}")
