"""Read ONNX files; say in one line what is wrong with those that cannot be read."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from qbench.artifacts import sha256_with_data
from qbench.errors import ModelError
from qbench.model.graph import INTEGER_PREFIXES
from qbench.model.spec import TensorSpec

_QUANTIZED_PREFIXES = (
    *INTEGER_PREFIXES,
    "QuantizeLinear",
    "DynamicQuantizeLinear",
    "DequantizeLinear",
    "MatMulNBits",
)
"""How the names of operators begin that only a quantized model holds."""

_LONG_DOMAIN = "ai.onnx"
_POINTER = b"version https://git-lfs."


@dataclass(frozen=True)
class Model:
    """An ONNX graph and the file that it came from.

    Attributes:
        ir: The graph. Stages that change it work on a clone.
        path: The file as given; None for a graph made in memory.
        sha256: Hash of that file and of its external data; the model's identity in every artifact.
            See `artifacts.sha256_with_data`.
        files: That file and those of its external data, none for a graph made in memory.
    """

    ir: ir.Model
    path: Path | None
    sha256: str
    files: tuple[Path, ...] = ()

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Inputs that a caller must feed, in graph order."""
        graph = self.ir.graph
        return tuple(_spec(v) for v in graph.inputs if v.name not in graph.initializers)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Outputs in graph order."""
        return tuple(_spec(v) for v in self.ir.graph.outputs)

    @property
    def is_quantized(self) -> bool:
        """Whether it computes with integers already, statically or dynamically."""
        return any(node.op_type.startswith(_QUANTIZED_PREFIXES) for node in self.ir.graph)

    def check_float(self) -> None:
        """Make sure that the model is not quantized yet.

        Raises:
            ModelError: It is.
        """
        if self.is_quantized:
            raise ModelError(f"{self.path} is quantized already; give the float model")


def load(path: Path | str) -> Model:
    """Read an ONNX file; weights in external data stay on disk until they are used.

    Raises:
        ModelError: The file is missing, empty, truncated or not ONNX, or lacks its external data;
            or an input is no tensor, or one of unknown rank.
    """
    path = Path(path)
    _check_file(path)
    _check_no_pointer(path)
    try:
        model = read_graph(path)
    except (DecodeError, ValueError, TypeError, AttributeError, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{path} is not a complete ONNX file ({reason}); export or copy it again"
        ) from error
    if not model.graph.outputs:
        raise ModelError(f"{path} holds no graph; is it really an ONNX model?")
    if not len(model.graph):
        raise ModelError(f"{path} computes nothing: its graph has no nodes; export it again")
    data_files = _external_files(model, path)
    _check_graph(model, path)
    _unpack_weights(model, path)
    _check_inputs(model.graph, path)
    _shorten_domain(model)
    _open_unknown_dimensions(model.graph)
    return Model(model, path, sha256_with_data(path, data_files), (path, *data_files))


def read_graph(path: Path) -> ir.Model:
    """Read the graph of an ONNX file, its nodes in an order in which they can be computed.

    ONNX Runtime takes them in any order, and some converters append those that they add.

    Raises:
        ModelError: A name stands for two tensors, or a weight is sparse.
        DecodeError: The file is not ONNX; one that is damaged raises other errors as well.
    """
    proto = onnx.load(path, load_external_data=False)
    for problem in _misnamed(proto.graph):
        raise ModelError(f"{path} is damaged: {problem}; export it again")
    if proto.graph.sparse_initializer or any(map(_holds_sparse, proto.graph.node)):
        raise ModelError(f"{path} holds sparse weights, which are not supported; make them dense")
    model = ir.serde.deserialize_model(proto)
    ir.external_data.set_base_dir(model.graph, path.parent)
    model.graph.sort()
    return model


def _misnamed(graph: onnx.GraphProto) -> Iterator[str]:
    """Tell of names that stand for two tensors, of which each runtime takes another one."""
    weights = Counter(tensor.name for tensor in graph.initializer)
    written = Counter(name for node in graph.node for name in node.output if name)
    yield from (f"it holds two weights {name!r}" for name, n in weights.items() if n > 1)
    yield from (f"two nodes write {name!r}" for name, n in written.items() if n > 1)


def _holds_sparse(node: onnx.NodeProto) -> bool:
    return any(one.type == onnx.AttributeProto.SPARSE_TENSOR for one in node.attribute)


def size_on_disk(path: Path, model: ir.Model | None = None) -> int:
    """Return the bytes of an ONNX file and of its external data.

    Args:
        path: The file.
        model: What was loaded from it; None reads it again.
    """
    files = (path, *_external_files(model or ir.load(path), path))
    return sum(file.stat().st_size for file in files)


def _check_no_pointer(path: Path) -> None:
    try:
        with path.open("rb") as file:
            is_pointer = file.read(len(_POINTER)) == _POINTER
    except OSError:  # told by whoever reads all of it
        return
    if is_pointer:
        raise ModelError(f"{path} is a pointer of Git LFS, not the model; fetch it: git lfs pull")


def _check_file(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:  # also of a name that is too long
        raise ModelError(f"no model at {path}; check the path") from error
    if path.is_dir():
        raise ModelError(f"{path} is a folder; name the .onnx file in it")
    if size == 0:
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


def _check_graph(model: ir.Model, path: Path) -> None:
    """Find the damage with which a file can still be parsed.

    Raises:
        ModelError: A name is no text, or something is read that nothing makes.
    """
    for problem in _problems(model.graph):
        raise ModelError(f"{path} is damaged: {problem}; export or copy it again")


def _problems(graph: ir.Graph) -> Iterator[str]:
    for node in graph:
        if not isinstance(node.op_type, str):
            yield f"operator {node.op_type!r} is no text"
        for read in node.inputs:
            if read is not None and not _is_made(read):
                yield f"node {node.name!r} reads {read.name!r}, which nothing makes"
    for output in graph.outputs:
        if not _is_made(output):
            yield f"nothing makes its output {output.name!r}"


def _unpack_weights(model: ir.Model, path: Path) -> None:
    """Let weights that lie in the file be arrays, since each look at its bytes copies them.

    Raises:
        ModelError: A weight has too few or too many bytes.
    """
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.TensorProtoTensor):
                value.const_value = _unpacked(tensor, path)


def _unpacked(tensor: ir.TensorProtoTensor, path: Path) -> ir.TensorProtocol:
    try:
        return ir.Tensor(tensor.numpy(), tensor.dtype, name=tensor.name)
    except ValueError as error:
        held = len(tensor.raw.raw_data)
        raise ModelError(
            f"{path} is damaged: weight {tensor.name!r} holds {held} bytes of {tensor.nbytes}; "
            "export or copy it again"
        ) from error


def _check_inputs(graph: ir.Graph, path: Path) -> None:
    """Make sure that it is known what inputs take; runtimes tell a missing shape as a scalar's."""
    for value in graph.inputs:
        if value.type is not None and not isinstance(value.type, ir.TensorType):
            raise ModelError(
                f"input {value.name!r} of {path} is no tensor; export a model that takes tensors"
            )
        if value.shape is None and value.name not in graph.initializers:
            raise ModelError(
                f"input {value.name!r} of {path} has no shape; export it with one, whose sizes may "
                "be open"
            )


def _shorten_domain(model: ir.Model) -> None:
    """Let ONNX's own domain be empty where a file calls it by its long name, as runtimes do."""
    graphs: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for graph in graphs:
        version = graph.opset_imports.pop(_LONG_DOMAIN, None)
        if version is not None:
            graph.opset_imports.setdefault("", version)
        for node in graph.all_nodes():
            node.domain = "" if node.domain == _LONG_DOMAIN else node.domain


def _open_unknown_dimensions(graph: ir.Graph) -> None:
    """Let a dimension of -1 or "?", as some exporters write what is dynamic, be unknown.

    Dimensions of one name are equal, which those that are called "?" need not be.
    """
    for value in (*graph.inputs, *graph.outputs):
        dims = list(value.shape or ())
        if any(map(_is_unknown, dims)):
            value.shape = ir.Shape(None if _is_unknown(dim) else dim for dim in dims)


def _is_unknown(dim: int | ir.SymbolicDim) -> bool:
    return dim < 0 if isinstance(dim, int) else dim.value == "?"


def _is_made(value: ir.Value) -> bool:
    return value.producer() is not None or value.is_graph_input() or value.is_initializer()


def _spec(value: ir.Value) -> TensorSpec:
    dims: list[int | str | None] = []
    for dim in value.shape or ():
        dims.append(dim if isinstance(dim, int) else dim.value)
    dtype = value.dtype.numpy() if value.dtype is not None else np.dtype(np.object_)
    return TensorSpec(value.name or "", tuple(dims), dtype)
