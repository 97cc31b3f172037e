"""Write ONNX models, with external data where protobuf's 2 GiB limit asks for it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx_ir as ir

from qbench.artifacts import check_name, check_writable, staged
from qbench.errors import UsageError
from qbench.model.load import Model

PROTOBUF_LIMIT_BYTES = 2**31 - 2**26
"""A single protobuf message ends at 2 GiB; some room is kept for the graph itself."""


def weight_bytes(model: ir.Model) -> int:
    """Return the size of all initializers in bytes."""
    return sum(tensor.nbytes for tensor in stored_weights(model))


def data_folder(model: ir.Model) -> Path | None:
    """Return the folder that external data lies in, of several the first; None without any."""
    outside = (t for t in stored_weights(model) if isinstance(t, ir.ExternalTensor))
    return next((Path(tensor.base_dir) for tensor in outside), None)


def needs_external_data(model: ir.Model) -> bool:
    """Return whether `model` keeps weights outside its file, or is too large for one file."""
    return data_folder(model) is not None or weight_bytes(model) > PROTOBUF_LIMIT_BYTES


def stored_weights(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """Yield the initializers of a model, those of its subgraphs included."""
    for graph in model.graphs():
        yield from (v.const_value for v in graph.initializers.values() if v.const_value is not None)


def save(model: ir.Model, path: Path, *, external: bool = False) -> None:
    """Write `model` to `path` atomically; external data goes to `<path>.data` beside it.

    Args:
        model: The graph.
        path: The file to write.
        external: Keep weights outside the file where they would fit into it, too. They are written
            one by one, so that memory never holds a second copy of them.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    with staged(path) as target:
        _write(model, target, external=external or needs_external_data(model))


def check_output(model: Model, output: Path | str | None) -> None:
    """Make sure, before any work, that an output can be written, and not over the model itself.

    Raises:
        UsageError: It is the model, or its weights would replace those of the model, or its name
            does not end in .onnx.
        StorageError: It cannot be written, or its name is not in UTF-8.
    """
    if output is None:
        return
    check_name(output)
    check_writable(Path(output))
    own = [file for file in model.files if file.exists()]
    for place in filter(Path.exists, (Path(output), _data_file(Path(output)))):
        if any(place.samefile(file) for file in own):
            whole = place == Path(output) and place.samefile(own[0])
            what = "the model itself" if whole else "where the model keeps its weights"
            raise UsageError(f"{place} is {what}; choose another output with -o")
    if Path(output).suffix != ".onnx":  # `onnx_ir` writes text by some other endings
        raise UsageError(f"the model {output} must end in .onnx")


@contextmanager
def on_disk(model: ir.Model) -> Iterator[Path]:
    """Yield the path of a temporary copy of `model`, for libraries that read files only."""
    with tempfile.TemporaryDirectory(prefix="qbench-") as folder:
        path = Path(folder) / "model.onnx"
        _write(model, path, external=needs_external_data(model))
        yield path


def _write(model: ir.Model, path: Path, *, external: bool) -> None:
    ir.save(model, path, external_data=_data_file(path).name if external else None)


def _data_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.data")
