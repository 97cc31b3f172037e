"""Write ONNX models, with external data where protobuf's 2 GiB limit asks for it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx_ir as ir

from qbench.artifacts import staged

PROTOBUF_LIMIT_BYTES = 2**31 - 2**26
"""A single protobuf message ends at 2 GiB; some room is kept for the graph itself."""


def weight_bytes(model: ir.Model) -> int:
    """Return the size of all initializers in bytes."""
    return sum(
        value.const_value.nbytes
        for graph in model.graphs()
        for value in graph.initializers.values()
        if value.const_value is not None
    )


def needs_external_data(model: ir.Model) -> bool:
    """Return whether `model` keeps weights outside its file, or is too large for one file."""
    kept_outside = any(
        isinstance(value.const_value, ir.ExternalTensor)
        for graph in model.graphs()
        for value in graph.initializers.values()
    )
    return kept_outside or weight_bytes(model) > PROTOBUF_LIMIT_BYTES


def save(model: ir.Model, path: Path) -> None:
    """Write `model` to `path` atomically; external data goes to `<path>.data` beside it.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    with staged(path) as target:
        _write(model, target)


@contextmanager
def on_disk(model: ir.Model) -> Iterator[Path]:
    """Yield the path of a temporary copy of `model`, for libraries that read files only."""
    with tempfile.TemporaryDirectory(prefix="qbench-") as folder:
        path = Path(folder) / "model.onnx"
        _write(model, path)
        yield path


def _write(model: ir.Model, path: Path) -> None:
    if needs_external_data(model):
        ir.save(model, path, external_data=f"{path.name}.data")
    else:
        ir.save(model, path)
