"""The rows of the GPU check, written to a file one by one as soon as they are known."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from qbench.errors import QbenchError


class Row(msgspec.Struct, frozen=True):
    """One thing that was checked.

    Attributes:
        check: The check that it belongs to.
        subject: What was looked at, such as an engine.
        result: What came out, in a few words; None where it did not work.
        figures: The same in numbers.
        error: Why it did not work.
    """

    check: str
    subject: str
    result: str | None = None
    figures: dict[str, Any] = {}
    error: str | None = None


class Rows:
    """Appends the rows of one check to a file."""

    def __init__(self, check: str, path: Path) -> None:
        self._check, self._path = check, path

    def add(self, subject: str, result: str, **figures: Any) -> None:
        """Write what came out."""
        self._write(Row(self._check, subject, result, figures))

    def fail(self, subject: str, error: str) -> None:
        """Write why something did not work."""
        self._write(Row(self._check, subject, error=" ".join(error.split())))

    @contextmanager
    def about(self, subject: str) -> Iterator[None]:
        """Write the error of qbench that ends the block, if one does, and go on after it."""
        try:
            yield
        except QbenchError as error:
            self.fail(subject, str(error))

    def _write(self, row: Row) -> None:
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(row) + b"\n")


def read_rows(path: Path) -> list[Row]:
    """Return the rows in a file; none where there is no file yet."""
    if not path.exists():
        return []
    return [msgspec.json.decode(line, type=Row) for line in path.read_bytes().splitlines()]
