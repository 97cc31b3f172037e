import graphs
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qbench.errors import QuantizationError, UsageError
from qbench.evaluation.similarity import sqnr_db
from qbench.placement.targets import TARGETS
from qbench.quantization.int8 import Int8Options
from qbench.quantization.linting.lint import lint
from qbench.quantization.precisions.matmul_nbits import pack
from qbench.quantization.precisions.weight_only import WeightOptions
from qbench.quantization.quantize import quantize
from qbench.quantization.quantized import QuantizedModel

every_target = pytest.mark.parametrize("target", TARGETS)


def products(size: int = 64) -> onnx.ModelProto:
    """A MatMul, and two Gemms of one transposed weight, the first with a bias."""
    b = graphs.Builder((3, size))
    first = b.node("MatMul", "first", b.x, b.weight("first.w", size, size))
    weight, bias = b.weight("gemm.w", size, size), b.constant("gemm.b", np.ones(size, np.float32))
    second = b.node("Gemm", "second", first, weight, bias, transB=1)
    return b.model(b.node("Gemm", "third", second, weight, transB=1))


def made(
    proto: onnx.ModelProto, target: str, precision: str, options: WeightOptions | None = None
) -> QuantizedModel:
    model = graphs.model_of(proto)
    return quantize(model, target=target, precision=precision, options=options)


def quality(result: QuantizedModel) -> float:
    feeds = graphs.feeds_of(result.source)
    wanted, found = graphs.run(result.source.ir, feeds), graphs.run(result.ir, feeds)
    assert list(found) == list(wanted)
    return min(sqnr_db(wanted[name], found[name]) for name in wanted)


@every_target
@pytest.mark.parametrize("pattern", graphs.PATTERNS)
def test_int8_weights_of_every_pattern_stay_close_to_the_float_model(
    pattern: str, target: str
) -> None:
    result = made(graphs.PATTERNS[pattern](), target, "weight-only")
    assert quality(result) > 30
    assert not any(node.op_type == "QuantizeLinear" for node in result.ir.graph)
    assert lint(result.ir, target) == ()


def test_int8_weights_have_a_scale_for_each_output_channel() -> None:
    result = made(graphs.conv_transpose(), "cpu", "weight-only")
    (up,) = (node for node in result.ir.graph if node.op_type == "ConvTranspose")
    assert up.inputs[1].producer().attributes["axis"].as_int() == 1
    assert result.notes == (
        "runtimes dequantize the weights of convolutions in every call: smaller, not faster",
    )


@every_target
@pytest.mark.parametrize("block", [32, 128])
def test_int4_weights_stay_close_to_the_float_model(target: str, block: int) -> None:
    result = made(products(128), target, "int4", WeightOptions(block))
    assert result.float_nodes == ()
    assert quality(result) > 15
    assert lint(result.ir, target) == ()
    onnx.checker.check_model(ir.to_proto(result.ir), full_check=target == "tensorrt")


def test_tensorrt_gets_int4_codes_in_blocks_behind_a_dequantizelinear() -> None:
    graph = made(products(128), "tensorrt", "int4").ir.graph
    assert graph.opset_imports[""] >= 21
    weights = [node for node in graph if node.op_type == "DequantizeLinear"]
    forms = {tuple(node.attributes[a].as_int() for a in ("axis", "block_size")) for node in weights}
    assert forms == {(0, 32), (1, 32)}
    assert {node.inputs[0].dtype for node in weights} == {ir.DataType.INT4}
    assert {tuple(node.inputs[1].shape) for node in weights} == {(4, 128), (128, 4)}


def test_onnx_runtime_gets_the_same_weights_in_its_own_operator() -> None:
    cpu, tensorrt = (made(products(), target, "int4") for target in TARGETS)
    feeds = graphs.feeds_of(cpu.source)
    (one,), (other,) = (graphs.run(result.ir, feeds).values() for result in (cpu, tensorrt))
    assert sqnr_db(other, one) > 30  # it rounds activations to 8 bits besides
    nodes = [node for node in cpu.ir.graph if node.op_type == "MatMulNBits"]
    assert [node.name for node in nodes] == ["first", "second", "third"]
    assert nodes[1].inputs[1] is nodes[2].inputs[1]  # a shared weight is stored once
    assert "gemm.w" not in cpu.ir.graph.initializers


def test_tensorrt_gets_two_blocks_at_least() -> None:
    """It would dequantize a weight of one block in every call, as its build log shows."""
    graph = made(products(128), "tensorrt", "int4", WeightOptions(128)).ir.graph
    weights = [node for node in graph if node.op_type == "DequantizeLinear"]
    assert {node.attributes["block_size"].as_int() for node in weights} == {64}


def test_blocks_that_are_not_full() -> None:
    """ONNX Runtime fills them up; TensorRT asks for whole ones."""
    cpu = made(products(40), "cpu", "int4")
    assert cpu.float_nodes == ()
    assert quality(cpu) > 15
    message = "no MatMul or Gemm with constant weights that --int4 could hold; use --weight-only"
    with pytest.raises(QuantizationError, match=message):
        made(products(40), "tensorrt", "int4")
    mixed = made(graphs.encoder(), "tensorrt", "int4")  # 16 and 64 wide
    reasons = {node.name: node.reason for node in mixed.float_nodes}
    assert reasons["widen"] == "its 16 inputs are no multiple of the block of 32"
    assert "narrow" not in reasons


def test_nodes_that_keep_float_weights() -> None:
    b = graphs.Builder((2, 8, 8))
    stacked = b.node("MatMul", "stacked", b.x, b.weight("batch", 2, 8, 8))
    image = b.node("Reshape", "image", stacked, b.constant("shape", np.array([1, 2, 8, 8])))
    conv = b.conv("conv", image, cin=2, cout=1)
    flat = b.node("Reshape", "flat", conv, b.constant("matrix", np.array([8, 8])))
    spared = b.node("MatMul", "spared", flat, b.weight("s", 8, 8))
    proto = b.model(b.node("MatMul", "taken", spared, b.weight("t", 8, 8)))
    result = made(proto, "cpu", "int4", WeightOptions(exclude=["spa*"]))
    assert result.plan is not None
    assert result.plan.quantized == ("taken",)
    assert {node.name: node.reason for node in result.float_nodes} == {
        "stacked": "its weights are no matrix",
        "conv": "INT4 is for MatMul and Gemm only",
        "spared": "excluded by name",
    }
    assert quality(result) > 15


def test_packing_puts_the_first_of_two_codes_into_the_low_half() -> None:
    codes, scales = pack(np.float32([[7, -7, 1, 0, 0]]), block=4)
    assert (codes.shape, scales.shape) == ((1, 2, 2), (1, 2))
    assert scales[0, 0] == 1
    assert codes[0].tolist() == [[0x1F, 0x89], [0x88, 0x88]]


@every_target
def test_a_model_without_such_weights(target: str) -> None:
    b = graphs.Builder()
    relu = b.model(b.node("Relu", "relu", b.x))
    with pytest.raises(
        QuantizationError, match="has no Conv, Gemm or MatMul with constant weights"
    ):
        made(relu, target, "weight-only")
    with pytest.raises(QuantizationError, match="the model has no MatMul or Gemm with constant"):
        made(graphs.residual(), target, "int4")


def test_options() -> None:
    with pytest.raises(UsageError, match="--block 48 is not possible; choose 32 or 128"):
        WeightOptions(48)
    with pytest.raises(UsageError, match="--block 32 has an effect with --int4 only; drop it"):
        made(products(), "cpu", "weight-only", WeightOptions(32))
    model = graphs.model_of(products())
    with pytest.raises(UsageError, match="precision 'int4' takes WeightOptions, not Int8Options"):
        quantize(model, target="cpu", precision="int4", options=Int8Options())
    with pytest.raises(UsageError, match="--exclude 'a' has no effect on --dynamic; drop it"):
        quantize(model, target="cpu", precision="dynamic", options=Int8Options(exclude=["a"]))
    with pytest.raises(UsageError, match="unknown target 'gpu'; choose one of cpu, tensorrt"):
        quantize(model, target="gpu", precision="int4")


@every_target
@pytest.mark.parametrize("taken", ["w_int4", "w_scales", "w_quantized", "w_scale"])
def test_a_tensor_that_is_called_like_codes_or_scales(target: str, taken: str) -> None:
    b = graphs.Builder((3, 64))
    relu = b.node("Relu", taken, b.node("MatMul", "first", b.x, b.weight("w", 64, 64)))
    proto = b.model(b.node("MatMul", "second", relu, b.weight("v", 64, 64)))
    assert quality(made(proto, target, "int4")) > 10
