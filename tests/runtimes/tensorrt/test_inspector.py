"""What the engine inspector prints, in the spellings of TensorRT 10 and 11."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from qbench.engines.auditing.engine import audit
from qbench.errors import EngineError
from qbench.runtimes.tensorrt.inspector import inspect_engine, layers_from_inspector
from qbench.runtimes.tensorrt.layers import EngineTensor


def tensor(name: str, dtype: str, key: str = "Format/Datatype") -> dict[str, Any]:
    return {"Name": name, "Location": "Device", "Dimensions": [1, 8, 4, 4], key: dtype}


REFORMAT = {
    "Name": "Reformatting CopyNode for Input Tensor 0 to stem + act",
    "LayerType": "Reformat",
    "Inputs": [tensor("x", "Row major linear FP32")],
    "Outputs": [tensor("x'", "Thirty-two wide channel vectorized row major Int8 format")],
    "ParameterType": "Reformat",
    "TacticValue": "0x0",
    "StreamId": 0,
    "Metadata": "[ONNX Layer: stem]",
}
INT8_CONV = {
    "Name": "stem + act",
    "LayerType": "CaskConvolution",
    "Inputs": [tensor("x'", "Thirty-two wide channel vectorized row major Int8 format")],
    "Outputs": [tensor("act_y", "Channel major FP16 format where channel % 8 == 0")],
    "ParameterType": "Convolution",
    "Weights": {"Type": "Int8", "Count": 576},
    "Bias": {"Type": "Float", "Count": 8},
    "HasReLU": 1,
    "TacticName": "sm80_xmma_fprop_implicit_gemm_indexed_i8i8_i8i32_f32_nhwckrsc_nhwc",
    "TacticValue": "0x1",
    "StreamId": 0,
    "Metadata": "[ONNX Layer: stem]\x1e[ONNX Layer: we[i]rd]]\x1e[ONNX Layer: act]",
}
HALF_CONV = {
    "Name": "head",
    "LayerType": "CaskConvolution",
    "Inputs": [tensor("act_y", "Channel major FP16 format where channel % 8 == 0")],
    "Outputs": [tensor("y", "Row major linear FP16 format")],
    "Weights": {"Type": "Half", "Count": 576},
    "Bias": {"Type": "Half", "Count": 0},
    "TacticName": "sm80_xmma_fprop_implicit_gemm_f16f16_f16f16_f16_nhwckrsc_nhwc",
    "Metadata": "[ONNX Layer: head]",
}
VERSION_10 = {"Layers": [REFORMAT, INT8_CONV, HALF_CONV], "Bindings": ["x", "y"]}

MYELIN_GEMM = {
    "Name": "fc_myl0_2",
    "LayerType": "gemm",
    "Inputs": [tensor("a", "Int8", "Datatype")],
    "Constants": [tensor("w", "Int8", "Datatype"), tensor("scale", "Float", "Datatype")],
    "Outputs": [tensor("b", "Half", "Datatype")],
    "TacticName": "__myelin_CASK_STUB",
    "StreamId": 0,
    "Metadata": "[ONNX Layer: fc]\x1f[ONNX Layer: dq_w]",
}
POINTWISE = {
    "Name": "__myl_MulRelu_myl0_3",
    "LayerType": "kgen",
    "Inputs": [tensor("b", "Half", "Datatype")],
    "Constants": [],
    "Outputs": [tensor("c", "BFloat16", "Datatype")],
    "TacticName": "__myl_MulRelu_0x1",
    "StreamId": 0,
    "Metadata": "[ONNX Layer: fc]\x1f[ONNX Layer: relu]",
}
VERSION_11 = {
    "Layers": [MYELIN_GEMM, POINTWISE],
    "I/O Tensors": [{"Name": "x", "IOMode": "Input", "DataType": "Float", "Dimensions": [1, 8]}],
}


def layers(document: Any) -> Any:
    return layers_from_inspector(json.dumps(document))


def test_layers_of_version_10() -> None:
    reformat, stem, head = layers(VERSION_10)
    assert (stem.name, stem.kind) == ("stem + act", "CaskConvolution")
    assert stem.inputs == (EngineTensor("x'", "Int8"),)
    assert stem.constants == (EngineTensor("Weights", "Int8"), EngineTensor("Bias", "Float"))
    assert stem.outputs == (EngineTensor("act_y", "Half"),)
    assert stem.nodes == ("stem", "we[i]rd]", "act")
    assert stem.tactic.startswith("sm80_xmma_fprop")
    assert (reformat.dtype, stem.dtype, head.dtype) == ("Float", "Int8", "Half")
    assert head.constants == (EngineTensor("Weights", "Half"),)  # a bias of no values is none


def test_layers_of_version_11() -> None:
    gemm, pointwise = layers(VERSION_11)
    assert [tensor.dtype for tensor in gemm.constants] == ["Int8", "Float"]
    assert (gemm.nodes, gemm.dtype) == (("fc", "dq_w"), "Int8")
    assert (pointwise.nodes, pointwise.outputs[0].dtype) == (("fc", "relu"), "BFloat16")


def test_separators_may_stand_unescaped() -> None:
    text = json.dumps(VERSION_10).replace("\\u001e", "\x1e")
    assert "\x1e" in text
    assert layers_from_inspector(text) == layers(VERSION_10)


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        ("Row major linear FP32", "Float"),
        ("Row major linear FP16 format", "Half"),
        ("Two wide channel vectorized row major FP16 format", "Half"),
        ("Row major linear INT8 format (kLINEAR)", "Int8"),
        ("Row major linear BF16 format", "BFloat16"),
        ("Row major linear UInt8 format", "UInt8"),
        ("Int64", "Int64"),
        ("FP8", "FP8"),
        ("FP4", "FP4"),
        ("Int4", "Int4"),
        ("Bool", "Bool"),
        ("N/A due to dynamic shapes", "N/A due to dynamic shapes"),
    ],
)
def test_words_for_types(text: str, dtype: str) -> None:
    (found,) = layers({"Layers": [{"Name": "l", "Inputs": [tensor("x", text)]}]})
    assert found.inputs == (EngineTensor("x", dtype),)


@pytest.mark.parametrize(
    ("tactic", "dtype"),
    [("sm80_xmma_gemm_i8f32_i8i32_f32_tn_n", "Int8"), ("pointwise_vectorized", "Half")],
)
def test_a_kernels_name_tells_of_weights_that_nothing_else_tells_of(
    tactic: str, dtype: str
) -> None:
    fused = {
        "Name": "fused",
        "LayerType": "fusion",
        "Inputs": [tensor("x", "Int8")],
        "Outputs": [tensor("y", "Half")],
        "TacticName": tactic,
    }
    (found,) = layers({"Layers": [fused]})
    assert found.dtype == dtype


def test_audit_of_both_versions() -> None:
    found = audit(layers(VERSION_10), {"stem": "Conv", "head": "Conv", "act": "Relu"})
    assert found.nodes_by_dtype == {"Conv": {"Int8": 1, "Half": 1}}
    found = audit(layers(VERSION_11), {"fc": "Gemm", "relu": "Relu"})
    assert found.nodes_by_dtype == {"Gemm": {"Int8": 1}}


def test_names_alone_are_no_layers() -> None:
    assert layers({"Layers": ["stem + act", "head"], "Bindings": []}) == ()
    assert layers({"Layers": []}) == ()


@pytest.mark.parametrize("text", ["", "Layers:\nName: stem", "{"])
def test_no_json(text: str) -> None:
    with pytest.raises(EngineError, match=r"printed no JSON \(.*\); the engine cannot be audited"):
        layers_from_inspector(text)


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"Layers": 3}'])
def test_json_of_something_else(text: str) -> None:
    with pytest.raises(EngineError, match='JSON without "Layers"; the engine cannot be audited'):
        layers_from_inspector(text)


class Inspector:
    def get_engine_information(self, form: str) -> str:
        return json.dumps({"format": form, "Layers": []})


class Runtime:
    engine_host_code_allowed = False
    loads = True

    def __init__(self, logger: object) -> None:
        assert logger == "logger"

    def deserialize_cuda_engine(self, engine: bytes) -> object:
        assert self.engine_host_code_allowed
        loaded = SimpleNamespace(create_engine_inspector=Inspector)
        return loaded if self.loads and engine == b"engine" else None


@pytest.fixture
def module() -> Any:
    form = SimpleNamespace(JSON="json", ONELINE="text")
    return SimpleNamespace(Runtime=Runtime, LayerInformationFormat=form)


def test_inspecting_an_engine(module: Any) -> None:
    text = inspect_engine(module, b"engine", "logger")
    assert json.loads(text or "") == {"format": "json", "Layers": []}


def test_an_engine_that_does_not_load(module: Any) -> None:
    assert inspect_engine(module, b"other", "logger") is None
