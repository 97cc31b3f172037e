"""Read what a report is made from."""

from pathlib import Path

import msgspec

from qbench.benchmarking.result import RunResult
from qbench.errors import DataError
from qbench.report.contents import Layer
from qbench.runs.run import Run


class _Layers(msgspec.Struct, frozen=True):
    """The part of the document of `qbench debug` that a report shows."""

    layers: tuple[Layer, ...]


def load_run(name: str) -> Run:
    """Return the run in a JSON file of `qbench bench --json`.

    Raises:
        DataError: The file cannot be read, or holds something else.
    """
    path = Path(name)
    document = _read(path, "qbench bench")
    try:
        return Run(path.name, msgspec.json.decode(document, type=RunResult))
    except msgspec.MsgspecError as error:
        raise DataError(
            f"{path} is no document of `qbench bench --json` ({error}); write it again"
        ) from error


def load_layers(path: Path) -> tuple[Layer, ...]:
    """Return the layers in a JSON file of `qbench debug --json`.

    Raises:
        DataError: The file cannot be read, or holds something else.
    """
    document = _read(path, "qbench debug")
    try:
        return msgspec.json.decode(document, type=_Layers).layers
    except msgspec.MsgspecError as error:
        raise DataError(
            f"{path} is no document of `qbench debug --json` ({error}); write it again"
        ) from error


def _read(path: Path, command: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(
            f"cannot read {path} ({reason}); write it with `{command} --json > {path}`"
        ) from error
