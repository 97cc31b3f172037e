"""From an ONNX file to an engine that runs, on TensorRT as it was and is, without a GPU.

The compiler runs in its own process, as always; TensorRT is the fake of one version, which computes
with ONNX Runtime what the model says.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import onnx
import pytest
from fake_trt import install
from fake_trt.plan import Plan, from_bytes
from host_cuda import HostCuda

from qbench.engines.build import Engine, EngineOptions, build_engine
from qbench.engines.compiling.listeners import logger_of
from qbench.engines.compiling.protocol import BuildOptions, Progress
from qbench.engines.manifest import read_manifest
from qbench.errors import DataError, EngineError, UsageError
from qbench.model.load import Model, load
from qbench.quantization.int8 import Int8Options
from qbench.quantization.quantize import quantize
from qbench.runtimes.cuda.choose import BACKENDS
from qbench.runtimes.ort.runner import OrtRunner
from qbench.runtimes.tensorrt.flavour import find_flavour, flavour_named, import_flavour
from qbench.runtimes.tensorrt.inspector import inspect_engine, layers_from_inspector
from qbench.runtimes.tensorrt.runner import TensorRtRunner

VERSIONS = ("10.0.1", "10.16", "11.0", "11.4", "rtx-1.7")

Use = Callable[[str], EngineOptions]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Use:
    """Let a version be installed, beside a GPU in host memory; returns options to build with it."""
    monkeypatch.setitem(BACKENDS, "cuda-bindings", HostCuda)
    monkeypatch.chdir(tmp_path)

    def choose(version: str) -> EngineOptions:
        install(monkeypatch, tmp_path / "site", version)
        backend = "rtx" if version.startswith("rtx") else "tensorrt"
        return EngineOptions(backend=backend, folder=Path("engines"))

    return choose


@pytest.fixture
def model(tmp_path: Path) -> Model:
    onnx.save(graphs.residual(), tmp_path / "m.onnx")
    return load(tmp_path / "m.onnx")


def open_runner(path: Path) -> TensorRtRunner:
    return TensorRtRunner(path, flavour_named(read_manifest(path).flavour))


def plan_of(engine: Engine) -> Plan:
    plan = from_bytes(engine.path.read_bytes())
    assert plan is not None
    return plan


def with_build(options: EngineOptions, **build: Any) -> EngineOptions:
    return EngineOptions(options.backend, folder=options.folder, build=BuildOptions(**build))


@pytest.mark.parametrize("version", VERSIONS)
def test_engines_run_as_their_models(version: str, use: Use, model: Model) -> None:
    options = use(version)
    told: list[Progress] = []
    engine = build_engine(model, precision="fp16", options=options, on_progress=told.append)
    manifest = read_manifest(engine.path)
    assert manifest == engine.manifest
    assert manifest.flavour_version == plan_of(engine).version == find_flavour().version
    assert {event.phase for event in told} == {"Building engine", "Optimizing graph"}
    feeds = graphs.feeds_of(model)
    reference = OrtRunner(Path("engines") / manifest.onnx, simulate=True).run(feeds)
    with open_runner(engine.path) as runner:
        found = runner.run(feeds)
    assert found.keys() == reference.keys()
    for name, array in reference.items():
        assert np.array_equal(found[name], array), name


@pytest.mark.parametrize("version", VERSIONS)
def test_int8_is_written_into_the_model(version: str, use: Use, model: Model) -> None:
    options, table = use(version), graphs.table_of(model)
    quick = Int8Options(effort="fast")
    engine = build_engine(
        model,
        table=table,
        options=EngineOptions(options.backend, folder=options.folder, quantization=quick),
    )
    assert not {"INT8", "FP16"}.intersection(plan_of(engine).flags)
    quantize(model, target="tensorrt", table=table, output="q.onnx", options=quick)
    feeds = graphs.feeds_of(model)
    with open_runner(engine.path) as runner:
        found = runner.run(feeds)
    for name, array in OrtRunner(Path("q.onnx"), simulate=True).run(feeds).items():
        assert np.array_equal(found[name], array), name


@pytest.mark.parametrize("version", ["10.0.1", "11.4"])
def test_each_batch_finds_its_profile(version: str, use: Use, tmp_path: Path) -> None:
    options = use(version)
    b = graphs.Builder(("N", graphs.CHANNELS, 8, 8))
    onnx.save(b.model(b.node("Relu", "y", b.conv("stem", b.x))), tmp_path / "m.onnx")
    shapes = ("x=1x8x8x8/1x8x8x8/2x8x8x8", "x=3x8x8x8/4x8x8x8/6x8x8x8")
    engine = build_engine(
        "m.onnx",
        precision="fp32",
        options=EngineOptions(options.backend, shapes, folder=options.folder),
    )
    assert len(engine.manifest.profiles) == 2
    reference = OrtRunner(Path("m.onnx"), simulate=True)
    with open_runner(engine.path) as runner:
        for batch in (1, 6, 2, 3):
            x = np.random.default_rng(batch).random((batch, 8, 8, 8), np.float32)
            found = runner.run({"x": x})["y"]
            assert np.allclose(found, reference.run({"x": x})["y"], atol=1e-6)
        with pytest.raises(DataError, match=r"\(x 7x8x8x8\) fits no optimization profile of .*"):
            runner.run({"x": np.zeros((7, 8, 8, 8), np.float32)})


@pytest.mark.parametrize(("calibrator", "version"), [("entropy", "10.0.1"), ("minmax", "10.16")])
def test_tensorrt_10_may_place_int8_by_itself(
    calibrator: str, version: str, use: Use, model: Model
) -> None:
    options, table = use(version), graphs.table_of(model)
    implicit = EngineOptions(options.backend, folder=options.folder, calibrator=calibrator)
    engine = build_engine(model, table=table, options=implicit)
    plan = plan_of(engine)
    assert {"INT8", "FP16"} <= set(plan.flags)
    first, *ranges = plan.calibration.splitlines()
    assert first.startswith("TRT-10")
    assert any(line.startswith("x: ") for line in ranges)


@pytest.mark.parametrize("version", ["11.0", "11.4"])
def test_tensorrt_11_has_no_calibrators(version: str, use: Use, model: Model) -> None:
    options = EngineOptions(use(version).backend, calibrator="entropy")
    with pytest.raises(UsageError, match=r"tensorrt 11\.\d.* has no calibrators: --legacy-impl"):
        build_engine(model, table=graphs.table_of(model), options=options)


@pytest.mark.parametrize("version", ["10.0.1", "11.4"])
def test_options_reach_the_compiler(version: str, use: Use, model: Model) -> None:
    wanted = {
        "sparsity": True,
        "tf32": False,
        "refit": True,
        "strip_weights": True,
        "weight_streaming": True,
        "version_compatible": True,
        "builder_level": 5,
        "workspace_bytes": 1 << 20,
        "max_aux_streams": 2,
        "hardware_compatibility": "ampere-plus",
        "io_formats": {"x": ("hwc",)},
        "timing_cache": Path("timing.cache"),
    }
    options = with_build(use(version), **wanted)
    for _ in range(2):
        engine = build_engine(model, precision="fp16", options=options)
    plan, timings = plan_of(engine), Path("timing.cache").read_bytes()
    assert set(plan.flags) - {"WEIGHTLESS"} == {
        "REFIT",
        "SPARSE_WEIGHTS",
        "STRIP_PLAN",
        "VERSION_COMPATIBLE",
        "WEIGHT_STREAMING",
    }
    assert plan.formats["x"] == "HWC"
    assert timings.endswith(b"\ntimed;timed;")


def test_version_compatible_engines_run(use: Use, model: Model) -> None:
    options = with_build(use("11.4"), version_compatible=True)
    engine = build_engine(model, precision="fp16", options=options)
    with open_runner(engine.path) as runner:
        assert runner.run(graphs.feeds_of(model))


def test_engines_with_other_layouts_are_not_run(use: Use, model: Model) -> None:
    options = with_build(use("11.4"), io_formats={"x": ("hwc",)})
    engine = build_engine(model, precision="fp16", options=options)
    with pytest.raises(EngineError, match="wants 'x' in the format HWC; qbench runs engines wit"):
        open_runner(engine.path)


def test_rtx_builds_for_gpus_that_are_not_here(use: Use, model: Model) -> None:
    options = with_build(use("rtx-1.7"), target_gpus=("sm86", "sm120"))
    engine = build_engine(model, precision="fp16", options=options)
    assert plan_of(engine).targets == ["SM86", "SM120"]
    assert engine.manifest.targets == ("sm86", "sm120")


def test_tensorrt_builds_for_the_gpu_at_hand_only(use: Use, model: Model) -> None:
    options = with_build(use("11.4"), target_gpus=("sm86",))
    with pytest.raises(UsageError, match="tensorrt cannot build for sm86 ahead of time; leave"):
        build_engine(model, precision="fp16", options=options)


def test_a_level_that_the_compiler_does_not_take(use: Use, model: Model) -> None:
    options = with_build(use("11.4"), builder_level=9)
    with pytest.raises(UsageError, match="unknown builder level 9; choose from 0 to 5"):
        build_engine(model, precision="fp32", options=options)
    assert not list(Path().glob("engines/*.engine"))


def test_a_node_that_the_parser_refuses(use: Use, tmp_path: Path) -> None:
    options = use("11.4")
    b = graphs.Builder((1, 4))
    b.nodes.append(onnx.helper.make_node("Odd", [b.x], ["y"], name="odd", domain="my.own"))
    proto = b.model("y")
    proto.opset_import.append(onnx.helper.make_opsetid("my.own", 1))
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(EngineError, match=r"'odd'.*Odd"):
        build_engine("m.onnx", precision="fp32", options=options)


@pytest.mark.parametrize("version", ["10.0.1", "rtx-1.7"])
def test_another_version_does_not_load_it(
    version: str, use: Use, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = build_engine(model, precision="fp32", options=use(version))
    other = "10.8" if not version.startswith("rtx") else "11.4"
    install(monkeypatch, Path("other").absolute(), other)
    with pytest.raises(EngineError, match=r"TensorRT \d+\.\d.* does not load .*m\.fp32\.engine: "):
        TensorRtRunner(engine.path, find_flavour("tensorrt"))


@pytest.mark.parametrize("version", ["10.16", "11.4"])
def test_the_inspector_lists_every_layer(version: str, use: Use, model: Model) -> None:
    options = use(version)
    engine = build_engine(model, precision="fp16", options=options)
    module = import_flavour(find_flavour(options.backend))
    text = inspect_engine(module, engine.path.read_bytes(), logger_of(module))
    layers = layers_from_inspector(text or "")
    convolutions = [layer for layer in layers if layer.kind == "Conv"]
    assert len(convolutions) == sum(node.op_type == "Conv" for node in model.ir.graph)
    assert {layer.dtype for layer in convolutions} == {"Half"}
