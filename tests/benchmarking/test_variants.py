"""Which files a benchmark makes of a model, and what it calls them."""

from collections.abc import Sequence
from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest

from qbench.benchmarking.variants import Slot, Variant, VariantMaker, has_its_precision
from qbench.errors import ModelError, UsageError
from qbench.model.load import Model, load
from qbench.placement.targets import TARGETS
from qbench.quantization.quantize import quantize


@pytest.fixture
def model(tmp_path: Path) -> Model:
    onnx.save(graphs.residual(), tmp_path / "m.onnx")
    return load(tmp_path / "m.onnx")


@pytest.fixture
def maker(model: Model, tmp_path: Path) -> VariantMaker:
    (tmp_path / "made").mkdir()
    return VariantMaker(model, graphs.table_of(model), tmp_path / "made")


def names(slots: Sequence[Slot | Variant]) -> list[tuple[str, str]]:
    return [(slot.precision, slot.provider) for slot in slots]


def made(maker: VariantMaker, *names: str, providers: tuple[str, ...] = ("cpu",)) -> list[Variant]:
    return [maker.make(slot) for slot in maker.timed(names, providers)]


def test_every_precision_on_every_provider(maker: VariantMaker) -> None:
    slots = maker.timed(["fp32", "int8"], ["cpu", "cuda"])
    assert names(slots) == [
        ("fp32", "cpu"),
        ("fp32", "cuda"),
        ("int8", "cpu"),
        ("int8", "cuda"),
    ]
    variants = [maker.make(slot) for slot in slots]
    assert names(variants) == names(slots)
    fp32, _, cpu, cuda = variants
    assert fp32.path.name == "m.onnx"
    assert fp32.size_bytes == fp32.path.stat().st_size
    assert cpu.path != cuda.path  # each follows the placement rules of its own target
    assert cuda.notes == ("ONNX Runtime's CUDA provider runs Q/DQ in float",)


def test_each_file_is_made_once(maker: VariantMaker, tmp_path: Path) -> None:
    first, second = made(maker, "int8", providers=("cuda", "tensorrt"))
    assert first.path == second.path
    assert first.build_seconds == second.build_seconds
    simulated = [maker.make(slot) for slot in maker.simulated()]
    assert first.path in {variant.path for variant in simulated}
    assert len(list((tmp_path / "made").iterdir())) == 2


def test_simulated_variants_are_one_per_target(maker: VariantMaker) -> None:
    slots = maker.simulated()
    assert names(slots) == [("int8", f"{target} (simulated)") for target in TARGETS]
    assert all(maker.make(slot).simulated for slot in slots)


@pytest.mark.parametrize("precision", ["int8", "dynamic", "fp16", "int4", "weight-only"])
def test_a_converted_model_is_measured_as_given(precision: str, tmp_path: Path) -> None:
    onnx.save(graphs.classifier(), tmp_path / "m.onnx")
    model = load(tmp_path / "m.onnx")
    table = graphs.table_of(model)
    quantize(model, target="cpu", precision=precision, table=table, output=tmp_path / "made.onnx")
    made = load(tmp_path / "made.onnx")
    assert has_its_precision(made)
    assert not has_its_precision(model)
    maker = VariantMaker(made, None, tmp_path)
    assert names(maker.timed(["fp32", "int8"], ["cpu"])) == [("as given", "cpu")]
    assert names(maker.simulated()) == [("as given", "simulated")]


def test_one_half_precision_weight_makes_no_half_precision_model(tmp_path: Path) -> None:
    b = graphs.Builder()
    half = b.constant("half", np.ones(1, np.float16))
    scale = b.node("Cast", "scale", half, to=onnx.TensorProto.FLOAT)
    onnx.save(b.model(b.node("Mul", "head", b.conv("stem", b.x), scale)), tmp_path / "m.onnx")
    assert not has_its_precision(load(tmp_path / "m.onnx"))


def test_a_bfloat16_model_computes_in_bfloat16(model: Model, tmp_path: Path) -> None:
    quantize(model, target="tensorrt", precision="bf16", output=tmp_path / "half.onnx")
    maker = VariantMaker(load(tmp_path / "half.onnx"), None, tmp_path)
    (variant,) = [maker.make(slot) for slot in maker.timed(["fp32"], ["tensorrt"])]
    assert variant.arithmetic == "bf16"


def test_the_size_counts_external_data(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(graphs.residual(), path, save_as_external_data=True, location="w", size_threshold=0)
    variant = Variant("fp32", "cpu", path)
    assert variant.size_bytes == path.stat().st_size + (tmp_path / "w").stat().st_size


def test_a_precision_that_the_model_has_no_weights_for_has_no_file(maker: VariantMaker) -> None:
    (variant,) = made(maker, "int4")  # the model has convolutions only
    assert "no MatMul or Gemm with constant weights" in str(variant.problem)
    assert (variant.path, variant.size_bytes) == (None, None)


def test_files_that_a_provider_cannot_run_are_made_all_the_same(maker: VariantMaker) -> None:
    bf16, weights = made(maker, "bf16", "weight-only")
    assert bf16.path is not None  # ONNX Runtime says why it refuses it
    assert weights.notes == ("ONNX Runtime dequantizes weights of convolutions in every call",)


def test_a_model_in_memory(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a model in memory cannot be timed; save it first"):
        VariantMaker(graphs.model_of(graphs.residual()), None, tmp_path)


def test_quantizing_a_converted_model_again(maker: VariantMaker, tmp_path: Path) -> None:
    quantized = load(made(maker, "int8")[0].path)
    with pytest.raises(ModelError, match="is quantized already; give the float model"):
        quantize(quantized, target="cpu", precision="fp16", output=tmp_path / "again.onnx")


def test_what_making_took_and_left_float_is_told(maker: VariantMaker) -> None:
    given, quantized = made(maker, "fp32", "int8", providers=("cpu",))
    assert (given.build_seconds, given.float_nodes) == (None, {})
    assert quantized.build_seconds is not None
    assert quantized.build_seconds > 0


def test_nodes_that_stay_float_have_a_reason(tmp_path: Path) -> None:
    b = graphs.Builder((1, 3, 8, 8))
    stem = b.node("Relu", "relu", b.conv("stem", b.x, cin=3))
    onnx.save(b.model(b.conv("deep", stem)), tmp_path / "m.onnx")
    model = load(tmp_path / "m.onnx")
    (variant,) = made(VariantMaker(model, graphs.table_of(model), tmp_path), "int8")
    assert variant.float_nodes["deep"].startswith("feeds the model's output")


def test_a_table_of_another_model_is_a_row_with_the_reason(model: Model, tmp_path: Path) -> None:
    onnx.save(graphs.classifier(), tmp_path / "other.onnx")
    table = graphs.table_of(load(tmp_path / "other.onnx"))
    (variant,) = made(VariantMaker(model, table, tmp_path), "int8")
    assert "was made from" in str(variant.problem)
