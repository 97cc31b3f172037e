"""The one seam between the two TensorRT packages, `tensorrt` and `tensorrt_rtx`.

Both offer the same classes under another module name. What one of them lacks is found by asking the
module, never by its version, and enum members are never written as numbers: STRONGLY_TYPED is bit 1
in TensorRT 10 and bit 0 in TensorRT 11 and RTX.
"""

import importlib
import sys
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from types import ModuleType
from typing import Any

from qbench.errors import UnfitError, UsageError

_MODULES = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}
"""Module of each backend, in the order in which `auto` looks for them."""

_TITLES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT for RTX"}

_INSTALL = {
    "tensorrt": "`uv sync --extra tensorrt` or `pip install tensorrt`",
    "rtx": "`uv sync --extra rtx` or `pip install tensorrt-rtx-cu13` (builds without a GPU)",
}


@dataclass(frozen=True)
class Flavour:
    """An installed TensorRT package.

    Attributes:
        name: Its module, `tensorrt` or `tensorrt_rtx`.
        version: The version that its package metadata states.
    """

    name: str
    version: str

    def __str__(self) -> str:
        return f"{_TITLES[self.name]} {self.version}"


def find_flavour(backend: str = "auto") -> Flavour:
    """Return the installed flavour of `backend` (`auto`, `tensorrt`, `rtx`), without importing it.

    Raises:
        UsageError: `backend` is another word.
        UnfitError: The flavour is not installed.
    """
    if backend != "auto" and backend not in _MODULES:
        raise UsageError(f"unknown backend {backend!r}; choose from auto, {', '.join(_MODULES)}")
    wanted = list(_MODULES) if backend == "auto" else [backend]
    for word in wanted:
        if _is_installed(_MODULES[word]):
            return Flavour(_MODULES[word], _version(_MODULES[word]))
    what = "neither TensorRT nor TensorRT for RTX" if backend == "auto" else _title(backend)
    ways = "; or ".join(_INSTALL[word] for word in reversed(wanted))
    raise UnfitError(f"{what} is{' not' if backend != 'auto' else ''} installed; run {ways}")


def flavour_named(name: str) -> Flavour:
    """Return the installed flavour whose module is `name`, without importing it.

    Raises:
        UsageError: There is no such flavour.
        UnfitError: It is not installed.
    """
    for backend, module in _MODULES.items():
        if module == name:
            return find_flavour(backend)
    raise UsageError(f"unknown TensorRT flavour {name!r}; choose from {', '.join(_TITLES)}")


def installed_flavours() -> tuple[Flavour, ...]:
    """Return every flavour that is installed, without importing it."""
    modules = [module for module in _MODULES.values() if _is_installed(module)]
    return tuple(Flavour(module, _version(module)) for module in modules)


def import_flavour(flavour: Flavour) -> ModuleType:
    """Import the heavy module of `flavour`.

    Raises:
        UnfitError: Its libraries cannot be loaded.
    """
    try:
        return importlib.import_module(flavour.name)
    except (ImportError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UnfitError(f"{flavour} cannot be loaded: {reason}; reinstall it") from error


def strongly_typed_network(module: ModuleType, builder: Any) -> Any:
    """Return an empty network whose precisions are exactly those that the ONNX file states.

    Raises:
        UnfitError: This TensorRT knows no strongly typed networks.
    """
    flag = getattr(module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    if flag is None:
        raise UnfitError(
            f"{module.__name__} {module.__version__} has no strongly typed networks; "
            "install 10.0 or newer"
        )
    return builder.create_network(1 << int(flag))


def _title(backend: str) -> str:
    return _TITLES[_MODULES[backend]]


def _is_installed(module: str) -> bool:
    # A folder of that name in the working directory is found as well, but has no origin.
    spec = util.find_spec(module)
    return spec is not None and spec.origin is not None


def _version(module: str) -> str:
    packages = _packages(module, tuple(sys.path))
    return metadata.version(packages[0]) if packages else "unknown"


@cache
def _packages(module: str, path: tuple[str, ...]) -> tuple[str, ...]:  # noqa: ARG001 - a key
    """Return the packages that an installed module is part of.

    Kept, since the files of every package on the `path` are read for it: a tenth of a second for
    each engine that is opened.
    """
    return tuple(metadata.packages_distributions().get(module, ()))
