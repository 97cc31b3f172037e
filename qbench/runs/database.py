"""The store's SQLite file: opened and checked; one that is damaged is set aside.

SQLite's rollback journal is kept: what is committed survives the death of the process, any number
of processes can write, and the file can be read where nothing can be written.
"""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from qbench.errors import StorageError
from qbench.runs.claim import Claim, sqlite_code

logger = logging.getLogger(__name__)

VERSION = 1
"""Version of the tables; a file of another one is not touched."""

_APPLICATION = int.from_bytes(b"qbch", "big")
_PATIENCE = 60.0
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_TABLES = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS runs (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  key TEXT NOT NULL,
  began TEXT NOT NULL,
  finished TEXT,
  trusted INTEGER,
  models TEXT NOT NULL,
  request TEXT NOT NULL,
  result TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS runs_by_key ON runs (key);
CREATE TABLE IF NOT EXISTS rows (
  run TEXT NOT NULL REFERENCES runs (id),
  position INTEGER NOT NULL,
  model TEXT NOT NULL,
  precision TEXT NOT NULL,
  provider TEXT NOT NULL,
  cell TEXT,
  row TEXT NOT NULL,
  samples TEXT,
  PRIMARY KEY (run, position)
);
CREATE TABLE IF NOT EXISTS judged (
  run TEXT NOT NULL REFERENCES runs (id),
  cell TEXT NOT NULL,
  outcomes TEXT NOT NULL,
  PRIMARY KEY (run, cell)
);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {VERSION};
COMMIT;
"""


class _DamagedError(Exception):
    """The file cannot be trusted."""


@contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection; what it executes is committed at once, unless a transaction is begun.

    Raises:
        StorageError: The file cannot be read or written, or is damaged.
    """
    try:
        with closing(sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)) as database:
            yield database
    except sqlite3.Error as error:
        raise StorageError(f"cannot use {path}: {_told(error, 'make it writable')}") from error


@contextmanager
def transaction(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection of which either everything is written or nothing.

    Raises:
        StorageError: The file cannot be read or written, or is damaged.
    """
    with connected(path) as database:
        database.execute("BEGIN IMMEDIATE")
        with database:
            yield database


def prepare(path: Path) -> None:
    """Make the tables where there are none; set a damaged file aside and begin a new one.

    Raises:
        StorageError: The file is of another program or of a newer qbench, or cannot be written; an
            empty one is not left behind.
    """
    if is_usable(path):
        return
    try:
        with connected(path) as database:
            database.executescript(_TABLES)
    except StorageError as error:
        # Where another process is busy with the file, it is empty as long as that one writes.
        if sqlite_code(error.__cause__) != sqlite3.SQLITE_BUSY:
            _remove_empty(path)
        raise


def _remove_empty(path: Path) -> None:
    with suppress(OSError):
        if not path.stat().st_size:
            path.unlink()


def is_usable(path: Path) -> bool:
    """Return whether there is a sound store; a damaged one is set aside.

    Raises:
        StorageError: The file is of another program or of a newer qbench, or cannot be read.
    """
    if not path.exists() or not path.stat().st_size:
        return False
    try:
        return _is_ours(path)
    except _DamagedError:
        return _mended(path)


def _is_ours(path: Path) -> bool:
    """Return whether our tables are there; an empty database has none yet."""
    try:
        with closing(sqlite3.connect(path, timeout=_PATIENCE)) as database:
            found = _first(database, "PRAGMA quick_check(1)")
            if found != "ok":
                raise _DamagedError(found)
            application = _first(database, "PRAGMA application_id")
            version = _first(database, "PRAGMA user_version")
            tables = _first(database, "SELECT count(*) FROM sqlite_master")
    except sqlite3.Error as error:
        if sqlite_code(error) in _DAMAGE:
            raise _DamagedError(str(error)) from error
        told = _told(error, "check its permissions")
        raise StorageError(f"cannot read {path}: {told}") from error
    if tables and application != _APPLICATION:
        raise StorageError(f"{path} is a database of another program; move it away")
    if tables and version != VERSION:
        raise StorageError(
            f"{path} has version {version}, this qbench reads {VERSION}; update qbench, or move it "
            "away"
        )
    return bool(tables)


def _told(error: sqlite3.Error, remedy: str) -> str:
    """Return what is wrong and what to do: `remedy`, unless the file is not to blame."""
    remedies = {
        sqlite3.SQLITE_BUSY: "another process writes to it; try again, or end that one",
        sqlite3.SQLITE_FULL: "free space",
    }
    return f"{error}; {remedies.get(sqlite_code(error), remedy)}"


def _first(database: sqlite3.Connection, query: str) -> object:
    return database.execute(query).fetchone()[0]


def _mended(path: Path) -> bool:
    """Set a damaged file aside, unless another process was quicker and there is a new one."""
    with Claim(path.with_name(f"{path.name}.lock"), _PATIENCE):
        try:
            return path.exists() and _is_ours(path)
        except _DamagedError as damage:
            _set_aside(path, str(damage))
            return False


def _set_aside(path: Path, damage: str) -> None:
    """Rename a damaged file and its journal, which belong together."""
    place = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    journal = path.with_name(f"{path.name}-journal")
    try:
        path.rename(place)
        if journal.exists():
            journal.rename(place.with_name(f"{place.name}-journal"))
    except OSError as error:
        raise StorageError(
            f"{path} is damaged and cannot be set aside ({error.strerror}); move it away"
        ) from error
    logger.warning("%s is damaged (%s); it is kept as %s", path, damage, place.name)
