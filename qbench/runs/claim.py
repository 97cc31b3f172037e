"""A lock between processes, which the system lets go of when its holder dies."""

import sqlite3
from pathlib import Path

from qbench.errors import StorageError


class Claim:
    """Holds a lock on a file; SQLite's own, since that works alike on every platform."""

    def __init__(self, path: Path, patience: float = 0.0) -> None:
        """Take the lock.

        Args:
            path: An empty file, made where it is missing.
            patience: Seconds to wait where another holds it.

        Raises:
            StorageError: Another holds it, or the file cannot be made.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, patience, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"cannot lock {path}: {error}; check its permissions") from error
        try:
            self._database.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            self._database.close()
            is_full = sqlite_code(error) == sqlite3.SQLITE_FULL
            remedy = "free space" if is_full else "end its holder"
            raise StorageError(f"cannot lock {path}: {error}; {remedy}") from error

    def release(self) -> None:
        """Let go; the file stays, since others may wait for it."""
        self._database.close()

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def sqlite_code(error: BaseException | None) -> int:
    """Return SQLite's code of an error without its details; 0 of another's."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
