"""Read the layers that a report shows."""

from pathlib import Path

import msgspec

from qbench.errors import DataError
from qbench.report.contents import Layer


class _Layers(msgspec.Struct, frozen=True):
    """The part of the document of `qbench debug` that a report shows."""

    layers: tuple[Layer, ...]


def load_layers(path: Path) -> tuple[Layer, ...]:
    """Return the layers in a JSON file of `qbench debug --json`.

    Raises:
        DataError: The file cannot be read, or holds something else.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Layers).layers
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(
            f"cannot read {path} ({reason}); write it with `qbench debug --json`"
        ) from error
    except msgspec.MsgspecError as error:
        raise DataError(
            f"{path} is no document of `qbench debug --json` ({error}); write it again"
        ) from error
