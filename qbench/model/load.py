"""Read ONNX files; say in one line what is wrong with those that cannot be read."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from google.protobuf.message import DecodeError

from qbench.artifacts import sha256_files
from qbench.errors import ModelError
from qbench.model.spec import TensorSpec


@dataclass(frozen=True)
class Model:
    """An ONNX graph and the file that it came from.

    Attributes:
        ir: The graph. Stages that change it work on a clone.
        path: The file as given; None for a graph made in memory.
        sha256: Hash of that file and of its external data; the model's identity in every artifact.
    """

    ir: ir.Model
    path: Path | None
    sha256: str

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Inputs that a caller must feed, in graph order."""
        graph = self.ir.graph
        return tuple(_spec(v) for v in graph.inputs if v.name not in graph.initializers)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Outputs in graph order."""
        return tuple(_spec(v) for v in self.ir.graph.outputs)


def load(path: Path | str) -> Model:
    """Read an ONNX file; weights in external data stay on disk until they are used.

    Raises:
        ModelError: The file is missing, empty, truncated or not ONNX, or lacks its external data.
    """
    path = Path(path)
    _check_file(path)
    try:
        model = ir.load(path)
    except (DecodeError, ValueError, TypeError, AttributeError, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{path} is not a complete ONNX file ({reason}); export or copy it again"
        ) from error
    if not len(model.graph) or not model.graph.outputs:
        raise ModelError(f"{path} holds no graph; is it really an ONNX model?")
    data_files = _external_files(model, path)
    return Model(model, path, sha256_files([path, *data_files]))


def _check_file(path: Path) -> None:
    if not path.exists():
        raise ModelError(f"no model at {path}; check the path")
    if path.is_dir():
        raise ModelError(f"{path} is a folder; name the .onnx file in it")
    if path.stat().st_size == 0:
        raise ModelError(f"{path} is empty; export or copy it again")


def _external_files(model: ir.Model, path: Path) -> list[Path]:
    """Return the files of external data, sorted, after checking their sizes."""
    needed: dict[Path, int] = {}
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor):
                end = (tensor.offset or 0) + (tensor.length or tensor.nbytes)
                file = Path(tensor.path)
                needed[file] = max(needed.get(file, 0), end)
    for file, size in needed.items():
        if not file.is_file():
            raise ModelError(f"{path} keeps its weights in {file}, which is missing; copy it too")
        if file.stat().st_size < size:
            raise ModelError(f"{file} is truncated: {size} bytes are needed; copy it again")
    return sorted(needed)


def _spec(value: ir.Value) -> TensorSpec:
    dims: list[int | str | None] = []
    for dim in value.shape or ():
        dims.append(dim if isinstance(dim, int) else dim.value)
    dtype = value.dtype.numpy() if value.dtype is not None else np.dtype(np.object_)
    return TensorSpec(value.name or "", tuple(dims), dtype)
