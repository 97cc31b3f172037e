"""What only TensorRT itself can do, with a fake of its compiler."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import graphs
import onnx
import pytest
from fake_trt import fake_tensorrt
from fake_trt.plan import Plan, from_bytes

from qbench.engines.compiling import worker
from qbench.engines.compiling.protocol import (
    BuildOptions,
    BuildRequest,
    Event,
    ImplicitInt8,
    Notice,
)
from qbench.engines.machine import Machine
from qbench.engines.profiles import ShapeProfile, ShapeRange
from qbench.errors import EngineError, StorageError, UnfitError, UsageError
from qbench.runtimes.tensorrt.flavour import Flavour

IMPLICIT = ImplicitInt8("entropy", "TRT-8601-EntropyCalibration2\nx: 3c010a14\n")
PROFILES = tuple(ShapeProfile({"x": ShapeRange(*((n, 3),) * 3)}) for n in (1, 8))

Compile = Callable[..., list[Notice]]
"""Compiles in this process and returns what the user is told."""


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    def install(version: str) -> ModuleType:
        module = fake_tensorrt(version)
        monkeypatch.setattr(worker, "import_flavour", lambda _: module)
        here = Machine("Linux x86_64", compute_capability="sm89")
        monkeypatch.setattr(worker, "this_machine", lambda: here)
        monkeypatch.setattr(worker, "current_gpu", lambda: "sm89")
        return module

    return install


@pytest.fixture
def compiled(request_for: Callable[..., BuildRequest], tmp_path: Path) -> Compile:
    b = graphs.Builder(("N", 3))
    onnx.save(b.model(b.node("Relu", "y", b.x)), tmp_path / "m.onnx")

    def run(staged: Path = tmp_path / "m.engine", **fields: Any) -> list[Notice]:
        events: list[Event] = []
        flavour = Flavour("tensorrt", "10.3.0")
        fields = {"flavour": flavour, "profiles": PROFILES, **fields}
        worker.compile_engine(request_for(tmp_path / "m.onnx", **fields), staged, events.append)
        return [event for event in events if isinstance(event, Notice)]

    return run


def plan_in(folder: Path) -> Plan:
    plan = from_bytes((folder / "m.engine").read_bytes())
    assert plan is not None
    return plan


def test_a_typed_network(use: Any, compiled: Compile, tmp_path: Path) -> None:
    module, flags = use("11.4"), []
    create = module.Builder.create_network
    module.Builder.create_network = lambda builder, given: (
        flags.append(given) or create(builder, given)
    )
    compiled()
    assert flags == [1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)]
    plan = plan_in(tmp_path)
    assert [profile["x"][0] for profile in plan.profiles] == [[1, 3], [8, 3]]
    assert (plan.flags, plan.calibration) == (["TF32"], "")
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx", "m.engine"}


def test_a_builder_that_finds_no_gpu(
    use: Any, compiled: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = use("11.4")

    def refuse(_: Any, logger: Any) -> None:
        logger.log(module.ILogger.Severity.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(module.Builder, "__init__", refuse)
    with pytest.raises(
        UnfitError, match=r"has no GPU to build on \(CUDA init.* error: 35\); run `qbench doctor`"
    ):
        compiled()


def test_int8_that_the_compiler_places(use: Any, compiled: Compile, tmp_path: Path) -> None:
    module = use("10.3")
    seen: list[Any] = []
    choose = module.IBuilderConfig.set_calibration_profile
    module.IBuilderConfig.set_calibration_profile = lambda config, profile: (
        seen.append(profile.get_shape("x")) or choose(config, profile)
    )
    compiled(implicit=IMPLICIT)
    plan = plan_in(tmp_path)
    assert {"INT8", "FP16"} <= set(plan.flags)
    assert [tuple(shape) for shape in seen[0]] == [(1, 3)] * 3
    text = (tmp_path / "m.cache").read_text()
    assert text == plan.calibration == "TRT-100300-EntropyCalibration2\nx: 3c010a14\n"


def test_calibrators_are_gone_from_tensorrt_11(use: Any, compiled: Compile) -> None:
    use("11.4")
    with pytest.raises(UsageError, match=r"tensorrt 11\.4\.0\.106 has no calibrators: --legacy"):
        compiled(implicit=IMPLICIT)


def test_a_copy_of_the_cache_that_cannot_be_written(use: Any, compiled: Compile) -> None:
    use("10.3")
    with pytest.raises(StorageError, match=r"cannot write .*model\.cache: No such file"):
        compiled(staged=Path("nowhere/m.engine"), implicit=IMPLICIT)


def test_timings_are_kept(use: Any, compiled: Compile, tmp_path: Path) -> None:
    use("10.3")
    options = BuildOptions(timing_cache=tmp_path / "t.cache")
    assert compiled(options=options) == []
    assert compiled(options=options) == []
    header, _, data = options.timing_cache.read_bytes().partition(b"\n")
    assert b'"flavour":"tensorrt","version":"10.3.0","gpu":"sm89"' in header
    assert data.endswith(b"timed;timed;")


def test_a_foreign_timing_cache_is_said_aloud(use: Any, compiled: Compile, tmp_path: Path) -> None:
    use("10.3")
    path = tmp_path / "t.cache"
    path.write_bytes(b"foreign")
    (event,) = compiled(options=BuildOptions(timing_cache=path))
    assert "t.cache is not used: qbench did not write it" in event.message


def test_timings_outlive_a_build_that_fails(
    use: Any, compiled: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = use("10.3")
    monkeypatch.setattr(module.Builder, "build_serialized_network", lambda *_: None)
    path = tmp_path / "t.cache"
    with pytest.raises(EngineError, match=r"cannot build .*: the compiler gave no reason"):
        compiled(options=BuildOptions(timing_cache=path))
    assert path.exists()
