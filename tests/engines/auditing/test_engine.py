from pathlib import Path

import pytest

from qbench.engines.auditing.engine import NodeFinding, audit
from qbench.engines.auditing.qdq import Neighbours
from qbench.runtimes.tensorrt.layers import EngineLayer, EngineTensor, layers_from_log

LOG = (Path(__file__).parent / "rtx-verbose.log").read_text()
# The operators of the model that the log is from.
OPS = {
    "stem": "Conv",
    "we[i]rd]": "Conv",
    "weights_only": "Conv",
    "up": "ConvTranspose",
    "plain": "Conv",
    "act": "Relu",
    "Relu_11": "Relu",
    "Relu_22": "Relu",
    "QuantizeLinear_3": "QuantizeLinear",
    "DequantizeLinear_4": "DequantizeLinear",
    "DequantizeLinear_8": "DequantizeLinear",
    "QuantizeLinear_14": "QuantizeLinear",
    "DequantizeLinear_15": "DequantizeLinear",
    "DequantizeLinear_19": "DequantizeLinear",
    "DequantizeLinear_26": "DequantizeLinear",
    "QuantizeLinear_32": "QuantizeLinear",
    "DequantizeLinear_33": "DequantizeLinear",
    "DequantizeLinear_37": "DequantizeLinear",
}


def tensors(*dtypes):
    return tuple(EngineTensor(f"t{index}", dtype) for index, dtype in enumerate(dtypes))


def layer(inputs, constants=(), outputs=("Float",), kind="correlation", nodes=("conv",)):
    return EngineLayer(
        "layer", kind, tensors(*inputs), tensors(*constants), tensors(*outputs), nodes, ""
    )


def test_every_layer_of_the_log_is_read():
    layers = layers_from_log(LOG)
    assert [(layer.kind, layer.nodes) for layer in layers] == [
        ("kgen", ("QuantizeLinear_3",)),
        ("correlation", ("stem", "DequantizeLinear_4", "DequantizeLinear_8")),
        ("kgen", ("stem", "QuantizeLinear_14", "Relu_11")),
        ("correlation", ("we[i]rd]", "DequantizeLinear_15", "DequantizeLinear_19")),
        ("kgen", ("we[i]rd]", "Relu_22")),
        ("kgen", ("DequantizeLinear_26",)),
        ("correlation", ("weights_only", "act")),
        ("kgen", ("QuantizeLinear_32", "DequantizeLinear_33")),
        ("kgen", ("DequantizeLinear_37",)),
        ("deconv", ("up",)),
        ("correlation", ("plain",)),
        ("kgen", ()),
    ]


def test_tensors_of_a_layer():
    stem = layers_from_log(LOG)[1]
    assert [tensor.dtype for tensor in stem.inputs] == ["Int8"]
    assert [tensor.dtype for tensor in stem.constants] == ["Int8", "Float", "Float"]
    assert [tensor.dtype for tensor in stem.outputs] == ["Float"]
    assert stem.tactic == "__myelin_CASK_STUB"
    assert stem.inputs[0].name == layers_from_log(LOG)[0].outputs[0].name


def test_a_log_without_layers():
    assert layers_from_log("[INFO] nothing here\n[ERROR] Layers: none\n") == ()


def test_audit_of_the_log():
    found = audit(layers_from_log(LOG), OPS)
    assert found.nodes_by_dtype == {"Conv": {"Int8": 2, "Float": 2}, "ConvTranspose": {"Float": 1}}
    assert found.fraction("Conv") == 0.5
    assert {finding.node: finding.reason.split(":")[0] for finding in found.not_int8} == {
        "weights_only": "its weights are quantized but dequantized at run time",
        "up": "this TensorRT has no Int8 kernel for transposed convolutions",
        "plain": "its weights are not quantized",
    }
    assert [finding.node for finding in found.own_qdq] == [
        "QuantizeLinear_3",
        "DequantizeLinear_26",
        "QuantizeLinear_32",
        "DequantizeLinear_33",
        "DequantizeLinear_37",
    ]
    assert {finding.reason for finding in found.own_qdq} == {"unknown"}  # without the graph
    assert found.layers_by_dtype == {"Float": 10, "Int8": 2}


@pytest.mark.parametrize(
    ("inputs", "constants", "expected"),
    [
        (["Int8"], ["Int8", "Float"], "Int8"),
        (["Int8", "Float"], ["Int8"], "Int8"),
        (["Int8", "Int8"], [], "Int8"),
        (["FP8"], ["FP8"], "FP8"),
        (["Float", "Int8"], ["Int8"], "Float"),
        (["Int8"], ["Half"], "Half"),
        (["Half"], ["Int8"], "Half"),
        (["Half", "Half"], [], "Half"),
    ],
)
def test_both_operands_must_be_narrow(inputs, constants, expected):
    outputs = ["Half"] if "Half" in (*inputs, *constants) else ["Float"]
    assert layer(inputs, constants, outputs).dtype == expected


def test_a_pointwise_kernel_never_computes_in_int8():
    epilogue = layer(["Int8", "Float"], ["Int8"], ["Int8"], kind="kgen")
    assert epilogue.dtype == "Float"


@pytest.mark.parametrize("masks", [[], ["Bool", "Bool"], ["Float"]])
def test_fused_attention_computes_in_what_it_attends_with_whatever_the_mask(masks):
    attention = layer([*masks, "Int8", "Int8", "Int8"], [], ["Int8"], kind="kgen")
    assert attention.dtype == "Int8"
    assert layer([*masks, "Int8", "Int8", "Half"], [], ["Half"], kind="kgen").dtype != "Int8"


def test_fp8_is_counted_and_explained():
    found = audit([layer(["FP8"], ["FP8"])], {"conv": "Conv"})
    assert found.fraction("Conv", "FP8") == 1.0
    assert found.fraction("Conv") == 0.0
    assert found.not_int8[0].reason == "its model asks for FP8"


@pytest.mark.parametrize("held", ["Int4", "Int8"])
def test_weights_that_are_dequantized_inside_a_layer_are_quantized(held):
    (found,) = audit([layer(["Float"], [held, "Float"])], {"conv": "Conv"}).not_int8
    assert found.dtype == "Float"
    assert found.reason == (
        f"its weights are {held}, which the layer dequantizes; its input is not quantized"
    )


def test_all_layers_of_a_node_must_be_int8():
    layers = [layer(["Int8"], ["Int8"]), layer(["Float"], ["Float"])]
    assert audit(layers, {"conv": "Conv"}).nodes_by_dtype == {"Conv": {"Float": 1}}


def test_a_node_that_only_a_pointwise_kernel_names():
    layers = [layer(["Float"], ["Float"], kind="kgen")]
    assert audit(layers, {"conv": "Conv"}).nodes_by_dtype == {"Conv": {"Float": 1}}


def test_a_node_without_a_layer_is_not_int8():
    found = audit([], {"conv": "Conv"})
    assert found.fraction("Conv") == 0.0
    assert found.not_int8[0].dtype == "unknown"
    assert "folded or merged" in found.not_int8[0].reason


def test_pairs_that_stay_by_themselves_have_a_reason():
    around = {
        "q": Neighbours("relu", False, ("conv",), False),
        "dq": Neighbours("relu", False, ("wide",), False),
    }
    layers = [
        layer(["Int8"], ["Int8"]),
        layer(["Half"], ["Half"], ["Half"], nodes=("wide",)),
        layer(["Float"], outputs=["Int8"], kind="kgen", nodes=("q",)),
        layer(["Int8"], outputs=["Half"], kind="kgen", nodes=("dq",)),
    ]
    ops = {"relu": "Relu", "q": "QuantizeLinear", "dq": "DequantizeLinear"}
    ops |= {"conv": "Conv", "wide": "Conv"}
    assert audit(layers, ops, {}, around).own_qdq == (
        NodeFinding(
            "q",
            "QuantizeLinear",
            "Float",
            "neither relu (Relu) nor what reads it takes it in",
        ),
        NodeFinding("dq", "DequantizeLinear", "Half", "it feeds wide (Conv), which runs in Half"),
    )


def test_layers_without_tensors_do_not_count():
    assert audit([layer([], outputs=[], kind="signal")], {}).layers_by_dtype == {}


def test_no_convolutions_no_fraction():
    assert audit([], {"a": "Relu"}).fraction("Conv") is None


def test_the_last_list_of_a_log_counts():
    assert layers_from_log(f"{LOG}\n{LOG}") == layers_from_log(LOG)
