"""`qbench.quantize` from file to file."""

from dataclasses import replace
from pathlib import Path

import graphs
import msgspec
import numpy as np
import onnx
import onnx_ir as ir
import pytest

import qbench
from qbench.data.npz import NpzSource
from qbench.errors import CalibrationError, ModelError, UsageError
from qbench.model.load import Model, load
from qbench.model.prepare import prepare
from qbench.model.save import save
from qbench.quantization import int8
from qbench.quantization.int8 import Int8Options, saturates
from qbench.quantization.precisions.half import to_half
from qbench.quantization.quantize import quantize
from qbench.runtimes.ort.runner import OrtRunner


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model(folder: Path) -> Model:
    onnx.save(graphs.residual(), folder / "m.onnx")
    return load(folder / "m.onnx")


def test_the_table_is_found_by_the_models_hash(model: Model, folder: Path) -> None:
    graphs.table_of(graphs.model_of(graphs.depthwise())).save(folder / "calibration" / "a.json")
    graphs.table_of(model).save(folder / "calibration" / "z.json")
    result = qbench.quantize("m.onnx", target="cpu", output="out/q.onnx")
    assert result.path == Path("out/q.onnx")
    assert result.table is not None
    assert result.table.header.model_sha256 == model.sha256
    assert OrtRunner(result.path).inputs == OrtRunner(folder / "m.onnx").inputs


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_slices_in_front_of_a_conv_become_a_part_of_it_on_a_cpu(target: str) -> None:
    model = graphs.model_of(graphs.focus())
    result = quantize(model, target=target, table=graphs.table_of(model))
    slices = sum(node.op_type == "Slice" for node in result.ir.graph)
    says_so = any("slices in front of stem became a part of it" in note for note in result.notes)
    assert (slices, says_so) == ((0, True) if target == "cpu" else (6, False))


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_large_pools_go_on_from_smaller_ones_on_a_cpu(target: str) -> None:
    model = graphs.model_of(graphs.pyramid())
    result = quantize(model, target=target, table=graphs.table_of(model))
    largest = next(node for node in result.ir.graph if node.name == "pool9")
    says_so = any("larger pools (pool9) go on from smaller" in note for note in result.notes)
    window = list(largest.attributes["kernel_shape"].as_ints())
    assert (window, says_so) == (([5, 5], True) if target == "cpu" else ([9, 9], False))


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_float_convolutions_add_up_what_was_stacked_for_them_on_a_cpu(target: str) -> None:
    b = graphs.Builder()
    stacked = b.node("Concat", "stack", *(b.conv(name, b.x, cout=16) for name in "ab"), axis=1)
    model = graphs.model_of(b.model(b.conv("head", b.conv("sum", stacked, cin=32))))
    options = Int8Options(exclude=["sum", "stack"])
    result = quantize(model, target=target, table=graphs.table_of(model), options=options)
    concats = sum(node.op_type == "Concat" for node in result.ir.graph)
    says_so = any("convolutions (sum) add up what was" in note for note in result.notes)
    assert (concats, says_so) == ((0, True) if target == "cpu" else (1, False))


def test_a_notebook_shows_what_was_made(model: Model) -> None:
    options = Int8Options(exclude=("stem",), effort="fast")
    table = graphs.table_of(model)
    html = quantize(model, target="cpu", table=table, options=options)._repr_html_()
    assert "multiply-accumulates in INT8" in html
    assert ">nodes left float<" in html


def test_external_data_is_kept_external(model: Model, folder: Path) -> None:
    save(model.ir, folder / "outside.onnx", external=True)
    outside = load(folder / "outside.onnx")
    quantize(outside, target="cpu", table=graphs.table_of(outside), output="q.onnx")
    assert (folder / "q.onnx.data").stat().st_size > 0
    quantize(model, target="cpu", table=graphs.table_of(model), output="one.onnx")
    assert not (folder / "one.onnx.data").exists()


def test_a_model_without_anything_to_quantize_is_not_sent_to_calibrate(folder: Path) -> None:
    b = graphs.Builder()
    onnx.save(b.model(b.node("Sigmoid", "y", b.x)), folder / "s.onnx")
    with pytest.raises(ModelError, match=r"s\.onnx has no Conv, Gemm or MatMul that could be qu"):
        quantize("s.onnx", target="cpu")


def test_a_table_that_is_named(model: Model, folder: Path) -> None:
    graphs.table_of(model).save(folder / "t.json")
    assert quantize(model, target="cpu", table=folder / "t.json").path is None


def test_without_a_table(model: Model) -> None:
    message = r"no calibration table in .* made from m\.onnx; run `qbench calibrate .*m\.onnx --d"
    with pytest.raises(CalibrationError, match=message):
        quantize(model, target="cpu")


def test_half_precision_does_without_a_damaged_table(
    model: Model, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It only helps; a table that is named must be whole, though."""
    graphs.table_of(model).save(folder / "calibration/m.json")
    (folder / "calibration/m.npz").unlink()
    assert quantize(model, target="cpu", precision="fp16").table is None
    assert "FP16 does without a calibration table: calibration/m.json lacks its" in caplog.text
    with pytest.raises(CalibrationError, match="lacks its histograms"):
        quantize(model, target="cpu", precision="fp16", table="calibration/m.json")


def test_a_table_of_another_model(model: Model) -> None:
    table = graphs.table_of(graphs.model_of(graphs.depthwise()))
    with pytest.raises(CalibrationError, match="the calibration table was made from another model"):
        quantize(model, target="cpu", table=table)


def test_a_model_that_is_quantized_already(model: Model, folder: Path) -> None:
    quantize(model, target="tensorrt", table=graphs.table_of(model), output="q.onnx")
    again = load(folder / "q.onnx")
    table = graphs.table_of(model)
    object.__setattr__(again, "sha256", model.sha256)
    with pytest.raises(ModelError, match=r"q\.onnx is quantized already; give the float model"):
        quantize(again, target="cpu", table=table)


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_exclusions_reduce_the_share_of_integer_work(model: Model, target: str) -> None:
    table = graphs.table_of(model)
    whole = quantize(model, target=target, table=table)
    part = quantize(model, target=target, table=table, options=Int8Options(exclude=["branch*"]))
    assert whole.int8_mac_fraction is not None
    assert part.int8_mac_fraction == pytest.approx(whole.int8_mac_fraction - 2 / 5)
    assert {"branch1", "branch2"} <= {node.name for node in part.float_nodes}


def test_the_share_is_that_of_multiplications(model: Model) -> None:
    # Five equal convolutions, of which the last feeds the output.
    table = graphs.table_of(model)
    assert quantize(model, target="cpu", table=table).int8_mac_fraction == pytest.approx(4 / 5)
    assert quantize(model, target="tensorrt", table=table).int8_mac_fraction == 1


def test_the_share_is_unknown_where_the_image_size_is(folder: Path) -> None:
    b = graphs.Builder(("N", graphs.CHANNELS, "H", "W"))
    onnx.save(b.model(b.conv("head", b.conv("stem", b.x))), folder / "m.onnx")
    np.savez(folder / "a.npz", x=np.random.default_rng(0).normal(size=(4, 8, 9, 9)).astype("f"))
    table = qbench.calibrate("m.onnx", "a.npz")
    sizeless = msgspec.structs.replace(table.header, image_size=None)
    result = quantize("m.onnx", target="cpu", table=replace(table, header=sizeless))
    assert result.int8_mac_fraction is None


def test_half_precision(model: Model, folder: Path) -> None:
    result = quantize(model, target="tensorrt", precision="fp16", output=folder / "h.onnx")
    assert (result.precision, result.plan, result.table) == ("fp16", None, None)
    feeds = graphs.feeds_of(model)
    found = OrtRunner(folder / "h.onnx").run(feeds)["head"]
    assert np.allclose(found, graphs.run(model.ir, feeds)["head"], atol=0.05)


@pytest.mark.parametrize("keep_io", [True, False])
@pytest.mark.parametrize("precision", ["fp16", "bf16", "int4", "weight-only", "dynamic"])
def test_a_model_in_half_precision_is_not_narrowed_again(precision: str, keep_io: bool) -> None:
    float_model = graphs.model_of(graphs.classifier())
    half = to_half(prepare(float_model).ir, ir.DataType.FLOAT16, keep_io=keep_io).ir
    model = Model(half, Path("half.onnx"), "0")
    target = "cpu" if precision == "dynamic" else "tensorrt"
    with pytest.raises(ModelError, match=r"half\.onnx computes in float16; export it in float32"):
        quantize(model, target=target, precision=precision)


def test_an_unknown_precision(model: Model) -> None:
    with pytest.raises(UsageError, match="'int3'; choose from int8, fp16, bf16, fp8"):
        quantize(model, target="cpu", precision="int3")


def test_an_unknown_method(model: Model) -> None:
    options = Int8Options(method="kl")
    with pytest.raises(UsageError, match="unknown range method 'kl'"):
        quantize(model, target="cpu", table=graphs.table_of(model), options=options)


@pytest.mark.parametrize("is_exact", [True, False])
def test_this_machine_is_asked_whether_products_saturate(
    monkeypatch: pytest.MonkeyPatch, is_exact: bool
) -> None:
    monkeypatch.setattr(int8, "adds_in_32_bits", lambda _: is_exact)
    assert saturates("cpu", Int8Options()) is not is_exact
    assert saturates("cpu", Int8Options(saturates=is_exact)) is is_exact
    assert not saturates("tensorrt", Int8Options(saturates=True))


def test_several_inputs_and_external_data(folder: Path) -> None:
    onnx.save(graphs.two_inputs(), folder / "m.onnx", save_as_external_data=True, size_threshold=0)
    random = np.random.default_rng(0)
    arrays = {name: random.normal(size=(5, *graphs.IMAGE[1:])).astype("f") for name in "xy"}
    np.savez(folder / "data.npz", **arrays)
    table = qbench.calibrate("m.onnx", "data.npz")
    result = qbench.quantize("m.onnx", target="cpu", table=table, output="q.onnx")
    assert table.header.data.images == 5
    source = NpzSource(folder / "data.npz", result.source.inputs)
    assert OrtRunner(folder / "q.onnx").run(source.load(0).feeds)["head"].shape == graphs.IMAGE
