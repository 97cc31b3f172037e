"""Write int4 weights in the form that ONNX Runtime computes with: `com.microsoft.MatMulNBits`."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import NameFixPass

from qbench.model.graph import add_initializer, constant, drop_unused_initializers
from qbench.model.ort_operators import DOMAIN
from qbench.placement.plan import Plan, Weight
from qbench.quantization.numerics import per_block_int4, quantize, row_blocks
from qbench.runtimes.cpu import usable_cores

_BITS, _ZERO_POINT = 4, 8
_ACCURACY_LEVEL = 4
"""Activations enter the products as int8, scaled by block: faster than FP32 ones, and far more
accurate than the weights."""

_BIAS = 5
"""Position of the bias among the inputs."""


def write_matmul_nbits(model: ir.Model, plan: Plan, block: int) -> ir.Model:
    """Return a copy of `model` in which the planned MatMul and Gemm nodes are MatMulNBits.

    Args:
        model: The prepared graph that the plan was made for.
        plan: Its weights are matrices, each with the axis along which products are summed up.
        block: Weights that share a scale.
    """
    copy = model.clone()
    graph = copy.graph
    graph.opset_imports[DOMAIN] = 1
    nodes = {node.name: node for node in graph}
    distinct = {(weight.tensor, weight.axis): weight for weight in plan.weights}

    def matrix(weight: Weight) -> NDArray[Any]:
        array = constant(nodes[weight.reader.node].inputs[1])
        assert array is not None  # the plan holds constant weights only
        return array if weight.axis else array.T

    with ThreadPoolExecutor(usable_cores()) as pool:
        packed = pool.map(lambda weight: pack(matrix(weight), block), distinct.values())
        stored = {
            key: _store(graph, key[0], parts) for key, parts in zip(distinct, packed, strict=True)
        }
    for weight in plan.weights:
        node = nodes[weight.reader.node]
        _turn(node, stored[weight.tensor, weight.axis], matrix(weight).shape, block)
    drop_unused_initializers(graph)
    NameFixPass()(copy)  # a tensor of the model may be called like new codes or scales
    return copy


def pack(matrix: NDArray[Any], block: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return weights [N, K] as codes [N, blocks, block / 2] and scales [N, blocks].

    A byte holds two codes, the first in its low half, each 8 above the int4 code. Zeros fill up the
    last block.
    """
    rows, size = matrix.shape
    blocks = -(-size // block)
    codes = np.empty((rows, blocks, block // 2), np.uint8)
    scales = np.empty((rows, blocks), np.float32)
    for some in row_blocks(matrix):
        full = np.pad(matrix[some], ((0, 0), (0, -size % block)))
        parameters = per_block_int4(full, 1, block)
        each = (quantize(full, parameters, 1).astype(np.int8) + _ZERO_POINT).astype(np.uint8)
        codes[some] = (each[:, ::2] | each[:, 1::2] << 4).reshape(len(full), blocks, -1)
        scales[some] = parameters.scale
    return codes, scales


def _store(
    graph: ir.Graph, name: str, packed: tuple[NDArray[Any], NDArray[Any]]
) -> tuple[ir.Value, ir.Value]:
    parts = zip(("int4", "scales"), packed, strict=True)
    codes, scales = (add_initializer(graph, f"{name}_{part}", array) for part, array in parts)
    return codes, scales


def _turn(
    node: ir.Node, stored: tuple[ir.Value, ir.Value], shape: tuple[int, ...], block: int
) -> None:
    """Make a MatMulNBits of a node with weights of `shape` [N, K]."""
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    node.resize_inputs(3 if bias is None else _BIAS + 1)
    for position, value in enumerate(stored, 1):
        node.replace_input_with(position, value)
    if bias is not None:
        node.replace_input_with(_BIAS, bias)
    node.op_type, node.domain = "MatMulNBits", DOMAIN
    node.attributes.clear()
    numbers = {"N": shape[0], "K": shape[1], "bits": _BITS, "block_size": block}
    for name, number in {**numbers, "accuracy_level": _ACCURACY_LEVEL}.items():
        node.attributes[name] = ir.AttrInt64(name, number)
