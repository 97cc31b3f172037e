"""What OnnxParser does: it reads the model into the network, or says which nodes it refuses."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from fake_trt.basics import log, tensor, type_name
from fake_trt.spec import create

_REFUSED = {"Det", "DFT", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "Unique"}
_REFUSED_BY_RTX = _REFUSED | {"NonZero"}
_QDQ = ("QuantizeLinear", "DequantizeLinear")


class OnnxParser:
    """Reads ONNX files into a network."""

    def __init__(self, network: Any, logger: Any) -> None:
        self._network, self._logger = network, logger
        self._errors: list[Any] = []

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index: int) -> Any:
        return self._errors[index]

    def clear_errors(self) -> None:
        self._errors.clear()

    def supports_operator(self, op_name: str) -> bool:
        return op_name not in _refused(self._module)

    def parse_from_file(self, model: str) -> bool:
        if not Path(model).is_file():
            self._refuse("INVALID_VALUE", f"Input file cannot be found: {model}")
            return False
        return self._take(lambda: onnx.load(model))

    def parse(self, model: Any, path: str | None = None) -> bool:
        del path
        return self._take(lambda: onnx.load_from_string(bytes(model)))

    def _take(self, read: Any) -> bool:
        try:
            proto = read()
        except DecodeError:
            self._refuse("MODEL_DESERIALIZE_FAILED", "Failed to parse the ONNX model.")
            return False
        for index, node, code, reason in _problems(proto, self._module):
            self._refuse(code, reason, index, node)
        if not self._errors:
            _fill(self._network, proto)
        return not self._errors

    def _refuse(self, code: str, reason: str, index: int = -1, node: Any = None) -> None:
        code = getattr(self._module.ErrorCode, code)
        state = {"_code": code, "_desc": reason, "_index": index, "_node": node}
        self._errors.append(create(self._module.ParserError, **state))
        log(self._logger, "ERROR", f"ModelImporter.cpp:151: ERROR: {reason}")


class ParserError:
    """Why a node or a file is refused."""

    def code(self) -> Any:
        return self._code

    def desc(self) -> str:
        return self._desc

    def node(self) -> int:
        return self._index

    def node_name(self) -> str:
        return self._node.name if self._node else ""

    def node_operator(self) -> str:
        return self._node.op_type if self._node else ""


class INetworkDefinition:
    """A model as it was parsed."""

    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))
    num_layers = property(lambda self: len(self._proto.graph.node) if self._proto else 0)
    flags = property(lambda self: self._flags)
    name = ""

    def get_flag(self, flag: Any) -> bool:
        return bool(self._flags >> int(flag) & 1)

    def get_input(self, index: int) -> Any:
        return self._inputs[index] if 0 <= index < len(self._inputs) else None

    def get_output(self, index: int) -> Any:
        return self._outputs[index] if 0 <= index < len(self._outputs) else None


def _fill(network: Any, proto: onnx.ModelProto) -> None:
    module, graph = network._module, proto.graph
    constants = {constant.name for constant in graph.initializer}
    inputs = [info for info in graph.input if info.name not in constants]
    network._proto = proto
    network._inputs = [tensor(module, proto, info, is_input=True) for info in inputs]
    network._outputs = [tensor(module, proto, info, is_input=False) for info in graph.output]


def _problems(
    proto: onnx.ModelProto, module: Any
) -> Iterator[tuple[int, onnx.NodeProto | None, str, str]]:
    for info in proto.graph.input:
        if type_name(info.type.tensor_type.elem_type) is None:
            yield -1, None, "UNSUPPORTED_GRAPH", f"Unsupported type of input {info.name}"
    constants = {constant.name: constant for constant in proto.graph.initializer}
    for index, node in enumerate(proto.graph.node):
        if node.domain not in ("", "ai.onnx"):
            reason = "Plugin not found, are the plugin name, version, and namespace correct?"
            yield index, node, "INVALID_NODE", reason
        elif node.op_type in _refused(module):
            reason = f"Assertion failed: operator {node.op_type} is not supported."
            yield index, node, "UNSUPPORTED_NODE", reason
        elif node.op_type in _QDQ and (reason := _misquantized(node, constants)):
            yield index, node, "INVALID_NODE", reason


def _refused(module: Any) -> set[str]:
    return _REFUSED_BY_RTX if module.__name__ == "tensorrt_rtx" else _REFUSED


def _misquantized(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> str | None:
    """Return what TensorRT says of a Q/DQ node that it does not take."""
    first = constants.get(node.input[0])
    if first is not None and first.data_type == onnx.TensorProto.INT32:
        return (
            f"Invalid Node - {node.name}\n{node.name}: input has type Int32 but must have type "
            "FP8, FP4, Int4, Int8, or UInt8. In checkType at nodeBase.cpp:456"
        )
    zero = constants.get(node.input[2]) if len(node.input) > 2 else None
    if zero is None or not np.any(onnx.numpy_helper.to_array(zero)):
        return None
    return "Assertion failed: shiftIsAllZeros(zeroPoint): Non-zero zero point is not supported."
