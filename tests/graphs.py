"""Small seeded models that the tests share, each one pattern of real networks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from qbench.artifacts import sha256_bytes, versions
from qbench.calibration.collect import Settings, collect
from qbench.calibration.table import CalibrationTable, DataProvenance, TableHeader
from qbench.data.synthetic import SyntheticSource
from qbench.model.load import Model
from qbench.model.prepare import prepare
from qbench.placement.targets import TARGETS, observed_tensors
from qbench.runtimes.ort.graphs import open_graph

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

    def every(self, step: int, name: str, x: str, *, axis: int, start: int) -> str:
        """Return `x[start::step]` along an axis, as PyTorch exports it."""
        name = f"{name}_{start}"
        numbers = {"starts": start, "ends": 2**63 - 1, "axes": axis, "steps": step}
        given = (self.constant(f"{name}.{key}", np.array([n])) for key, n in numbers.items())
        return self.node("Slice", name, x, *given)

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
    return b.model(b.conv("head", b.conv("after", silu)))


def silu_before_head() -> onnx.ModelProto:
    """Only a convolution that feeds the output, which stays float on a CPU, reads the SiLU."""
    b = Builder()
    stem = b.conv("stem", b.x)
    return b.model(b.conv("head", b.node("Mul", "silu", stem, b.node("Sigmoid", "gate", stem))))


def conv_hardswish() -> onnx.ModelProto:
    b = Builder()
    return b.model(b.conv("head", b.node("HardSwish", "hardswish", b.conv("stem", b.x))))


def conv_leaky_relu() -> onnx.ModelProto:
    b = Builder()
    leaky = b.node("LeakyRelu", "leaky", b.conv("stem", b.x), alpha=0.1)
    return b.model(b.conv("head", b.conv("after", leaky)))


def residual() -> onnx.ModelProto:
    b = Builder()
    stem = b.node("Relu", "stem_relu", b.conv("stem", b.x))
    branch = b.conv("branch2", b.node("Relu", "branch_relu", b.conv("branch1", stem)))
    joined = b.node("Relu", "joined_relu", b.node("Add", "join", branch, stem))
    return b.model(b.conv("head", b.conv("after", joined)))


def linear_bottlenecks(width: int = 128, size: int = 48) -> onnx.ModelProto:
    """Residual blocks as of a MobileNetV2: thin linear tensors between convolutions of `width`."""
    b = Builder((1, CHANNELS, size, size))

    def block(name: str, x: str) -> str:
        spread = b.conv(f"expand{name}", x, size=1, cout=width)
        return b.conv(f"project{name}", b.node("Relu", f"relu{name}", spread), size=1, cin=width)

    first = block("1", b.x)
    joined = b.node("Add", "joined", first, block("2", first))
    twice = b.node("Add", "joined_twice", joined, block("3", joined))
    last = b.node("Relu", "last", b.conv("expand4", twice, size=1, cout=width))
    return b.model(b.conv("head", last, size=1, cin=width))


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
    return b.model(b.conv("head", b.conv("after", b.node("Mul", "scaled", stem, gate))))


def concat_branches() -> onnx.ModelProto:
    b = Builder()
    left = b.node("Relu", "left_relu", b.conv("left", b.x))
    right = b.conv("right", b.x)
    pooled = b.node("MaxPool", "pooled", left, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    joined = b.node("Concat", "joined", left, right, pooled, axis=1)
    return b.model(b.conv("head", b.conv("after", joined, cin=3 * CHANNELS)))


def focus() -> onnx.ModelProto:
    """The start of a YOLOX: every second row and column of the image, stacked as channels."""
    b = Builder()
    rows = [b.every(2, "rows", b.x, axis=2, start=start) for start in (0, 1)]
    parts = [b.every(2, x, x, axis=3, start=start) for start in (0, 1) for x in rows]
    stacked = b.node("Concat", "stacked", *parts, axis=1)
    stem = b.node("Relu", "stem_relu", b.conv("stem", stacked, cin=4 * CHANNELS))
    return b.model(b.conv("head", b.conv("after", stem)))


def pyramid() -> onnx.ModelProto:
    """As the SPP block of a YOLO detector: pools of several sizes around each value."""
    b = Builder()
    stem = b.node("Relu", "stem_relu", b.conv("stem", b.x))
    pools = [
        b.node("MaxPool", f"pool{size}", stem, kernel_shape=[size] * 2, pads=[size // 2] * 4)
        for size in (5, 9)
    ]
    joined = b.conv("joined", b.node("Concat", "stacked", stem, *pools, axis=1), cin=24)
    return b.model(b.conv("head", joined))


def upsample() -> onnx.ModelProto:
    b = Builder()
    deep = b.node("Relu", "deep_relu", b.conv("deep", b.x, strides=[2, 2]))
    scales = b.constant("scales", np.array([1, 1, 2, 2], np.float32))
    wide = b.node("Resize", "wide", deep, "", scales, mode="nearest")
    joined = b.node("Concat", "joined", wide, b.x, axis=1)
    return b.model(b.conv("head", b.conv("after", joined, cin=2 * CHANNELS)))


def bicubic() -> onnx.ModelProto:
    b = Builder()
    deep = b.node("Relu", "deep_relu", b.conv("deep", b.x, strides=[2, 2]))
    scales = b.constant("scales", np.array([1, 1, 2, 2], np.float32))
    wide = b.node("Resize", "wide", deep, "", scales, mode="cubic")
    return b.model(b.conv("head", b.conv("after", wide)))


def classifier() -> onnx.ModelProto:
    b = Builder()
    features = b.node("Relu", "features_relu", b.conv("features", b.x))
    flat = b.node("Flatten", "flat", b.node("GlobalAveragePool", "mean", features))
    bias = b.constant("fc.b", b.random.normal(0, 0.1, 10).astype(np.float32))
    logits = b.node("Gemm", "fc", flat, b.weight("fc.w", 10, CHANNELS), bias, transB=1)
    return b.model(b.node("Softmax", "probabilities", logits))


def identity(dtype: Any) -> onnx.ModelProto:
    """A model that returns its input of two values of a numpy `dtype`."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, [2])],
        [helper.make_tensor_value_info("y", kind, [2])],
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def attention() -> onnx.ModelProto:
    b = Builder((1, 6, CHANNELS))
    query = b.node("MatMul", "query", b.x, b.weight("query.w", CHANNELS, CHANNELS))
    key = b.node("MatMul", "key", b.x, b.weight("key.w", CHANNELS, CHANNELS))
    turned = b.node("Transpose", "turned", key, perm=[0, 2, 1])
    weights = b.node("Softmax", "weights", b.node("MatMul", "scores", query, turned))
    return b.model(b.node("MatMul", "mixed", weights, b.x))


@dataclass
class _Tokens:
    """Builds a vision transformer on tokens, [1, count, width]."""

    b: Builder
    decomposed_layernorm: bool
    fused: str = ""
    width: int = 16
    heads: int = 2
    count: int = 6

    def layernorm(self, name: str, x: str) -> str:
        gain = self.b.random.uniform(0.5, 1.5, self.width).astype(np.float32)
        gamma, beta = self.b.constant(f"{name}.g", gain), self._bias(name, self.width)
        if not self.decomposed_layernorm:
            return self.b.node("LayerNormalization", name, x, gamma, beta, axis=-1)
        mean = self.b.node("ReduceMean", f"{name}.mean", x, axes=[-1])
        centred = self.b.node("Sub", f"{name}.centred", x, mean)
        square = self.b.node("Pow", f"{name}.square", centred, self.scalar(2))
        variance = self.b.node("ReduceMean", f"{name}.variance", square, axes=[-1])
        safe = self.b.node("Add", f"{name}.safe", variance, self.scalar(1e-5))
        root = self.b.node("Sqrt", f"{name}.root", safe)
        normal = self.b.node("Div", f"{name}.normal", centred, root)
        return self.b.node("Add", name, self.b.node("Mul", f"{name}.scaled", normal, gamma), beta)

    def linear(self, name: str, x: str, inputs: int, outputs: int) -> str:
        weight = self.b.random.normal(0, inputs**-0.5, (inputs, outputs)).astype(np.float32)
        product = self.b.node("MatMul", name, x, self.b.constant(f"{name}.w", weight))
        return self.b.node("Add", f"{name}.biased", self._bias(name, outputs), product)

    def attention(self, x: str) -> str:
        query, key, value = self._projected(x)
        turned = self.b.node("Transpose", "turned", key, perm=[0, 1, 3, 2])
        scores = self.b.node("MatMul", "scores", query, turned)
        scaled = self.b.node(
            "Mul", "scaled", scores, self.scalar((self.width / self.heads) ** -0.5)
        )
        shares = self.b.node("Softmax", "shares", scaled, axis=-1)
        mixed = self.b.node("MatMul", "mixed", shares, value)
        together = self.b.node("Transpose", "together", mixed, perm=[0, 2, 1, 3])
        shape = self.b.constant("tokens", np.array([1, self.count, self.width]))
        joined = self.b.node("Reshape", "joined", together, shape)
        return self.linear("project", joined, self.width, self.width)

    def mlp(self, x: str) -> str:
        wide = self.linear("widen", x, self.width, 4 * self.width)
        erf = self.b.node("Erf", "erf", self.b.node("Div", "root2", wide, self.scalar(2**0.5)))
        gate = self.b.node("Add", "gate", erf, self.scalar(1))
        gelu = self.b.node("Mul", "gelu", self.b.node("Mul", "gated", wide, gate), self.scalar(0.5))
        return self.linear("narrow", gelu, 4 * self.width, self.width)

    def scalar(self, number: float) -> str:
        return self.b.constant(f"constant{len(self.b.constants)}", np.float32(number))

    def _projected(self, x: str) -> Sequence[str]:
        """Return queries, keys and values, [1, heads, count, width / heads]."""
        names = ["query", "key", "value"]
        if not self.fused:
            flat = [self.linear(name, x, self.width, self.width) for name in names]
            return [self._per_head(*pair) for pair in zip(names, flat, strict=True)]
        joint = self.linear("qkv", x, self.width, 3 * self.width)
        if self.fused == "cut first":
            self.b.nodes.append(helper.make_node("Split", [joint], names, name="cut", axis=-1))
            return [self._per_head(name, name) for name in names]
        shape = np.array([1, self.count, 3, self.heads, self.width // self.heads])
        split = self.b.node("Reshape", "qkv.split", joint, self.b.constant("qkv.s", shape))
        turned = self.b.node("Transpose", "qkv.heads", split, perm=[2, 0, 3, 1, 4])
        indices = [self.b.constant(f"{name}.i", np.array(i)) for i, name in enumerate(names)]
        pairs = zip(names, indices, strict=True)
        return [self.b.node("Gather", name, turned, index, axis=0) for name, index in pairs]

    def _per_head(self, name: str, flat: str) -> str:
        shape = np.array([1, self.count, self.heads, self.width // self.heads])
        split = self.b.node("Reshape", f"{name}.split", flat, self.b.constant(f"{name}.s", shape))
        return self.b.node("Transpose", f"{name}.heads", split, perm=[0, 2, 1, 3])

    def _bias(self, name: str, size: int) -> str:
        values = self.b.random.normal(0, 0.1, size).astype(np.float32)
        return self.b.constant(f"{name}.b", values)


def encoder(
    decomposed_layernorm: bool = False, opset: int = 17, fused: str = ""
) -> onnx.ModelProto:
    """One pre-norm transformer block and a linear head on tokens, [1, 6, 16]."""
    b = Builder((1, 6, 16), opset=opset)
    tokens = _Tokens(b, decomposed_layernorm, fused)
    attended = b.node("Add", "attended", b.x, tokens.attention(tokens.layernorm("norm1", b.x)))
    block = b.node("Add", "block", attended, tokens.mlp(tokens.layernorm("norm2", attended)))
    return b.model(tokens.linear("head", tokens.layernorm("norm3", block), tokens.width, 10))


def encoder_decomposed() -> onnx.ModelProto:
    """The encoder with LayerNorm as nine nodes, as exports before opset 17 have it."""
    return encoder(decomposed_layernorm=True)


def encoder_fused() -> onnx.ModelProto:
    """The encoder with one projection for queries, keys and values, as vision transformers have."""
    return encoder(fused="transposed first")


def encoder_fused_cut_first() -> onnx.ModelProto:
    """The same as language models have it."""
    return encoder(fused="cut first")


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


def fragile(decades: int = 2) -> onnx.ModelProto:
    """A depthwise convolution between two others reads channels of very unlike size."""
    builder = Builder()
    x = builder.conv("stem", builder.x)
    scales = np.logspace(0, -decades, CHANNELS).astype(np.float32).reshape(1, CHANNELS, 1, 1)
    x = builder.node("Mul", "unlike", x, builder.constant("scales", scales))
    kernel = builder.constant("kernel", (1 / scales).reshape(CHANNELS, 1, 1, 1))
    x = builder.node("Conv", "depthwise", x, kernel, group=CHANNELS)
    return builder.model(builder.conv("last", x))


def reduced_tokens() -> onnx.ModelProto:
    """Tokens go into a MatMul and, as an image, into a convolution (the attention of a PVT)."""
    side, channels = 8, 2 * CHANNELS
    b = Builder((1, side * side, channels))
    tokens = b.node("Tanh", "tokens", b.x)
    queries = b.node("MatMul", "queries", tokens, b.weight("queries.w", channels, channels))
    grid = b.constant("grid.shape", np.array([1, side, side, channels]))
    image = b.node("Transpose", "image", b.node("Reshape", "grid", tokens, grid), perm=[0, 3, 1, 2])
    reduced = b.conv("reduced", image, cin=channels, cout=channels, size=2, pads=[0] * 4)
    return b.model(queries, reduced)


def shared_input() -> onnx.ModelProto:
    """One feature map is read by two convolutions and by the Add that joins them."""
    b = Builder()
    stem = b.node("Relu", "stem_relu", b.conv("stem", b.x))
    branches = b.node("Add", "branches", b.conv("wide", stem), b.conv("narrow", stem, size=1))
    return b.model(b.conv("head", b.conv("after", b.node("Add", "joined", branches, stem))))


def two_heads() -> onnx.ModelProto:
    """Two outputs, each of a convolution of its own, at two sizes."""
    b = Builder()
    fine = b.node("Relu", "fine", b.conv("stem", b.x))
    coarse = b.node("Relu", "coarse", b.conv("down", fine, strides=[2, 2]))
    return b.model(b.conv("fine_head", fine), b.conv("coarse_head", coarse))


def split_halves() -> onnx.ModelProto:
    """A SiLU is split by channels; one half goes through a convolution, and all are joined."""
    b = Builder()
    stem = b.conv("stem", b.x)
    silu = b.node("Mul", "silu", stem, b.node("Sigmoid", "sigmoid", stem))
    half = CHANNELS // 2
    sizes = b.constant("sizes", np.array([half, half]))
    b.nodes.append(helper.make_node("Split", [silu, sizes], ["left", "right"], "split", axis=1))
    deeper = b.node("Relu", "deeper_relu", b.conv("deeper", "right", cin=half, cout=half))
    joined = b.node("Concat", "joined", "left", "right", deeper, axis=1)
    return b.model(b.conv("head", b.conv("after", joined, cin=3 * half)))


def recurrent(batch: int | str = "N") -> onnx.ModelProto:
    """A convolution and an LSTM whose state, [2, batch, 8], is an input and an output."""
    b = Builder((batch, CHANNELS, 12))
    state = b.input("state", (2, batch, CHANNELS))
    weight, size = b.weight("stem.w", CHANNELS, CHANNELS, 3), 4 * CHANNELS
    stem = b.node("Relu", "stem_relu", b.node("Conv", "stem", b.x, weight))
    steps = b.node("Transpose", "steps", stem, perm=[2, 0, 1])
    b.nodes.append(helper.make_node("Split", [state], ["h", "c"], "split", axis=0))
    weights = [b.weight(name, 1, size, CHANNELS) for name in ("lstm.w", "lstm.r")]
    lstm = ["", "h_out", "c_out"]
    b.nodes.append(
        helper.make_node(
            "LSTM", [steps, *weights, "", "", "h", "c"], lstm, "lstm", hidden_size=CHANNELS
        )
    )
    flat = b.node("Flatten", "flat", b.node("Transpose", "last", "h_out", perm=[1, 0, 2]))
    score = b.node("Gemm", "score", flat, b.weight("score.w", 3, CHANNELS), transB=1)
    return b.model(score, b.node("Concat", "state_out", "h_out", "c_out", axis=0))


def two_inputs() -> onnx.ModelProto:
    b = Builder()
    other = b.input("y", IMAGE)
    added = b.node("Add", "sum", b.conv("left", b.x), b.conv("right", other))
    return b.model(b.conv("head", b.conv("after", added)))


def with_if(then: str = "Neg", otherwise: str = "Abs") -> onnx.ModelProto:
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
        for name, op_type in (("then", then), ("else", otherwise))
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
        silu_before_head,
        conv_hardswish,
        conv_leaky_relu,
        residual,
        linear_bottlenecks,
        depthwise,
        squeeze_excite,
        concat_branches,
        focus,
        pyramid,
        upsample,
        bicubic,
        classifier,
        attention,
        encoder,
        encoder_decomposed,
        encoder_fused,
        encoder_fused_cut_first,
        detector,
        conv_transpose,
        shared_weight,
        output_in_the_middle,
        shared_input,
        two_heads,
        split_halves,
        two_inputs,
        with_if,
        opset11,
    )
}


def renamed(proto: onnx.ModelProto, old: str, new: str) -> onnx.ModelProto:
    """A copy in which a tensor, and the node that writes it, have another name."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for node in copy.graph.node:
        node.name = new if node.name == old else node.name
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
    return copy


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
    gathered = collect(
        prepared, observed_tensors(prepared, list(TARGETS)), source, Settings(threads=1)
    )
    header = TableHeader(
        model="model.onnx",
        model_sha256=model.sha256,
        data=DataProvenance("synthetic", source.fingerprint(), samples),
        recipe=None,
        image_size=None,
        versions=versions(),
    )
    return CalibrationTable(header, gathered.statistics)
