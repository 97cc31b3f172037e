"""What goes between a worker and the process that started it."""

from dataclasses import dataclass
from typing import Any

from qbench.errors import QbenchError


@dataclass(frozen=True)
class Request:
    """What the worker shall do: `open` with a Task first, then methods of `Session`."""

    method: str
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Done:
    """A request is done, with this result."""

    value: Any


@dataclass(frozen=True)
class Failed:
    """A request failed."""

    error: QbenchError


@dataclass(frozen=True)
class Said:
    """Something for the log; a reply is still to come."""

    logger: str
    level: int
    text: str


Reply = Done | Failed | Said
