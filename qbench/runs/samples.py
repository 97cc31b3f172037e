"""What lies behind the figures of a row, as files beside the store: calls and judged samples."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from qbench.benchmarking.judging.judged import Judged
from qbench.errors import StorageError

logger = logging.getLogger(__name__)

_DAMAGE = (OSError, ValueError, TypeError, EOFError)


def write_samples(path: Path, samples: NDArray[np.float64]) -> None:
    """Write the seconds of calls, [calls], atomically.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    _write(path, lambda file: np.save(file, samples))


def read_samples(path: Path) -> NDArray[np.float64] | None:
    """Return the seconds of calls, [calls]; None, with a warning, where the file is lost."""
    try:
        return np.asarray(np.load(path, allow_pickle=False), np.float64)
    except _DAMAGE as error:
        _warn(path, error)
        return None


def write_judged(path: Path, judged: Judged) -> None:
    """Write an accuracy with the outcome of every sample, atomically.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    data = msgspec.msgpack.encode(judged, enc_hook=_from_array)
    _write(path, lambda file: file.write(data))


def read_judged(path: Path) -> Judged | None:
    """Return an accuracy; None, with a warning, where the file is lost."""
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=Judged, dec_hook=_to_array)
    except _DAMAGE as error:
        _warn(path, error)
        return None


def _from_array(value: object) -> tuple[str, bytes]:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.tobytes()
    raise NotImplementedError(f"a {type(value).__name__} cannot be kept")


def _to_array(kind: type, value: tuple[str, bytes]) -> NDArray[Any]:
    del kind  # only arrays are of a kind that msgspec does not know
    dtype, data = value
    return np.frombuffer(data, dtype)


def _write(path: Path, save: Callable[[IO[bytes]], object]) -> None:
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            save(file)
        part.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"cannot write {path}: {reason}; make room for it") from error
    finally:
        with suppress(OSError):
            part.unlink()  # what is left of a file that could not be written


def _warn(path: Path, error: Exception) -> None:
    logger.warning("the samples in %s cannot be read (%s) and are left out", path, error)
