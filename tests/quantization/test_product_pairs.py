"""What is said of pairs is asked of ONNX Runtime; where it adds in 32 bits, none may saturate."""

from itertools import combinations, pairwise

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from qbench.placement.plan import Reader, Weight
from qbench.quantization import numerics
from qbench.quantization.product_pairs import pair_sums, partners, share_too_large
from qbench.quantization.weights import WeightCoding
from qbench.runtimes.cpu import adds_in_32_bits, read_cpuinfo

SATURATES = not adds_in_32_bits(read_cpuinfo())
STEP = 300
"""Of the outputs: 255 x 254 is 216 of them, and the largest int16 is 109."""


def ran(op_type: str, codes: NDArray[np.int8], shape: tuple[int, ...], **attributes: int) -> bytes:
    """Output codes of a quantized node whose inputs are all 255, [outputs, ...], of one sample."""
    x = ir.val("x", ir.DataType.UINT8, shape)
    one, step = (ir.tensor(np.float32(value)) for value in (1, STEP))
    zero, weights = ir.tensor(np.uint8(0)), ir.tensor(codes)
    constants = {"one": one, "zero": zero, "w": weights, "wz": ir.tensor(np.int8(0)), "step": step}
    values = {name: ir.val(name, const_value=tensor) for name, tensor in constants.items()}
    names = ["one", "zero", "w", "one", "wz", "step", "zero"]
    node = ir.node(op_type, [x, *(values[name] for name in names)], attributes)
    node.outputs[0].name, node.outputs[0].dtype = "y", ir.DataType.UINT8
    graph = ir.Graph(
        [x], node.outputs, nodes=[node], initializers=values.values(), opset_imports={"": 17}
    )
    proto = ir.to_proto(ir.Model(graph, ir_version=10))
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.full(shape, 255, np.uint8)})[0]


def saturating(outputs: NDArray[np.uint8], pairs: list[tuple[int, int]]) -> set[tuple[int, int]]:
    assert set(np.unique(outputs)) <= {109, 216}
    return {pair for pair, code in zip(pairs, outputs, strict=True) if code < 216}


def said(node: ir.Node, weight: NDArray[np.int8]) -> set[tuple[int, int]]:
    found = partners(node, weight)
    if found is None or not SATURATES:
        return set()
    return {(i, int(j)) for i, j in enumerate(found) if i < j}


@pytest.mark.parametrize(
    ("channels", "kernel", "group"),
    [
        (5, (1, 1), 1),
        (8, (1, 1), 2),
        (1, (3, 3), 1),
        (3, (3, 3), 1),
        (4, (3, 3), 1),
        (4, (2, 2), 2),
        (3, (3,), 1),
        (2, (3, 2, 1), 1),
    ],
    ids=str,
)
def test_convolutions(channels: int, kernel: tuple[int, ...], group: int) -> None:
    """An output for each two weights, in each group."""
    inputs = channels // group * int(np.prod(kernel))
    pairs = list(combinations(range(inputs), 2))
    codes = np.zeros((group, len(pairs), inputs), np.int8)
    for index, pair in enumerate(pairs):
        codes[:, index, pair] = 127
    weight = codes.reshape(group * len(pairs), channels // group, *kernel)
    image = (1, channels, *(max(size, 4) for size in kernel))
    outputs = ran("QLinearConv", weight, image, group=group)
    outputs = outputs.reshape(group, len(pairs), -1)[:, :, 0]
    node = ir.node("Conv", [], {"group": group})
    for codes_of_group in outputs:
        assert saturating(codes_of_group, pairs) == said(node, weight)


@pytest.mark.parametrize("kernel", [(3, 3), (5,), (2, 2, 2)], ids=str)
def test_depthwise_convolutions_add_in_32_bits(kernel: tuple[int, ...]) -> None:
    inputs = int(np.prod(kernel))
    pairs = list(combinations(range(inputs), 2))
    codes = np.zeros((len(pairs), inputs), np.int8)
    for index, pair in enumerate(pairs):
        codes[index, list(pair)] = 127
    weight = codes.reshape(len(pairs), 1, *kernel)
    group = len(pairs)
    outputs = ran("QLinearConv", weight, (1, group, *kernel), group=group).reshape(-1)
    node = ir.node("Conv", [], {"group": group})
    assert saturating(outputs, pairs) == set()
    assert (pair_sums(node, weight), partners(node, weight)) == (None, None)
    assert share_too_large(node, weight) == 0


@pytest.mark.parametrize("inputs", [2, 7, 300])
def test_matrices(inputs: int) -> None:
    random = np.random.default_rng(inputs)
    pairs = [*pairwise(range(inputs))]
    pairs += [(0, int(i)) for i in random.integers(2, inputs, 100)] if inputs > 2 else []
    weight = np.zeros((inputs, len(pairs)), np.int8)
    for index, pair in enumerate(pairs):
        weight[list(pair), index] = 127
    outputs = ran("QLinearMatMul", weight, (1, inputs))[0]
    assert saturating(outputs, pairs) == said(ir.node("MatMul", []), weight)


def test_sums_of_pairs_by_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numerics, "_BLOCK_VALUES", 1)
    matrix = np.array([[1, 2], [2, -5], [4, 9], [-3, 1], [100, 100]], np.float32)
    assert pair_sums(ir.node("MatMul", []), matrix) == pytest.approx([3, 10])
    assert pair_sums(ir.node("Gemm", [], {"transB": 1}), matrix.T) == pytest.approx([3, 10])
    stack = np.stack([matrix, 2 * matrix[:, ::-1]])
    assert pair_sums(ir.node("MatMul", []), stack) == pytest.approx([20, 10])
    assert pair_sums(ir.node("MatMul", []), matrix[:, 0]) == pytest.approx([3])
    conv = np.zeros((2, 2, 1, 2), np.float32)
    conv[0, :, 0, 1], conv[1, 0, 0, :] = 3, 4
    assert pair_sums(ir.node("Conv", []), conv) == pytest.approx([6, 4])


@given(
    arrays(np.float32, (3, 7), elements=st.floats(-4, 4, width=32)),
    st.sampled_from([None, 0]),
)
def test_nearest_codes_leave_room(weight: NDArray[np.float32], axis: int | None) -> None:
    node = ir.node("Gemm", [], {"transB": 1})
    place = Weight("w", Reader("fc", 1), axis)
    codes = WeightCoding(saturates=True).encode(node, place, weight).codes
    assert share_too_large(node, codes) == 0
    assert np.abs(codes.astype(int)).max() <= 127


def test_pairs_of_unlike_signs_cost_nothing() -> None:
    node = ir.node("Gemm", [], {"transB": 1})
    place = Weight("w", Reader("fc", 1), 0)
    unlike, alike = np.float32([[1, -1]]), np.float32([[1, 1]])
    coding = WeightCoding(saturates=True)
    assert coding.encode(node, place, unlike).codes.tolist() == [[127, -127]]
    assert coding.encode(node, place, alike).codes.tolist() == [[64, 64]]
