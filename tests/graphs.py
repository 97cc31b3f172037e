"""Small seeded models that the tests share, each one pattern of real networks."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from qbench.artifacts import sha256_bytes, versions
from qbench.calibration.collect import collect
from qbench.calibration.table import CalibrationTable, DataProvenance, TableHeader
from qbench.data.synthetic import SyntheticSource
from qbench.model.load import Model
from qbench.model.prepare import prepare
from qbench.placement.targets import TARGETS, observed_tensors
from qbench.runtimes.ort import open_graph

CHANNELS = 8
IMAGE = (1, CHANNELS, 16, 16)
Feeds = dict[str, NDArray[Any]]


class Builder:
    """Collects the nodes of a graph; each call returns the name of a tensor.

    A node and its output share one name, so that plans read like the network.
    """

    def __init__(self, shape: Sequence[int | str] = IMAGE, *, opset: int = 17) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(0)
        self.inputs: list[onnx.ValueInfoProto] = []
        self.x = self.input("x", shape)

    def input(self, name: str, shape: Sequence[int | str]) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def constant(self, name: str, array: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, name: str, *shape: int) -> str:
        fan_in = int(np.prod(shape[1:]))
        values = self.random.normal(0, np.sqrt(2 / fan_in), shape)
        return self.constant(name, values.astype(np.float32))

    def node(self, op_type: str, name: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [name], name=name, **attributes))
        return name

    def conv(self, name: str, x: str, **attributes: Any) -> str:
        """A 3x3 convolution with bias that keeps shape and channels."""
        inputs, outputs, group, size = (
            attributes.pop(key, default)
            for key, default in (("cin", CHANNELS), ("cout", CHANNELS), ("group", 1), ("size", 3))
        )
        weight = self.weight(f"{name}.w", outputs, inputs // group, size, size)
        bias = self.constant(f"{name}.b", self.random.normal(0, 0.1, outputs).astype(np.float32))
        pads = attributes.pop("pads", [size // 2] * 4)
        return self.node("Conv", name, x, weight, bias, group=group, pads=pads, **attributes)

    def batchnorm(self, name: str, x: str, channels: int = CHANNELS) -> str:
        draw = self.random.uniform
        parameters = {"gamma": (0.5, 1.5), "beta": (-1, 1), "mean": (-1, 1), "variance": (0.5, 2)}
        names = [
            self.constant(f"{name}.{key}", draw(*limits, channels).astype(np.float32))
            for key, limits in parameters.items()
        ]
        return self.node("BatchNormalization", name, x, *names)

    def model(self, *outputs: str) -> onnx.ModelProto:
        infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "g", self.inputs, infos, self.constants)
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def conv_bn_relu() -> onnx.ModelProto:
    b = Builder()
    for i in range(2):
        b.x = b.node("Relu", f"relu{i}", b.batchnorm(f"bn{i}", b.conv(f"conv{i}", b.x)))
    return b.model(b.conv("head", b.x))


def conv_relu6() -> onnx.ModelProto:
    b = Builder()
    low, high = b.constant("low", np.float32(0)), b.constant("high", np.float32(6))
    return b.model(b.conv("head", b.node("Clip", "relu6", b.conv("stem", b.x), low, high)))


def conv_silu() -> onnx.ModelProto:
    b = Builder()
    stem = b.conv("stem", b.x)
    silu = b.node("Mul", "silu", stem, b.node("Sigmoid", "sigmoid", stem))
    return b.model(b.conv("head", silu))


def conv_hardswish() -> onnx.ModelProto:
    b = Builder()
    return b.model(b.conv("head", b.node("HardSwish", "hardswish", b.conv("stem", b.x))))


def conv_leaky_relu() -> onnx.ModelProto:
    b = Builder()
    leaky = b.node("LeakyRelu", "leaky", b.conv("stem", b.x), alpha=0.1)
    return b.model(b.conv("head", leaky))


def residual() -> onnx.ModelProto:
    b = Builder()
    stem = b.node("Relu", "stem_relu", b.conv("stem", b.x))
    branch = b.conv("branch2", b.node("Relu", "branch_relu", b.conv("branch1", stem)))
    joined = b.node("Relu", "joined_relu", b.node("Add", "join", branch, stem))
    return b.model(b.conv("head", b.conv("after", joined)))


def depthwise() -> onnx.ModelProto:
    b = Builder()
    spread = b.node("Relu", "depthwise_relu", b.conv("depthwise", b.x, group=CHANNELS))
    return b.model(b.conv("head", b.conv("pointwise", spread, size=1)))


def squeeze_excite() -> onnx.ModelProto:
    b = Builder()
    stem = b.node("Relu", "stem_relu", b.conv("stem", b.x))
    mean = b.node("GlobalAveragePool", "mean", stem)
    squeezed = b.node("Relu", "squeeze_relu", b.conv("squeeze", mean, size=1, cout=4))
    gate = b.node("Sigmoid", "gate", b.conv("excite", squeezed, size=1, cin=4))
    return b.model(b.conv("head", b.node("Mul", "scaled", stem, gate)))


def concat_branches() -> onnx.ModelProto:
    b = Builder()
    left = b.node("Relu", "left_relu", b.conv("left", b.x))
    right = b.conv("right", b.x)
    pooled = b.node("MaxPool", "pooled", left, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    joined = b.node("Concat", "joined", left, right, pooled, axis=1)
    return b.model(b.conv("head", joined, cin=3 * CHANNELS))


def upsample() -> onnx.ModelProto:
    b = Builder()
    deep = b.node("Relu", "deep_relu", b.conv("deep", b.x, strides=[2, 2]))
    scales = b.constant("scales", np.array([1, 1, 2, 2], np.float32))
    wide = b.node("Resize", "wide", deep, "", scales, mode="nearest")
    joined = b.node("Concat", "joined", wide, b.x, axis=1)
    return b.model(b.conv("head", joined, cin=2 * CHANNELS))


def classifier() -> onnx.ModelProto:
    b = Builder()
    features = b.node("Relu", "features_relu", b.conv("features", b.x))
    flat = b.node("Flatten", "flat", b.node("GlobalAveragePool", "mean", features))
    bias = b.constant("fc.b", b.random.normal(0, 0.1, 10).astype(np.float32))
    logits = b.node("Gemm", "fc", flat, b.weight("fc.w", 10, CHANNELS), bias, transB=1)
    return b.model(b.node("Softmax", "probabilities", logits))


def attention() -> onnx.ModelProto:
    b = Builder((1, 6, CHANNELS))
    query = b.node("MatMul", "query", b.x, b.weight("query.w", CHANNELS, CHANNELS))
    key = b.node("MatMul", "key", b.x, b.weight("key.w", CHANNELS, CHANNELS))
    turned = b.node("Transpose", "turned", key, perm=[0, 2, 1])
    weights = b.node("Softmax", "weights", b.node("MatMul", "scores", query, turned))
    return b.model(b.node("MatMul", "mixed", weights, b.x))


def detector() -> onnx.ModelProto:
    """A detection head that decodes each box side as the mean of a distribution (DFL)."""
    b = Builder()
    bins, cells = 4, 16 * 16
    features = b.node("Relu", "features_relu", b.conv("features", b.x))
    shape = b.constant("shape", np.array([1, 4, bins, cells]))
    logits = b.node("Reshape", "logits", b.conv("box", features, cout=4 * bins), shape)
    swapped = b.node("Transpose", "swapped", logits, perm=[0, 2, 1, 3])
    shares = b.node("Softmax", "shares", swapped, axis=1)
    steps = b.constant("steps", np.arange(bins, dtype=np.float32).reshape(1, bins, 1, 1))
    sides = b.node("Conv", "dfl", shares, steps)
    flat = b.node("Reshape", "sides", sides, b.constant("sides_shape", np.array([1, 4, cells])))
    scores = b.node("Sigmoid", "scores", b.conv("class", features, cout=3))
    classes_shape = b.constant("classes_shape", np.array([1, 3, cells]))
    classes = b.node("Reshape", "classes", scores, classes_shape)
    return b.model(b.node("Concat", "detections", flat, classes, axis=1))


def conv_transpose() -> onnx.ModelProto:
    b = Builder()
    stem = b.node("Relu", "stem_relu", b.conv("stem", b.x, strides=[2, 2]))
    weight = b.weight("up.w", CHANNELS, CHANNELS, 2, 2)
    return b.model(b.conv("head", b.node("ConvTranspose", "up", stem, weight, strides=[2, 2])))


def shared_weight() -> onnx.ModelProto:
    """One weight tensor in two convolutions, as in heads that scan a feature pyramid."""
    b = Builder()
    first = b.conv("first", b.x)
    second = b.node("Conv", "second", first, "first.w", "first.b", pads=[1] * 4)
    return b.model(b.conv("head", second))


def output_in_the_middle() -> onnx.ModelProto:
    """A feature map that is an output and feeds a further convolution."""
    b = Builder()
    middle = b.node("Relu", "middle", b.conv("stem", b.x))
    return b.model(middle, b.conv("head", middle))


def fragile() -> onnx.ModelProto:
    """A depthwise convolution between two others reads channels of very unlike size."""
    builder = Builder()
    x = builder.conv("stem", builder.x)
    scales = np.logspace(0, -4, CHANNELS).astype(np.float32).reshape(1, CHANNELS, 1, 1)
    x = builder.node("Mul", "unlike", x, builder.constant("scales", scales))
    kernel = builder.constant("kernel", (1 / scales).reshape(CHANNELS, 1, 1, 1))
    x = builder.node("Conv", "depthwise", x, kernel, group=CHANNELS)
    return builder.model(builder.conv("last", x))


def two_inputs() -> onnx.ModelProto:
    b = Builder()
    other = b.input("y", IMAGE)
    return b.model(
        b.conv("head", b.node("Add", "sum", b.conv("left", b.x), b.conv("right", other)))
    )


def with_if() -> onnx.ModelProto:
    """Both branches of an If read a convolution's output from outside."""
    b = Builder()
    stem = b.node("Relu", "stem_relu", b.conv("stem", b.x))
    mean = b.node("ReduceMean", "mean", stem, keepdims=0)
    positive = b.node("Greater", "positive", mean, b.constant("zero", np.float32(0)))
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(op_type, [stem], [f"{name}_y"], name=f"{name}_node")],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, IMAGE)],
        )
        for name, op_type in (("then", "Neg"), ("else", "Abs"))
    }
    return b.model(b.conv("head", b.node("If", "choice", positive, **branches)))


def opset11() -> onnx.ModelProto:
    """Squeeze and Unsqueeze take their axes as attributes before opset 13."""
    b = Builder(opset=11)
    stem = b.node("Relu", "stem_relu", b.conv("stem", b.x))
    raised = b.node("Unsqueeze", "raised", stem, axes=[4])
    return b.model(b.conv("head", b.node("Squeeze", "lowered", raised, axes=[4])))


PATTERNS: dict[str, Callable[[], onnx.ModelProto]] = {
    maker.__name__: maker
    for maker in (
        conv_bn_relu,
        conv_relu6,
        conv_silu,
        conv_hardswish,
        conv_leaky_relu,
        residual,
        depthwise,
        squeeze_excite,
        concat_branches,
        upsample,
        classifier,
        attention,
        detector,
        conv_transpose,
        shared_weight,
        output_in_the_middle,
        two_inputs,
        with_if,
        opset11,
    )
}


def model_of(proto: onnx.ModelProto, path: Path | None = None) -> Model:
    """The model as `load` would return it, without a file."""
    return Model(ir.from_proto(proto), path, sha256_bytes(proto.SerializeToString()))


def feeds_of(model: Model, seed: int = 0) -> Feeds:
    return SyntheticSource(model.inputs, seed + 1, seed=0).load(seed).feeds


def run(graph_model: ir.Model, feeds: Feeds, *, simulate: bool = True) -> Feeds:
    """Run without graph optimizations, so that nothing but the model decides the result."""
    return open_graph(graph_model, threads=1, simulate=simulate).run(feeds)


def table_of(model: Model, samples: int = 8) -> CalibrationTable:
    """A calibration table over random data, for all targets that can quantize the model."""
    prepared = prepare(model)
    source = SyntheticSource(model.inputs, samples, seed=0)
    gathered = collect(prepared, observed_tensors(prepared, list(TARGETS)), source, threads=1)
    header = TableHeader(
        model="model.onnx",
        model_sha256=model.sha256,
        data=DataProvenance("synthetic", source.fingerprint(), samples),
        recipe=None,
        image_size=None,
        versions=versions(),
    )
    return CalibrationTable(header, gathered.statistics)
