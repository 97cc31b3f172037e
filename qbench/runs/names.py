"""What runs are called: a few letters that a human can type."""

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from qbench.errors import UsageError
from qbench.formatting import first_names

LATEST = "latest"
"""What names the run that was begun last."""

_LETTERS = "bcdfghjkmnpqrstvwxz"
_LENGTH = 6
_MOST_NAMED = 5


def new_id(is_taken: Callable[[str], bool]) -> str:
    """Return six letters that make no word, no number, and no name that is taken."""
    while True:
        name = "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
        if not is_taken(name):
            return name


def resolved(name: str, ids: Sequence[str], place: Path) -> str:
    """Return the id that is meant.

    Args:
        name: An id, the first letters of one, or `latest`.
        ids: Of all runs, the latest first.
        place: Where they are kept.

    Raises:
        UsageError: No run, or more than one, is called so.
    """
    if not ids:
        raise UsageError(f"no run {name!r}: none is kept in {place}; run `qbench bench` before")
    if name == LATEST:
        return ids[0]
    if name in ids:
        return name
    matches = [run for run in ids if name and run.startswith(name)]
    if not matches:
        raise UsageError(f"no run {name!r} in {place}; `qbench runs list` names them")
    if len(matches) > 1:
        raise UsageError(f"{name!r} may be {first_names(matches, _MOST_NAMED)}; give more letters")
    return matches[0]
