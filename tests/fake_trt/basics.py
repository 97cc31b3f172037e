"""What the classes do that everything else uses: loggers, shapes, memory and tensors."""

import sys
from typing import Any

import numpy as np
import onnx

from fake_trt.spec import create

_TYPES = {
    onnx.TensorProto.FLOAT: "FLOAT",
    onnx.TensorProto.FLOAT16: "HALF",
    onnx.TensorProto.BFLOAT16: "BF16",
    onnx.TensorProto.FLOAT8E4M3FN: "FP8",
    onnx.TensorProto.INT8: "INT8",
    onnx.TensorProto.UINT8: "UINT8",
    onnx.TensorProto.INT4: "INT4",
    onnx.TensorProto.INT32: "INT32",
    onnx.TensorProto.INT64: "INT64",
    onnx.TensorProto.BOOL: "BOOL",
}
# Inputs that TensorRT reads on the host, since shapes depend on them.
_SHAPE_OPERANDS = {"Reshape": 1, "Expand": 1, "Tile": 1, "ConstantOfShape": 0, "Range": 1}


def log(logger: Any, severity: str, message: str) -> None:
    """Tell a logger, which may be derived from the module's ILogger."""
    logger.log(getattr(logger.Severity, severity), message)


def type_name(elem_type: int) -> str | None:
    """Return the name in `DataType` of an ONNX type; None where TensorRT has none."""
    return _TYPES.get(elem_type)


def shape_of(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Return the shape of an input or output; -1 where it is dynamic."""
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims)


def holds_shape(proto: onnx.ModelProto, name: str) -> bool:
    """Return whether the values of an input decide shapes, so that it lies on the host."""
    return any(
        name in node.input[_SHAPE_OPERANDS[node.op_type] :]
        for node in proto.graph.node
        if node.op_type in _SHAPE_OPERANDS
    )


def weights_bytes(proto: onnx.ModelProto) -> int:
    """Return the size of a model's constants."""
    return sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in proto.graph.initializer)


class ILogger:
    """Takes messages; `log` is the user's."""


class Logger:
    """Prints messages to stderr."""

    def __init__(self, min_severity: Any = None) -> None:
        self._value_of_min_severity = min_severity or self.Severity.WARNING

    def log(self, severity: Any, msg: str) -> None:
        if int(severity) <= int(self.min_severity):
            sys.stderr.write(f"[TRT] [{severity.name}] {msg}\n")


class Dims:
    """A shape."""

    def __init__(self, shape: Any = ()) -> None:
        self._dims = tuple(map(int, shape))

    def __getitem__(self, index: Any) -> Any:
        return self._dims[index]

    def __len__(self) -> int:
        return len(self._dims)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (tuple, list, type(self))) and self._dims == tuple(other)

    def __repr__(self) -> str:
        return repr(self._dims)


class IHostMemory:
    """Bytes that others read through the buffer protocol; they have no length of their own."""

    def __len__(self) -> int:
        raise TypeError("object of type 'IHostMemory' has no len()")

    def __getitem__(self, index: Any) -> Any:
        raise TypeError("'IHostMemory' object is not subscriptable")

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name not in type(self)._spec:
            raise AttributeError(f"'IHostMemory' object has no attribute {name!r}")
        return object.__getattribute__(self, name)

    @property
    def nbytes(self) -> int:
        return memoryview(self).nbytes

    @property
    def dtype(self) -> Any:
        return self._module.DataType.INT8


def host_memory(module: Any, data: bytes) -> Any:
    """Return `data` as the bindings return memory of the compiler."""
    made = module.IHostMemory.__new__(module.IHostMemory, data)
    object.__setattr__(made, "_is_made", True)
    return made


class ITensor:
    """An input or output of a network."""

    allowed_formats = (1 << 13) - 1
    is_network_input = property(lambda self: self._is_input)
    is_network_output = property(lambda self: not self._is_input)
    is_execution_tensor = property(lambda self: not self.is_shape_tensor)
    is_shape_tensor = property(lambda self: holds_shape(self._proto, self.name))
    shape = property(lambda self: self._module.Dims(shape_of(self._info)))

    @property
    def dtype(self) -> Any:
        kind = type_name(self._info.type.tensor_type.elem_type)
        return getattr(self._module.DataType, kind or "FLOAT")


def tensor(module: Any, proto: onnx.ModelProto, info: Any, is_input: bool) -> Any:
    """Return an input or output of a parsed model."""
    made = create(module.ITensor, _proto=proto, _info=info, _is_input=is_input)
    made.name = info.name
    return made


def init_libnvinfer_plugins(logger: Any, namespace: str) -> bool:
    """Register the plugins, of which the fake has none."""
    del logger, namespace
    return True


def volume(iterable: Any) -> int:
    """Return the number of elements of a shape."""
    return int(np.prod(list(iterable))) if len(list(iterable)) else 1
