"""What a TensorRT offers, found by asking its module and never by its version."""

from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class Compilation:
    """What a build is set up with: the module, and the objects of it that options act upon."""

    module: ModuleType
    network: Any
    config: Any


def builds_ahead(module: ModuleType) -> bool:
    """Return whether it builds for GPUs that are not at hand, as TensorRT for RTX does."""
    return hasattr(module, "ComputeCapability")


def missing_members(module: ModuleType, members: Iterable[str]) -> list[str]:
    """Return those of `members` (`BuilderFlag.REFIT`) that `module` lacks."""
    return [member for member in members if not _has(module, member)]


def _has(module: ModuleType, member: str) -> bool:
    holder: Any = module
    for name in member.split("."):
        if not hasattr(holder, name):
            return False
        holder = getattr(holder, name)
    return True
