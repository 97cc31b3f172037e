"""The public API of each TensorRT version, read from the extract `trt_api/api.json`.

A member is described by a short text, its spec:

    enum, class                            the member named "": what kind of thing the holder is
    = 4                                    the value of a member of an enum
    (a: int, b: str = None) | (c: Dims)    the overloads of a method, without `self`
    property, property = int               read-only, or settable and of which type
    constant Severity, class A.B           a member of an inner enum, and an inner enum
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FUNCTIONS = "()"
"""Holder of the module's functions."""

_FILE = Path(__file__).parents[1] / "trt_api" / "api.json"


@dataclass(frozen=True)
class Api:
    """What one version has.

    Attributes:
        version: Its short name: `10.0.1`, `11.4`, `rtx-1.7`.
        full_version: What its module states as `__version__`.
        holders: The spec of every member, by class and name.
    """

    version: str
    full_version: str
    holders: dict[str, dict[str, str]]

    @property
    def module(self) -> str:
        return "tensorrt_rtx" if self.version.startswith("rtx") else "tensorrt"

    def has(self, dotted: str) -> bool:
        """Return whether `Builder`, `BuilderFlag.TF32` or `init_libnvinfer_plugins` exists."""
        if dotted in self.holders[FUNCTIONS]:
            return True
        holder, _, member = dotted.rpartition(".")
        return dotted in self.holders or member in self.holders.get(holder, {})


def versions() -> list[str]:
    """Return the short names of all versions, oldest first and TensorRT for RTX last."""
    return list(_extract()[""])


@cache
def read_api(version: str) -> Api:
    """Return the API of a version by its short name."""
    extract = _extract()
    if version not in extract[""]:
        raise KeyError(f"no API of TensorRT {version!r}; choose from {', '.join(versions())}")
    holders = {}
    for holder, members in extract.items():
        found = {name: _spec(specs, version) for name, specs in members.items()} if holder else {}
        if present := {name: spec for name, spec in found.items() if spec is not None}:
            holders[holder] = present
    return Api(version, extract[""][version], holders)


def _spec(specs: dict[str, str], version: str) -> str | None:
    return _first(spec for spec, have in specs.items() if have == "*" or version in have.split())


def _first(found: Iterable[str]) -> str | None:
    return next(iter(found), None)


@cache
def _extract() -> dict[str, Any]:
    extract: dict[str, Any] = json.loads(_FILE.read_text("utf-8"))
    return extract
