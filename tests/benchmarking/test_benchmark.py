"""`qbench.benchmark` from models to rows, with settings that make its figures mean nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import graphs
import msgspec
import numpy as np
import onnx
import pytest
from colours import RECIPE, TINY, write_images

from qbench.benchmarking import candidates as module
from qbench.benchmarking import variants
from qbench.benchmarking.benchmark import Options, benchmark
from qbench.benchmarking.judging.labelled_data import LabelledData
from qbench.benchmarking.stats import Interval
from qbench.benchmarking.timing.schedule import Measurement, measure_blocks
from qbench.calibration.calibrate import calibrate
from qbench.data.choice import DataChoice
from qbench.errors import CalibrationError, DataError, ModelError, UnfitError, UsageError
from qbench.model.load import load

QUICK = Options(settings=TINY)


def solid_colours(batch: int | str = 1) -> onnx.ModelProto:
    """Logits are the means of red, green and blue, so that the brightest colour is the class."""
    b = graphs.Builder((batch, 3, 8, 8))
    weight = b.constant("w", np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1))
    same = b.node("Conv", "same", b.node("Conv", "first", b.x, weight), weight)
    mean = b.node("GlobalAveragePool", "mean", same)
    return b.model(b.node("Flatten", "logits", mean))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Folders 0, 1 and 2 of red, green and blue; one of the six lies in a wrong folder."""
    return write_images(tmp_path / "imgs")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(solid_colours(), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_accuracy_and_ratio(model: Path, images: Path) -> None:
    table = calibrate(model, images, recipe=RECIPE)
    data = LabelledData(DataChoice(images))  # with the recipe of the table
    result = benchmark(model, table=table, images=data, options=QUICK)
    fp32, int8 = result.rows
    assert fp32.accuracy is not None
    assert (fp32.accuracy.metric, fp32.accuracy.n) == ("top1", 6)
    assert fp32.accuracy.value == pytest.approx(5 / 6)
    assert int8.accuracy is not None
    assert int8.accuracy.value == fp32.accuracy.value
    assert fp32.accuracy.difference is None
    assert int8.accuracy.difference == Interval(0, 0, 0)
    assert fp32.ratio is not None
    assert fp32.ratio.value == 1
    assert int8.latency_ms is not None
    assert int8.latency_ms.median > 0
    assert int8.throughput_per_s == pytest.approx(1e3 / int8.latency_ms.median)
    assert result.control is not None


@pytest.mark.parametrize(
    ("node", "reason"),
    [(("Slice", "logits"), "cannot be compared"), (("Relu", "other"), "has no output 'logits'")],
)
def test_without_labels_a_model_of_other_outputs_is_timed_and_its_row_has_the_reason(
    node: tuple[str, str], reason: str, model: Path, images: Path, tmp_path: Path
) -> None:
    op_type, name = node
    b = graphs.Builder((1, 3, 8, 8))
    mean = b.node("Flatten", "flat", b.node("GlobalAveragePool", "mean", b.x))
    bounds = [b.constant(f"c{n}", np.array([n])) for n in (0, 2, 1)] if op_type == "Slice" else []
    onnx.save(b.model(b.node(op_type, name, mean, *bounds)), tmp_path / "other.onnx")
    data = LabelledData(DataChoice(images, RECIPE), task="embed")
    paths = [model, tmp_path / "other.onnx"]
    first, other = benchmark(paths, precisions=["fp32"], images=data, options=QUICK).rows
    assert first.accuracy is not None
    assert first.error is None
    assert other.error is None
    assert other.accuracy is None
    assert other.latency_ms is not None
    assert any(reason in note for note in other.notes)


@pytest.mark.parametrize("batch", [1, 4, "N"])
def test_a_fixed_batch_is_filled(batch: int | str, images: Path, tmp_path: Path) -> None:
    onnx.save(solid_colours(batch), tmp_path / "m.onnx")
    data = LabelledData(DataChoice(images, RECIPE))
    row = benchmark(tmp_path / "m.onnx", precisions=["fp32"], images=data, options=QUICK).rows[0]
    assert row.accuracy is not None
    assert row.accuracy.value == pytest.approx(5 / 6)
    assert row.latency_ms is not None
    calls = 4 if batch == 4 else 1
    assert row.throughput_per_s == pytest.approx(calls * 1e3 / row.latency_ms.median)
    assert ("a call runs the model's fixed batch of 4" in row.notes) == (batch == 4)


def test_without_images_noise_is_timed(model: Path) -> None:
    row = benchmark(model, precisions=["fp32"], options=QUICK).rows[0]
    assert row.accuracy is None
    assert row.latency_ms is not None
    assert row.size_bytes == model.stat().st_size


def test_paths_are_strings_too_and_one_word_is_no_list(model: Path, images: Path) -> None:
    table = model.with_suffix(".json")
    calibrate(model, DataChoice(str(images), RECIPE)).save(str(table))
    options: Any = {"table": str(table), "images": str(images), "options": QUICK}
    (row,) = benchmark(load(model), precisions="int8", providers="cpu", **options).rows
    assert (row.precision, row.model, row.error) == ("int8", "m.onnx", None)
    assert row.accuracy is not None
    assert row.accuracy.n == 6


def test_a_file_that_is_given_twice_is_measured_once(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    again = model.parent / "." / ".." / model.parent.name / model.name
    rows = benchmark([model, again], precisions=["fp32"], options=QUICK).rows
    assert [row.model for row in rows] == ["m.onnx"]
    assert caplog.messages == ["m.onnx is given 2 times, and measured once"]


def test_files_of_one_name_are_told_apart(model: Path) -> None:
    twin = model.parent / "sub" / model.name
    twin.parent.mkdir()
    onnx.save(solid_colours(4), twin)
    rows = benchmark([model, twin], precisions=["fp32"], options=QUICK).rows
    assert [row.model for row in rows] == [f"{model.parent.name}/m.onnx", "sub/m.onnx"]
    gone = [model, twin.with_suffix(".engine"), model.with_suffix(".engine")]
    names = [row.model for row in benchmark(gone, precisions=["fp32"], options=QUICK).rows]
    assert names == ["m.onnx", "sub/m.engine", f"{model.parent.name}/m.engine"]


def test_lists_may_be_generators(model: Path) -> None:
    words: Any = {"precisions": iter(["fp32"]), "providers": iter(["cpu"])}
    (row,) = benchmark(iter([str(model)]), **words, options=QUICK).rows
    assert (row.precision, row.provider, row.error) == ("fp32", "cpu", None)


def test_without_a_file_there_is_nothing_to_measure(model: Path) -> None:
    with pytest.raises(UsageError, match="no model to measure; give an ONNX file or an engine"):
        benchmark([])
    with pytest.raises(UsageError, match="a model in memory cannot be measured; write it"):
        benchmark(replace(load(model), path=None))


def test_the_order_of_rounds_follows_the_seed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Measurement] = []

    def spy(*arguments: Any, **options: Any) -> Measurement:
        seen.append(measure_blocks(*arguments, **options))
        return seen[-1]

    monkeypatch.setattr(module, "measure_blocks", spy)
    for seed in (0, 0, 1):
        settings = msgspec.structs.replace(TINY, seed=seed)
        benchmark([model, model], precisions=["fp32"], options=Options(settings=settings))
    first, same, other = (measurement.orders.tolist() for measurement in seen)
    assert first == same
    assert first != other


@pytest.mark.parametrize("verdict", ["faster", "same", "slower", "inconclusive"])
def test_int8_that_is_not_faster_on_a_cpu_says_why(
    verdict: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Measurement, "verdicts", (verdict,) * 3)
    monkeypatch.setattr(module, "reasons_of", lambda _: ("too many casts",))
    table = graphs.table_of(load(model))
    rows = benchmark(model, precisions=["fp32", "fp16", "int8"], table=table, options=QUICK).rows
    explained = [row.precision for row in rows if "too many casts" in row.notes]
    assert explained == ([] if verdict == "faster" else ["int8"])


def test_the_baseline_is_slower_than_nothing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "reasons_of", lambda _: ("too many casts",))
    table = graphs.table_of(load(model))
    (row,) = benchmark(model, precisions=["int8"], table=table, options=QUICK).rows
    assert "too many casts" not in row.notes


def test_steps_are_told(model: Path) -> None:
    steps: list[str] = []
    benchmark(model, precisions=["fp32"], options=Options(settings=TINY, on_step=steps.append))
    assert steps == [f"preparing {model}", "timing 1 candidates"]


def test_nothing_that_runs_is_an_error(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    available = "qbench.runtimes.ort.providers.ort.get_available_providers"
    monkeypatch.setattr(available, lambda: ["CPUExecutionProvider"])
    with pytest.raises(UnfitError, match="provider 'cuda' is not part of the installed ONNX Runt"):
        benchmark(model, precisions=["fp32"], providers=["cuda"], options=QUICK)
    rows = benchmark(model, precisions=["fp32"], providers=["cuda", "cpu"], options=QUICK).rows
    assert rows[0].error is not None
    assert rows[1].ratio is not None
    assert rows[1].ratio.value == 1


def test_a_model_that_is_no_classifier(images: Path, tmp_path: Path) -> None:
    b = graphs.Builder((1, 3, 8, 8))
    onnx.save(b.model(b.node("Relu", "y", b.x)), tmp_path / "m.onnx")
    data = LabelledData(DataChoice(images, RECIPE))
    with pytest.raises(ModelError, match=r"output 'y' has the shape .* not one row of logits"):
        benchmark(tmp_path / "m.onnx", precisions=["fp32"], images=data, options=QUICK)


def test_where_the_float_model_cannot_be_judged_nothing_is_made_of_it(
    model: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = graphs.Builder((1, 3, 8, 8))
    flat = b.node(
        "Flatten", "flat", b.node("GlobalAveragePool", "mean", b.conv("stem", b.x, cin=3))
    )
    minus = b.node("Neg", "minus", b.node("Exp", "positive", flat))
    onnx.save(b.model(b.node("Sqrt", "logits", minus)), tmp_path / "nan.onnx")
    made = []
    real = variants.quantize
    monkeypatch.setattr(variants, "quantize", lambda m, **k: made.append(m.path) or real(m, **k))
    data = LabelledData(DataChoice(images, RECIPE))
    paths = [model, tmp_path / "nan.onnx"]
    names = ["fp32", "fp16"]
    rows = benchmark(paths, precisions=names, images=data, options=QUICK).rows
    assert made == [model]
    assert [row.error is None for row in rows] == [True, True, False, False]
    assert "output 'logits' holds NaN for" in str(rows[2].error)
    assert str(rows[3].error).startswith("it was not made, since fp32 cannot be judged: output 'lo")


def test_another_recipe_than_the_calibration(model: Path, images: Path) -> None:
    table = calibrate(model, images, recipe=RECIPE)
    data = LabelledData(DataChoice(images, "raw"))
    with pytest.raises(DataError, match="recipe 'raw', but calibration used 'mine'; drop --recipe"):
        benchmark(model, table=table, images=data, options=QUICK)


def test_int8_needs_a_table(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CalibrationError, match=r"no calibration table in calibration/ was made"):
        benchmark(model, precisions=["int8"], options=QUICK)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precisions": ["int3"]}, "unknown precision 'int3'; choose from fp32, int8, fp16"),
        ({"providers": ["tpu"]}, "unknown provider 'tpu'; choose from cpu, cuda, tensorrt"),
        ({"precisions": []}, "no precision to measure; choose from fp32"),
        ({"options": Options(simulate=True)}, "simulation judges accuracy; add labelled images"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        benchmark("unread.onnx", **{"options": QUICK, **arguments})  # type: ignore[arg-type]


def test_what_cannot_be_made_or_run_is_a_row_with_the_reason(model: Path) -> None:
    names = ["fp32", "fp16", "bf16", "int4", "weight-only"]
    rows = benchmark(model, precisions=names, options=QUICK).rows
    errors = {row.precision: row.error for row in rows}
    assert [errors[name] for name in ("fp32", "fp16", "weight-only")] == [None] * 3
    assert "ONNX Runtime refuses the model" in str(errors["bf16"])
    assert "no MatMul or Gemm with constant weights" in str(errors["int4"])
