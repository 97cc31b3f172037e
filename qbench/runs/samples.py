"""The seconds of a row's calls, as a .npy file beside the store."""

import logging
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qbench.errors import StorageError

logger = logging.getLogger(__name__)


def write_samples(path: Path, samples: NDArray[np.float64]) -> None:
    """Write samples, [calls], atomically.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.save(file, samples)
        part.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"cannot write {path}: {reason}; make room for it") from error


def read_samples(path: Path) -> NDArray[np.float64] | None:
    """Return samples, [calls]; None, with a warning, where the file is gone or damaged."""
    try:
        found = np.load(path, allow_pickle=False)
        return np.asarray(found, np.float64)
    except (OSError, ValueError, EOFError) as error:
        logger.warning("the samples in %s cannot be read (%s) and are left out", path, error)
        return None
