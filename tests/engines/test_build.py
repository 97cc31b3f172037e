"""`qbench.build_engine` around a compiler that the tests stand in for."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import graphs
import msgspec
import onnx
import pytest
from fake_trt import fake_tensorrt

from qbench.engines import build as module
from qbench.engines.build import EngineOptions, build_engine
from qbench.engines.compiling.builder import BuildResult
from qbench.engines.compiling.implicit_order import implicit_int8
from qbench.engines.compiling.protocol import BuildOptions, BuildRequest
from qbench.engines.manifest import read_manifest
from qbench.errors import (
    CalibrationError,
    EngineError,
    ModelError,
    StorageError,
    UnfitError,
    UsageError,
)
from qbench.model.load import Model, load
from qbench.quantization.int8 import Int8Options
from qbench.quantization.precisions.half import HalfOptions
from qbench.quantization.quantize import quantize
from qbench.runtimes.tensorrt.flavour import Flavour

Requests = list[BuildRequest]


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Requests:
    """A compiler that writes a few bytes; the list holds what it was asked for."""
    seen: Requests = []

    def compile_it(request: BuildRequest, *_: Any) -> BuildResult:
        seen.append(request)
        request.output.write_bytes(b"engine")
        request.log.write_bytes(b"log")
        return BuildResult(seconds=1.5, size_bytes=6, targets=("sm86",), layers=())

    monkeypatch.setattr(module, "build", compile_it)
    monkeypatch.setattr(module, "find_flavour", lambda _: Flavour("tensorrt_rtx", "1.7"))
    monkeypatch.setattr(module, "import_flavour", lambda _: fake_tensorrt("rtx-1.7"))
    return seen


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.chdir(tmp_path)
    onnx.save(graphs.residual(), "m.onnx")
    return load("m.onnx")


@pytest.fixture
def options() -> EngineOptions:
    return EngineOptions(folder=Path("out"), quantization=Int8Options(effort="fast"))


def test_int8(model: Model, requests: Requests, options: EngineOptions) -> None:
    table = graphs.table_of(model)
    engine = build_engine(model, table=table, options=options)
    assert engine.path == Path("out/m.int8.engine")
    assert load("out/m.int8.onnx").is_quantized
    manifest = read_manifest(engine.path)
    assert manifest == engine.manifest
    assert (manifest.model.sha256, manifest.table_sha256) == (model.sha256, table.sha256)
    assert manifest.quantized_sha256 == load("out/m.int8.onnx").sha256
    assert (manifest.precision, manifest.targets, manifest.seconds) == ("int8", ("sm86",), 1.5)
    assert manifest.files == ("m.int8.engine", "m.int8.onnx", "m.int8.onnx.data", "m.int8.log")
    assert engine.audit is None  # the log of this compiler lists no layers
    assert requests[0].onnx.name == "m.int8.onnx"
    assert requests[0].profiles == ()


@pytest.mark.usefixtures("requests")
def test_paths_may_be_strings(model: Model) -> None:
    graphs.table_of(model).save("t.json")
    options = EngineOptions(folder="out", quantization=Int8Options(effort="fast"))
    assert build_engine("m.onnx", table="t.json", options=options).path.parent == Path("out")


def test_a_notebook_shows_what_was_built(
    model: Model, requests: Requests, options: EngineOptions
) -> None:
    del requests
    html = build_engine(model, table=graphs.table_of(model), options=options)._repr_html_()
    for text in ("tensorrt_rtx 1.7", "sm86", "1.50 s", "out/m.int8.engine (6 B)"):
        assert text in html


@pytest.mark.parametrize(
    ("precision", "dtype", "least"),
    [("fp32", "FLOAT", 0), ("fp16", "FLOAT16", 0), ("bf16", "BFLOAT16", 80)],
)
def test_precisions_without_a_table(
    precision: str, dtype: str, least: int, model: Model, requests: Requests
) -> None:
    engine = build_engine(model, precision=precision, options=EngineOptions(folder=Path("out")))
    assert engine.manifest.table_sha256 is None
    types = {
        value.dtype.name for value in load(f"out/m.{precision}.onnx").ir.graph.initializers.values()
    }
    assert types == {dtype}
    assert requests[0].options.least_gpu == least
    assert any("FP16's range" in note for note in engine.notes) == (precision == "fp16")


@pytest.mark.usefixtures("requests")
def test_the_manifest_keeps_every_option_of_the_build(model: Model) -> None:
    build = BuildOptions(builder_level=2, workspace_bytes=1 << 20, target_gpus=("sm86",))
    options = EngineOptions(folder=Path("out"), build=build)
    manifest = build_engine(model, precision="bf16", options=options).manifest
    assert manifest.options == {
        **msgspec.to_builtins(build),
        "target_gpus": ["sm86"],
        "least_gpu": 80,
    }


@pytest.mark.usefixtures("requests")
def test_inputs_and_outputs_may_become_fp16(model: Model) -> None:
    options = EngineOptions(folder=Path("out"), quantization=HalfOptions(keep_io=False))
    build_engine(model, precision="fp16", options=options)
    graph = load("out/m.fp16.onnx").ir.graph
    assert {value.dtype.name for value in (*graph.inputs, *graph.outputs)} == {"FLOAT16"}


@pytest.mark.usefixtures("requests")
def test_a_gpu_that_does_not_know_the_type(model: Model) -> None:
    options = EngineOptions(folder=Path("out"), build=BuildOptions(target_gpus=("sm86",)))
    with pytest.raises(UsageError, match="--fp8 needs sm89 or later, not sm86; drop it from --t"):
        build_engine(model, precision="fp8", table=graphs.table_of(model), options=options)
    assert not Path("out").exists()


def test_the_size_of_the_calibration_fills_dynamic_axes(
    requests: Requests, options: EngineOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    b = graphs.Builder(("N", graphs.CHANNELS, "H", "W"))
    onnx.save(b.model(b.conv("head", b.conv("stem", b.x))), "m.onnx")
    shapes = EngineOptions(folder=Path("out"), image_size=(16, 24))
    engine = build_engine("m.onnx", precision="fp32", options=shapes)
    assert engine.manifest.shapes["x"].opt == (1, graphs.CHANNELS, 16, 24)
    assert "built for 1x8x16x24, batch 1 and the size of the images" in engine.notes[0]
    with pytest.raises(UsageError, match=r"is dynamic .* and of unknown size; give --shapes x="):
        build_engine("m.onnx", precision="fp16", options=options)
    assert len(requests) == 1
    assert not Path("out/m.fp16.onnx").exists()


def test_subgraphs_are_said_to_stay_float(
    requests: Requests, options: EngineOptions, tmp_path: Path
) -> None:
    onnx.save(graphs.with_if(), tmp_path / "if.onnx")
    folder = EngineOptions(folder=tmp_path / "out", quantization=options.quantization)
    engine = build_engine(tmp_path / "if.onnx", precision="fp32", options=folder)
    assert engine.notes == ("kept in float: 2 nodes inside If, Loop or Scan",)
    assert len(requests) == 1


@pytest.mark.usefixtures("requests")
def test_wrong_arguments(model: Model, options: EngineOptions) -> None:
    with pytest.raises(UsageError, match="unknown precision 'int3'; choose from fp32, fp16, bf16"):
        build_engine(model, precision="int3", options=options)
    with pytest.raises(UsageError, match="the model has no input 'y'; its inputs are x"):
        build_engine(
            model, precision="fp32", options=EngineOptions(shapes=["y=1x3"], folder=Path("out"))
        )
    with pytest.raises(CalibrationError, match=r"was made from m\.onnx; run `qbench calibrate"):
        build_engine(model, options=options)
    assert not Path("out").exists()


@pytest.fixture
def quantized(model: Model, options: EngineOptions) -> Path:
    """A Q/DQ model, as any tool could have made it."""
    path = Path("q.onnx")
    table = graphs.table_of(model)
    quantize(model, target="tensorrt", table=table, output=path, options=options.quantization)
    return path


def test_a_model_that_is_quantized_already_is_built_as_it_is(
    quantized: Path, requests: Requests, options: EngineOptions
) -> None:
    engine = build_engine(quantized, options=options)
    assert engine.path == Path("out/q.as-given.engine")
    assert (engine.manifest.precision, engine.manifest.table_sha256) == ("as-given", None)
    assert engine.notes == ("the model is quantized already, and was built as it is",)
    given, built = (onnx.load(path).graph for path in (quantized, Path("out/q.as-given.onnx")))
    assert [node.output for node in built.node] == [node.output for node in given.node]
    assert requests[0].options.least_gpu == 80


@pytest.mark.parametrize(("precision", "least"), [("fp16", 0), ("bf16", 80)])
@pytest.mark.parametrize("exclude", [(), ("stem",)])
def test_a_model_in_half_precision_is_built_as_it_is(
    precision: str,
    least: int,
    exclude: tuple[str, ...],
    model: Model,
    requests: Requests,
    options: EngineOptions,
) -> None:
    half = Path("half.onnx")
    how = HalfOptions(exclude=exclude)
    quantize(model, target="tensorrt", precision=precision, output=half, options=how)
    engine = build_engine(half, options=options)
    assert engine.path == Path(f"out/half.{precision}.engine")
    assert (engine.manifest.precision, engine.manifest.table_sha256) == (precision, None)
    assert engine.notes == (f"the model computes in {precision} already, and was built as it is",)
    given, built = (onnx.load(p).graph for p in (half, engine.path.with_suffix(".onnx")))
    assert [node.output for node in built.node] == [node.output for node in given.node]
    assert requests[0].options.least_gpu == least
    build_engine(half, precision=precision, options=options)
    build_engine(half, precision="fp32", options=options)
    assert len(requests) == 3


@pytest.mark.usefixtures("requests")
def test_half_precision_leaves_nothing_to_choose(model: Model, options: EngineOptions) -> None:
    half = Path("half.onnx")
    quantize(model, target="tensorrt", precision="fp16", output=half)
    for precision in ("int8", "bf16"):
        with pytest.raises(ModelError, match=r"in float16; .* or build it as it is with --fp16"):
            build_engine(half, precision=precision, options=options)
    with pytest.raises(ModelError, match=r"in fp16 already, .* leave the calibration out"):
        build_engine(half, table=graphs.table_of(model), options=options)
    for how, flag in (
        (Int8Options(exclude=("stem",)), "--exclude stem"),
        (HalfOptions(keep_io=False), "--no-keep-io"),
    ):
        with pytest.raises(ModelError, match=f"leave {flag} out, or give the float model"):
            build_engine(half, options=replace(options, quantization=how))
    assert not Path("out").exists()


@pytest.mark.usefixtures("requests")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "fp8"])
def test_a_quantized_model_has_its_precision(
    precision: str, quantized: Path, options: EngineOptions
) -> None:
    with pytest.raises(ModelError, match=f"is built as it is; leave --{precision} out, or give"):
        build_engine(quantized, precision=precision, options=options)
    assert not Path("out").exists()


@pytest.mark.usefixtures("requests")
def test_a_quantized_model_leaves_nothing_to_choose(
    quantized: Path, model: Model, options: EngineOptions
) -> None:
    excluding = replace(options, quantization=Int8Options(exclude=("/head/*",)))
    with pytest.raises(ModelError, match=r"leave --exclude /head/\* out"):
        build_engine(quantized, options=excluding)
    with pytest.raises(ModelError, match="and is built as it is; leave the calibration out"):
        build_engine(quantized, table=graphs.table_of(model), options=options)


@pytest.mark.usefixtures("requests")
def test_a_quantized_model_that_breaks_a_rule_is_not_built(
    model: Model, options: EngineOptions
) -> None:
    quantize(
        model,
        target="cpu",
        table=graphs.table_of(model),
        output="q.onnx",
        options=options.quantization,
    )
    with pytest.raises(EngineError, match="quantize to int8 with zero-point 0"):
        build_engine("q.onnx", options=options)


def left_over() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path("out").iterdir())}


@pytest.mark.usefixtures("requests")
@pytest.mark.parametrize("error", [EngineError("cannot build"), KeyboardInterrupt("stop")])
def test_a_build_that_fails_changes_nothing(
    error: BaseException, model: Model, options: EngineOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(request: BuildRequest, *_: Any) -> BuildResult:
        request.output.write_bytes(b"half")
        raise error

    build_engine(model, precision="fp32", options=options)
    before = left_over()
    assert before.keys() == {"m.fp32.engine", "m.fp32.json", "m.fp32.log", "m.fp32.onnx"}
    onnx.save(graphs.with_if(), "m.onnx")
    monkeypatch.setattr(module, "build", fail)
    with pytest.raises(type(error), match=str(error)):
        build_engine("m.onnx", precision="fp32", options=options)
    assert left_over() == before


def test_a_success_removes_the_log_of_the_failure_before(
    model: Model, requests: Requests, options: EngineOptions
) -> None:
    Path("out").mkdir()
    Path("out/m.fp32.failed.log").write_text("why")
    build_engine(model, precision="fp32", options=options)
    assert requests[0].failed_log == Path("out/m.fp32.failed.log")
    assert not Path("out/m.fp32.failed.log").exists()


@pytest.mark.usefixtures("requests")
def test_a_full_disk_is_told_of_the_folder_that_the_user_knows(
    model: Model, options: EngineOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object, path: Path) -> None:
        raise StorageError(f"cannot write {path}: the disk is full; free space")

    monkeypatch.setattr(module, "save", fail)
    with pytest.raises(StorageError, match=r"^cannot write out/m\.fp32\.onnx: the disk is full"):
        build_engine(model, precision="fp32", options=options)
    assert left_over() == {}


def test_several_profiles(requests: Requests, tmp_path: Path) -> None:
    b = graphs.Builder(("N", graphs.CHANNELS, 8, 8))
    onnx.save(b.model(b.conv("head", b.conv("stem", b.x))), tmp_path / "m.onnx")
    shapes = ("x=1x8x8x8", "x=2x8x8x8/4x8x8x8/8x8x8x8")
    options = EngineOptions(folder=tmp_path / "out", shapes=shapes)
    build_engine(tmp_path / "m.onnx", precision="fp32", options=options)
    assert [profile.inputs["x"].max[0] for profile in requests[0].profiles] == [1, 8]
    manifest = read_manifest(tmp_path / "out" / "m.fp32.engine")
    assert [profile["x"].max[0] for profile in manifest.profiles] == [1, 8]


@pytest.mark.usefixtures("requests")
def test_layouts_of_tensors_that_are_not_there(model: Model) -> None:
    build = BuildOptions(io_formats={"z": ("hwc8",)})
    with pytest.raises(UsageError, match="the model has no input or output 'z'; it has x, "):
        build_engine(
            model, precision="fp32", options=EngineOptions(build=build, folder=Path("out"))
        )
    assert not Path("out").exists()


@pytest.mark.usefixtures("requests")
def test_layouts_of_16_bits(model: Model) -> None:
    build = BuildOptions(io_formats={"x": ("hwc8",)})
    options = EngineOptions(build=build, folder=Path("out"))
    with pytest.raises(UsageError, match="x=hwc8 needs 16 bits, and 'x' is FP32; add --fp16 --no-"):
        build_engine(model, precision="fp16", options=options)
    assert not Path("out").exists()
    half = replace(options, quantization=HalfOptions(keep_io=False))
    assert build_engine(model, precision="fp16", options=half).path.exists()


@pytest.mark.parametrize("calibrator", ["entropy", "minmax"])
def test_int8_that_tensorrt_10_places(
    calibrator: str, model: Model, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "import_flavour", lambda _: fake_tensorrt("10.3"))
    monkeypatch.setattr(module, "current_gpu", lambda: "sm89")
    table = graphs.table_of(model)
    options = EngineOptions(folder=Path("out"), calibrator=calibrator)
    engine = build_engine(model, table=table, options=options)
    assert engine.path == Path("out/m.int8-implicit.engine")
    assert not load("out/m.int8-implicit.onnx").is_quantized
    assert requests[0].implicit == implicit_int8(table, calibrator)
    assert read_manifest(engine.path).table_sha256 == table.sha256


@pytest.mark.usefixtures("requests")
def test_tensorrt_itself_needs_a_gpu_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "current_gpu", lambda: None)
    build_it = partial(build_engine, "no.onnx", precision="fp16")
    with pytest.raises(ModelError, match=r"no\.onnx"):
        build_it()
    monkeypatch.setattr(module, "import_flavour", lambda _: fake_tensorrt("11.4"))
    with pytest.raises(UnfitError, match=r"^tensorrt 11\.4.* builds on a GPU, .*use --backend rtx"):
        build_it()


@pytest.mark.usefixtures("requests")
def test_what_tensorrt_cannot_do_is_said_before_the_model_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "import_flavour", lambda _: fake_tensorrt("11.4"))
    with pytest.raises(UsageError, match="has no calibrators"):
        build_engine("no.onnx", options=EngineOptions(calibrator="entropy"))
    with pytest.raises(
        UsageError, match="--legacy-implicit has an effect with --int8 only, not --"
    ):
        build_engine("no.onnx", precision="fp16", options=EngineOptions(calibrator="entropy"))
    with pytest.raises(UsageError, match="unknown hardware compatibility 'x'; choose from am"):
        build_engine(
            "no.onnx", options=EngineOptions(build=BuildOptions(hardware_compatibility="x"))
        )
