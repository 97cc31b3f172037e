"""What EngineInspector does: it lists the layers of an engine as JSON.

TensorRT 11 and TensorRT for RTX say "I/O Tensors" where TensorRT 10 said "Bindings".
"""

import json
from typing import Any

import onnx

_QDQ = ("QuantizeLinear", "DequantizeLinear")
_WORDS = {
    onnx.TensorProto.FLOAT: "Float",
    onnx.TensorProto.FLOAT16: "Half",
    onnx.TensorProto.BFLOAT16: "BFloat16",
    onnx.TensorProto.INT8: "Int8",
    onnx.TensorProto.INT32: "Int32",
    onnx.TensorProto.INT64: "Int64",
    onnx.TensorProto.BOOL: "Bool",
}


class EngineInspector:
    """Tells of the layers; names only, unless the engine was built with DETAILED."""

    execution_context = None

    def get_engine_information(self, format: Any) -> str:
        layers = _layers(self._engine)
        if format.name != "JSON":
            return "\n".join(map(str, layers))
        # BuilderFlag.FP16 left in the same version in which the word changed.
        is_old = hasattr(self._module.BuilderFlag, "FP16")
        names = list(self._engine._infos)
        return json.dumps({"Layers": layers, "Bindings" if is_old else "I/O Tensors": names})

    def get_layer_information(self, layer_index: int, format: Any) -> str:
        layer = _layers(self._engine)[layer_index]
        return json.dumps(layer) if format.name == "JSON" else str(layer)


def layer_names(engine: Any) -> list[str]:
    """Return what an engine calls its layers."""
    return [layer if isinstance(layer, str) else layer["Name"] for layer in _layers(engine)]


def _layers(engine: Any) -> list[Any]:
    """Return one layer for each node that is no Q/DQ; those are taken to be fused."""
    graph = engine._proto.graph
    nodes = [node for node in graph.node if node.op_type not in _QDQ]
    if engine._plan.verbosity != "DETAILED":
        return [node.name or f"node_of_{node.output[0]}" for node in nodes]
    types = _types(engine._proto)
    quantized = {n.output[0]: types[n.input[0]] for n in graph.node if n.op_type == _QDQ[1]}
    known = types | quantized
    return [_layer(node, known) for node in nodes]


def _layer(node: onnx.NodeProto, types: dict[str, int]) -> dict[str, Any]:
    name = node.name or f"node_of_{node.output[0]}"
    constants = [tensor for tensor in node.input[1:] if tensor in types]
    return {
        "Name": name,
        "LayerType": node.op_type,
        "Inputs": [_tensor(tensor, types) for tensor in node.input[:1]],
        "Constants": [_tensor(tensor, types) for tensor in constants],
        "Outputs": [_tensor(tensor, types) for tensor in node.output],
        "TacticName": "",
        "StreamId": 0,
        "Metadata": f"[ONNX Layer: {name}]",
    }


def _tensor(name: str, types: dict[str, int]) -> dict[str, str]:
    word = _WORDS.get(types.get(name, 0), "Float")
    return {"Name": name, "Location": "Device", "Format/Datatype": word, "Datatype": word}


def _types(proto: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(proto).graph
    infos = [*graph.input, *graph.value_info, *graph.output]
    types = {info.name: info.type.tensor_type.elem_type for info in infos}
    return types | {constant.name: constant.data_type for constant in graph.initializer}
