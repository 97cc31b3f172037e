"""What only TensorRT itself can do, with a stand-in for its compiler."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import standins

from qbench.engines import worker
from qbench.engines.profiles import ShapeProfile, ShapeRange
from qbench.engines.protocol import BuildOptions, BuildRequest, Event, ImplicitInt8, Notice
from qbench.errors import EngineError, StorageError, UsageError
from qbench.runtimes.flavour import Flavour

IMPLICIT = ImplicitInt8("entropy", "TRT-8601-EntropyCalibration2\nx: 3c010a14\n")
PROFILES = tuple(ShapeProfile({"x": ShapeRange(*((n, 3),) * 3)}) for n in (1, 8))

Compile = Callable[..., list[Event]]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[..., standins.Compiler]:
    def install(module: ModuleType, engine: bytes | None = b"engine") -> standins.Compiler:
        monkeypatch.setattr(worker, "import_flavour", lambda _: module)
        monkeypatch.setattr(worker, "gpu_summary", lambda: None)
        monkeypatch.setattr(worker, "current_gpu", lambda: "sm89")
        return standins.Compiler(module, engine)

    return install


@pytest.fixture
def compiled(request_for: Callable[..., BuildRequest], tmp_path: Path) -> Compile:
    def run(staged: Path = tmp_path / "m.engine", **fields: Any) -> list[Event]:
        events: list[Event] = []
        flavour = Flavour("tensorrt", "10.3.0")
        request = request_for(tmp_path / "m.onnx", flavour=flavour, **fields)
        worker.compile_engine(request, staged, events.append)
        return events

    return run


def test_a_typed_network(use: Any, compiled: Compile, tmp_path: Path) -> None:
    compiler = use(standins.tensorrt_11())
    compiled(profiles=PROFILES)
    assert compiler.network_flags == 1 << 1
    assert [profile["x"][0] for profile in compiler.config.profiles] == [(1, 3), (8, 3)]
    assert compiler.config.int8_calibrator is None
    assert compiler.config.calibration_profile is None
    assert [path.name for path in tmp_path.iterdir()] == ["m.engine"]


def test_int8_that_the_compiler_places(use: Any, compiled: Compile, tmp_path: Path) -> None:
    module: Any = standins.tensorrt_10()
    compiler = use(module)
    compiled(implicit=IMPLICIT, profiles=PROFILES)
    assert compiler.network_flags == 0
    assert compiler.config.flags == {module.BuilderFlag.INT8, module.BuilderFlag.FP16}
    assert compiler.config.calibration_profile is compiler.config.profiles[0]
    text = (tmp_path / "m.cache").read_text()
    assert text == "TRT-100300-EntropyCalibration2\nx: 3c010a14\n"
    assert compiler.config.int8_calibrator.read_calibration_cache() == text.encode()
    assert (tmp_path / "m.engine").read_bytes() == b"engine"


def test_calibrators_are_gone_from_tensorrt_11(use: Any, compiled: Compile) -> None:
    use(standins.tensorrt_11())
    with pytest.raises(UsageError, match=r"tensorrt 11\.4\.0 has no calibrators: --legacy"):
        compiled(implicit=IMPLICIT)


def test_a_copy_of_the_cache_that_cannot_be_written(use: Any, compiled: Compile) -> None:
    use(standins.tensorrt_10())
    with pytest.raises(StorageError, match=r"cannot write .*model\.cache: No such file"):
        compiled(staged=Path("nowhere/m.engine"), implicit=IMPLICIT)


def test_timings_are_kept(use: Any, compiled: Compile, tmp_path: Path) -> None:
    use(standins.tensorrt_10())
    options = BuildOptions(timing_cache=tmp_path / "t.cache")
    assert compiled(options=options) == []
    assert compiled(options=options) == []
    header, _, data = options.timing_cache.read_bytes().partition(b"\n")
    assert b'"flavour":"tensorrt","version":"10.3.0","gpu":"sm89"' in header
    assert data == b"timed;timed;"


def test_a_foreign_timing_cache_is_said_aloud(use: Any, compiled: Compile, tmp_path: Path) -> None:
    use(standins.tensorrt_10())
    path = tmp_path / "t.cache"
    path.write_bytes(b"foreign")
    (event,) = compiled(options=BuildOptions(timing_cache=path))
    assert isinstance(event, Notice)
    assert "t.cache is not used: qbench did not write it" in event.message


def test_timings_outlive_a_build_that_fails(use: Any, compiled: Compile, tmp_path: Path) -> None:
    use(standins.tensorrt_10(), engine=None)
    path = tmp_path / "t.cache"
    with pytest.raises(EngineError, match=r"cannot build .*: the compiler gave no reason"):
        compiled(options=BuildOptions(timing_cache=path))
    assert path.exists()
