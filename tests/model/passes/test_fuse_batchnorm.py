from collections import Counter

import graphs
import numpy as np
import onnx
import pytest

from qbench.model.passes.fuse_batchnorm import fuse_batchnorm


def ops_after(proto: onnx.ModelProto, fused: int) -> Counter[str]:
    """Run the pass, check the count of fusions and that the model computes the same."""
    model = graphs.model_of(proto)
    feeds = graphs.feeds_of(model)
    wanted = graphs.run(model.ir, feeds)
    assert fuse_batchnorm(model.ir) == fused
    found = graphs.run(model.ir, feeds)
    for name, array in wanted.items():
        assert np.allclose(found[name], array, atol=1e-4)
    return Counter(node.op_type for node in model.ir.graph)


def test_a_chain() -> None:
    assert ops_after(graphs.conv_bn_relu(), fused=2) == {"Conv": 3, "Relu": 2}


@pytest.mark.parametrize("group", [1, 2, graphs.CHANNELS])
def test_groups(group: int) -> None:
    b = graphs.Builder()
    output = b.batchnorm("bn", b.conv("conv", b.x, group=group))
    assert ops_after(b.model(output), fused=1) == {"Conv": 1}


def test_the_fused_conv_takes_the_names_of_what_it_replaces() -> None:
    b = graphs.Builder()
    model = graphs.model_of(b.model(b.batchnorm("bn", b.conv("conv", b.x))))
    fuse_batchnorm(model.ir)
    (node,) = model.ir.graph
    assert (node.name, node.outputs[0].name) == ("conv", "bn")


def test_a_conv_without_bias_and_an_epsilon_of_its_own() -> None:
    b = graphs.Builder()
    conv = b.node("Conv", "conv", b.x, b.weight("w", 4, graphs.CHANNELS, 1, 1))
    output = b.batchnorm("bn", conv, channels=4)
    b.nodes[-1].attribute.append(onnx.helper.make_attribute("epsilon", 0.5))
    assert ops_after(b.model(output), fused=1) == {"Conv": 1}


def test_a_variance_as_small_as_epsilon() -> None:
    b = graphs.Builder()
    output = b.batchnorm("bn", b.conv("conv", b.x))
    variance = np.full(graphs.CHANNELS, 1e-5, np.float32)
    b.constants[-1].CopyFrom(onnx.numpy_helper.from_array(variance, "bn.variance"))
    b.constants[0].CopyFrom(
        onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(b.constants[0]) / 1000, "conv.w")
    )
    assert ops_after(b.model(output), fused=1) == {"Conv": 1}


def test_a_weight_that_another_conv_reads_is_kept() -> None:
    b = graphs.Builder()
    first = b.batchnorm("bn", b.conv("first", b.x))
    second = b.node("Conv", "second", first, "first.w", pads=[1, 1, 1, 1])
    assert ops_after(b.model(second), fused=1) == {"Conv": 2}


def test_a_conv_that_others_read_is_left_alone() -> None:
    b = graphs.Builder()
    conv = b.conv("conv", b.x)
    proto = b.model(b.node("Add", "sum", b.batchnorm("bn", conv), conv))
    assert ops_after(proto, fused=0)["BatchNormalization"] == 1


def test_a_conv_that_is_an_output_is_left_alone() -> None:
    b = graphs.Builder()
    conv = b.conv("conv", b.x)
    assert ops_after(b.model(conv, b.batchnorm("bn", conv)), fused=0)["BatchNormalization"] == 1


def test_batchnorm_before_the_conv_is_left_alone() -> None:
    b = graphs.Builder()
    proto = b.model(b.conv("conv", b.batchnorm("bn", b.x)))
    assert ops_after(proto, fused=0)["BatchNormalization"] == 1


def test_half_precision_stays_half_precision() -> None:
    proto = graphs.conv_bn_relu()
    for tensor in proto.graph.initializer:
        half = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, tensor.name))
    model = graphs.model_of(proto)
    fuse_batchnorm(model.ir)
    dtypes = {v.dtype.name for n in model.ir.graph for v in n.inputs if v and v.is_initializer()}
    assert dtypes == {"FLOAT16"}


def test_batchnorm_in_training_mode_is_left_alone() -> None:
    b = graphs.Builder()
    output = b.batchnorm("bn", b.conv("conv", b.x))
    b.nodes[-1].attribute.append(onnx.helper.make_attribute("training_mode", 1))
    b.nodes[-1].output.extend(["running_mean", "running_variance"])
    assert fuse_batchnorm(graphs.model_of(b.model(output)).ir) == 0


def test_a_bias_that_is_left_out() -> None:
    b = graphs.Builder()
    conv = b.node("Conv", "conv", b.x, b.weight("w", 4, graphs.CHANNELS, 1, 1), "")
    assert ops_after(b.model(b.batchnorm("bn", conv, channels=4)), fused=1) == {"Conv": 1}


@pytest.mark.parametrize("position", [0, 1])
def test_operators_of_other_domains_are_others(position: int) -> None:
    b = graphs.Builder()
    b.batchnorm("bn", b.conv("conv", b.x))
    b.nodes[position].domain = "local"
    assert fuse_batchnorm(graphs.model_of(b.model("bn")).ir) == 0
