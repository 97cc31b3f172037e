"""Operators that TensorRT does not build.

Tried operator by operator on TensorRT for RTX 1.7 and its parser, which passes over domains: it
takes a `Gelu` of any domain for ONNX's. The parser of TensorRT itself is a close relative that may
know more, through plugins above all.
"""

from collections.abc import Collection, Iterator

import onnx
import onnx_ir as ir

from qbench.quantization.encodings import is_integer_kernel
from qbench.quantization.linting.finding import ERROR, WARNING, Place, Rule

UNKNOWN = frozenset(
    {
        "AffineGrid",
        "Bernoulli",
        "BitCast",
        "BitShift",
        "BitwiseAnd",
        "BitwiseNot",
        "BitwiseOr",
        "BitwiseXor",
        "CenterCropPad",
        "Col2Im",
        "Compress",
        "ConcatFromSequence",
        "ConvInteger",
        "CumProd",
        "DFT",
        "DeformConv",
        "Det",
        "DynamicQuantizeLinear",
        "ImageDecoder",
        "MatMulInteger",
        "MaxRoiPool",
        "MaxUnpool",
        "MelWeightMatrix",
        "Multinomial",
        "NegativeLogLikelihoodLoss",
        "Optional",
        "OptionalGetElement",
        "OptionalHasElement",
        "QLinearConv",
        "QLinearMatMul",
        "RegexFullMatch",
        "SequenceAt",
        "SequenceConstruct",
        "SequenceEmpty",
        "SequenceErase",
        "SequenceInsert",
        "SequenceLength",
        "SequenceMap",
        "SoftmaxCrossEntropyLoss",
        "SplitToSequence",
        "StringConcat",
        "StringNormalizer",
        "StringSplit",
        "SwiGLU",
        "TfIdfVectorizer",
        "Unique",
    }
)
"""Operators of ONNX that the parser of TensorRT for RTX does not know."""

KNOWN_TO_TENSORRT = frozenset({"DeformConv"})
"""Those among them that TensorRT itself has an importer for (10.1 and later)."""

NEED_PLUGIN = frozenset({"CausalConvWithState", "LinearAttention", "NonZero", "RoiAlign"})
"""Operators that the parser builds from plugins; TensorRT for RTX has none of these."""

CONTRIBUTED = frozenset(
    {
        "DistCollective",
        "GroupQueryAttention",
        "ImageScaler",
        "MatMulNBits",
        "MultiHeadAttention",
        "ParametricSoftplus",
        "QMoE",
        "ScaledTanh",
        "SimplifiedLayerNormalization",
        "SkipSimplifiedLayerNormalization",
    }
)
"""Operators that are not ONNX's, and that the parser knows; so it does all called `TRT_...`."""


def _nodes_of(graph: ir.Graph, operators: Collection[str]) -> Iterator[ir.Node]:
    """Yield the nodes of some operators, those in subgraphs included."""
    return (node for node in graph.all_nodes() if node.op_type in operators)


def _unknown(graph: ir.Graph, operators: Collection[str]) -> Iterator[Place]:
    for node in _nodes_of(graph, operators):
        # The rules for Q/DQ models name these, with a fix of their own.
        if not is_integer_kernel(node) and node.op_type != "DynamicQuantizeLinear":
            yield Place(node, None, f"TensorRT's parser does not know {node.op_type}")


def _unknown_to_rtx(graph: ir.Graph) -> Iterator[Place]:
    return _unknown(graph, UNKNOWN)


def _unknown_to_tensorrt(graph: ir.Graph) -> Iterator[Place]:
    return _unknown(graph, UNKNOWN - KNOWN_TO_TENSORRT)


def _need_plugin(graph: ir.Graph) -> Iterator[Place]:
    for node in _nodes_of(graph, NEED_PLUGIN):
        reason = f"{node.op_type} needs a plugin, which TensorRT for RTX does not have"
        yield Place(node, None, reason)


def _suppressions(graph: ir.Graph) -> Iterator[Place]:
    for node in _nodes_of(graph, {"NonMaxSuppression"}):
        yield Place(node, None, "TensorRT for RTX parses NonMaxSuppression, but cannot build it")


def _custom(graph: ir.Graph) -> Iterator[Place]:
    for node in graph.all_nodes():
        name = node.op_type
        is_known = onnx.defs.has(name) or name in CONTRIBUTED or name.startswith("TRT_")
        if not is_known and not is_integer_kernel(node):
            origin = f"{node.domain}.{name}" if node.domain else name
            yield Place(node, None, f"{origin} is no operator of ONNX")


_CUT = "export the model without it, or end the model in front of it"
_PLUGIN = "load a plugin for it, or export the model without it"

RTX_RULES = (
    Rule("unknown-operator", ERROR, _unknown_to_rtx, _CUT),
    Rule("custom-operator", ERROR, _custom, _CUT),
    Rule("missing-plugin", ERROR, _need_plugin, f"use --backend tensorrt, or {_CUT}"),
    Rule(
        "suppression",
        ERROR,
        _suppressions,
        "export the model without NMS and run it behind the engine, or use --backend tensorrt",
    ),
)
"""For TensorRT for RTX."""

TENSORRT_RULES = (
    Rule("unknown-operator", WARNING, _unknown_to_tensorrt, _PLUGIN),
    Rule("custom-operator", WARNING, _custom, _PLUGIN),
)
"""For TensorRT itself, where a plugin may know what the parser does not."""
