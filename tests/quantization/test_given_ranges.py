"""Ranges that another tool calibrated, in place of a calibration table."""

from collections.abc import Mapping
from pathlib import Path

import graphs
import numpy as np
import onnx_ir as ir
import pytest

from qbench.calibration.given import GivenRanges, load_ranges
from qbench.calibration.interop import tensorrt_cache_from_ranges, tensorrt_cache_from_table
from qbench.calibration.ranges import Range
from qbench.errors import CalibrationError, UsageError
from qbench.evaluation.similarity import sqnr_db
from qbench.model.load import Model
from qbench.quantization.options import Int8Options
from qbench.quantization.quantize import quantize
from qbench.quantization.quantized import QuantizedModel
from qbench.runtimes.ort.graphs import optimized_graph


@pytest.fixture
def model() -> Model:
    return graphs.model_of(graphs.residual())


def cache_of(model: Model, folder: Path) -> GivenRanges:
    path = folder / "calibration.cache"
    path.write_text(tensorrt_cache_from_table(graphs.table_of(model), "minmax"))
    return load_ranges(path)


def given(ranges: Mapping[str, Range]) -> GivenRanges:
    return GivenRanges(Path("old.cache"), ranges)


def scales(result: QuantizedModel) -> dict[str, float]:
    found = result.ir.graph.initializers
    names = {activation.tensor for activation in result.plan.activations} if result.plan else set()
    return {name: float(found[f"{name}_scale"].const_value.numpy()) for name in names}


def test_a_cache_gives_the_scales_that_its_table_would(model: Model, tmp_path: Path) -> None:
    result = quantize(model, target="tensorrt", table=cache_of(model, tmp_path))
    options = Int8Options(method="minmax", effort="fast")
    table = graphs.table_of(model)
    wanted = quantize(model, target="tensorrt", table=table, options=options)
    assert scales(result) == pytest.approx(scales(wanted), rel=1e-6)


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_the_outputs_are_close_and_the_missing_steps_are_named(
    target: str, model: Model, tmp_path: Path
) -> None:
    result = quantize(model, target=target, table=cache_of(model, tmp_path))
    feeds = graphs.feeds_of(model, seed=100)
    (wanted,) = graphs.run(model.ir, feeds).values()
    assert sqnr_db(wanted, graphs.run(result.ir, feeds)["head"]) > 28
    assert (result.steps, result.output_sqnr_db) == ((), None)
    assert "no bias correction, no search" in result.notes[0]


def test_slices_stay_whose_ranges_are_of_the_models_own_tensors(tmp_path: Path) -> None:
    model = graphs.model_of(graphs.focus())
    result = quantize(model, target="cpu", table=cache_of(model, tmp_path))
    assert "stacked_scale" in result.ir.graph.initializers
    assert sum(node.op_type == "Slice" for node in result.ir.graph) == 6


def test_behind_a_relu_no_code_is_spent_below_zero(model: Model, tmp_path: Path) -> None:
    result = quantize(model, target="cpu", table=cache_of(model, tmp_path))
    zero_points = result.ir.graph.initializers
    assert zero_points["stem_relu_zero_point"].const_value.numpy() == 0
    assert zero_points["x_zero_point"].const_value.numpy() == 128
    path = tmp_path / "m.onnx"
    ir.save(result.ir, path)
    assert {n.op_type for n in optimized_graph(path) if n.name == "stem"} == {"QLinearConv"}


@pytest.mark.parametrize(("low", "zero_point"), [(0.0, 0), (-1.0, 128)])
def test_a_clip_spends_codes_on_what_it_lets_through(low: float, zero_point: int) -> None:
    b = graphs.Builder()
    ends = b.constant("low", np.float32(low)), b.constant("high", np.float32(6))
    pool = b.node("MaxPool", "pool", b.node("Clip", "clip", b.conv("stem", b.x), *ends))
    pool_attributes = b.nodes[-1].attribute
    pool_attributes.extend([graphs.helper.make_attribute("kernel_shape", [1, 1])])
    model = graphs.model_of(b.model(b.conv("head", b.conv("after", pool))))
    ranges = given(dict.fromkeys(("x", "clip", "after"), (-6.0, 6.0)))
    result = quantize(model, target="cpu", table=ranges)
    assert result.ir.graph.initializers["clip_zero_point"].const_value.numpy() == zero_point


def test_a_moved_tensor_has_the_range_of_its_source() -> None:
    b = graphs.Builder()
    moved = b.node("Transpose", "moved", b.conv("stem", b.x), perm=[0, 1, 3, 2])
    model = graphs.model_of(b.model(b.conv("head", moved)))
    result = quantize(model, target="tensorrt", table=given({"x": (-1, 1), "stem": (-127, 127)}))
    assert sorted(scales(result).values()) == pytest.approx([1 / 127, 1])


def test_a_missing_tensor_is_named(model: Model, tmp_path: Path) -> None:
    ranges = dict(cache_of(model, tmp_path).ranges)
    del ranges["branch_relu"]
    with pytest.raises(CalibrationError, match=r"old.cache lacks tensor 'branch_relu', which is"):
        quantize(model, target="tensorrt", table=given(ranges))


def test_names_of_another_graph_are_told_as_such(model: Model) -> None:
    with pytest.raises(CalibrationError, match=r"for 1 of the \d tensors .* from another graph"):
        quantize(model, target="tensorrt", table=given({"x": (-1, 1), "other": (-1, 1)}))


@pytest.mark.parametrize("precision", ["fp16", "fp8", "int4", "weight-only"])
def test_other_precisions_have_no_use_for_them(precision: str, model: Model) -> None:
    with pytest.raises(UsageError, match=f"old.cache serve --int8 alone, not --{precision}"):
        quantize(model, target="tensorrt", precision=precision, table=given({}))


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one", "same", "other")]
    for path, end in zip(paths, (1.0, 1.0, 2.0), strict=True):
        path.write_text(tensorrt_cache_from_ranges({"x": (-end, end)}))
    one, same, other = (load_ranges(path).sha256 for path in paths)
    assert one == same != other
