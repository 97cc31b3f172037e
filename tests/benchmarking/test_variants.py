"""Which files a benchmark makes of a model, and what it calls them."""

from pathlib import Path

import graphs
import onnx
import pytest

from qbench.benchmarking.variants import Variant, VariantMaker, has_its_precision
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


def names(variants: list[Variant]) -> list[tuple[str, str]]:
    return [(variant.precision, variant.provider) for variant in variants]


def test_every_precision_on_every_provider(maker: VariantMaker) -> None:
    variants = maker.timed(["fp32", "int8"], ["cpu", "cuda"])
    assert names(variants) == [
        ("fp32", "cpu"),
        ("fp32", "cuda"),
        ("int8", "cpu"),
        ("int8", "cuda"),
    ]
    assert [variant.name for variant in variants] == ["m.onnx"] * 4
    fp32, _, cpu, cuda = variants
    assert fp32.path.name == "m.onnx"
    assert fp32.size_bytes == fp32.path.stat().st_size
    assert cpu.path != cuda.path  # each follows the placement rules of its own target
    assert cuda.notes == ("ONNX Runtime's CUDA provider runs Q/DQ in float",)


def test_each_file_is_made_once(maker: VariantMaker, tmp_path: Path) -> None:
    first, second = maker.timed(["int8"], ["cuda", "tensorrt"])
    assert first.path == second.path
    simulated = maker.simulated()
    assert first.path in {variant.path for variant in simulated}
    assert len(list((tmp_path / "made").iterdir())) == 2


def test_simulated_variants_are_one_per_target(maker: VariantMaker) -> None:
    variants = maker.simulated()
    assert names(variants) == [("int8", f"{target} (simulated)") for target in TARGETS]
    assert all(variant.simulated for variant in variants)


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


def test_the_size_counts_external_data(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(graphs.residual(), path, save_as_external_data=True, location="w", size_threshold=0)
    variant = Variant("m.onnx", "fp32", "cpu", path)
    assert variant.size_bytes == path.stat().st_size + (tmp_path / "w").stat().st_size


def test_a_precision_that_the_model_has_no_weights_for_has_no_file(maker: VariantMaker) -> None:
    (variant,) = maker.timed(["int4"], ["cpu"])  # the model has convolutions only
    assert "no MatMul or Gemm with constant weights" in str(variant.problem)
    assert (variant.path, variant.size_bytes) == (None, None)


def test_files_that_a_provider_cannot_run_are_made_all_the_same(maker: VariantMaker) -> None:
    bf16, weights = maker.timed(["bf16", "weight-only"], ["cpu"])
    assert bf16.path is not None  # ONNX Runtime says why it refuses it
    assert weights.notes == ("ONNX Runtime dequantizes weights of convolutions in every call",)


def test_a_model_in_memory(tmp_path: Path) -> None:
    maker = VariantMaker(graphs.model_of(graphs.residual()), None, tmp_path)
    with pytest.raises(UsageError, match="a model in memory cannot be timed; save it first"):
        maker.timed(["fp32"], ["cpu"])


def test_quantizing_a_converted_model_again(maker: VariantMaker, tmp_path: Path) -> None:
    made = load(maker.timed(["int8"], ["cpu"])[0].path)
    with pytest.raises(ModelError, match="is quantized already; give the float model"):
        quantize(made, target="cpu", precision="fp16", output=tmp_path / "again.onnx")
