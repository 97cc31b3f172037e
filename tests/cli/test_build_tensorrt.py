"""`build-trt` where TensorRT 10 or 11 is installed, which a fake plays."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from fake_trt import fake_tensorrt
from msgspec.structs import replace

from qbench.engines import build
from qbench.engines.auditing.engine import EngineAudit
from qbench.engines.compiling.builder import BuildResult
from qbench.engines.compiling.protocol import BuildRequest
from qbench.engines.manifest import read_manifest
from qbench.runtimes.tensorrt.flavour import Flavour
from qbench.runtimes.tensorrt.layers import EngineLayer

from .conftest import Qbench, files, refused

Install = Callable[[ModuleType], list[BuildRequest]]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Play a TensorRT; the list holds what it was asked to build."""
    seen: list[BuildRequest] = []

    def compile_it(request: BuildRequest, *_: object) -> BuildResult:
        seen.append(request)
        request.output.write_bytes(b"engine")
        request.log.write_bytes(b"log")
        return BuildResult(1.0, 6, (), ())

    def play(module: ModuleType) -> list[BuildRequest]:
        flavour = Flavour(module.__name__, module.__version__)
        monkeypatch.setattr(build, "find_flavour", lambda _: flavour)
        monkeypatch.setattr(build, "import_flavour", lambda _: module)
        monkeypatch.setattr(build, "build", compile_it)
        monkeypatch.setattr(build, "current_gpu", lambda: "sm89")
        return seen

    return play


@pytest.mark.usefixtures("calibrated")
def test_int8_placed_by_tensorrt_10(qbench: Qbench, install: Install) -> None:
    seen = install(fake_tensorrt("10.3"))
    outcome = qbench("build-trt", "--legacy-implicit", "--calibrator", "minmax")
    assert (outcome.code, outcome.err) == (0, "")
    assert "wrote engines/m.int8-implicit.engine" in outcome.out
    assert seen[0].implicit is not None
    assert seen[0].implicit.calibrator == "minmax"
    assert read_manifest(Path("engines/m.int8-implicit.engine")).precision == "int8-implicit"


@pytest.mark.usefixtures("project")
def test_int8_placed_by_the_cache_of_another_tool(qbench: Qbench, install: Install) -> None:
    Path("old.cache").write_text("TRT-8601-EntropyCalibration2\nx: 3c010a14\n")
    seen = install(fake_tensorrt("10.3"))
    assert qbench("build-trt", "--legacy-implicit", "--ranges", "old.cache").code == 0
    assert seen[0].implicit is not None
    assert seen[0].implicit.cache.splitlines()[1:] == ["x: 3c010a14"]


@pytest.mark.usefixtures("project")
def test_int8_placed_by_what_tensorrt_10_sees_of_images(qbench: Qbench, install: Install) -> None:
    seen = install(fake_tensorrt("10.3"))
    data = ("--data", "imgs", "--recipe", "raw", "--limit", 5)
    assert qbench("build-trt", "--legacy-implicit", *data).code == 0
    assert seen[0].implicit is not None
    assert (seen[0].implicit.cache, seen[0].implicit.calibrator) == ("", "entropy")
    images = seen[0].implicit.images
    assert images is not None
    assert (images.path, images.limit) == (Path("imgs").absolute(), 5)
    assert read_manifest(Path("engines/m.int8-implicit.engine")).table_sha256 is None
    assert not Path("calibration").exists()


@pytest.mark.usefixtures("calibrated")
@pytest.mark.parametrize("flag", ["--table", "--ranges"])
def test_images_or_ranges_but_not_both(flag: str, qbench: Qbench, install: Install) -> None:
    install(fake_tensorrt("10.3"))
    outcome = qbench("build-trt", "--legacy-implicit", "--data", "imgs", flag, "some.json")
    assert f"{flag} and --data exclude each other; drop one" in refused(outcome, 2)


def test_tensorrt_11_places_none(calibrated: Path, qbench: Qbench, install: Install) -> None:
    install(fake_tensorrt("11.4"))
    before = files(calibrated)
    message = refused(qbench("build-trt", "--legacy-implicit"), 2)
    assert (
        "tensorrt 11.4.0.106 has no calibrators: --legacy-implicit is of TensorRT 10 only"
        in message
    )
    assert "--int8 alone writes INT8 into the model" in message
    assert files(calibrated) == before


@pytest.mark.usefixtures("calibrated")
def test_a_share_that_nobody_knows(qbench: Qbench, install: Install) -> None:
    install(fake_tensorrt("11.4"))
    outcome = qbench("build-trt", "--effort", "fast", "--require-int8", "95%")
    assert outcome.code == 5
    assert "how much of engines/m.int8.engine runs in INT8 is unknown" in outcome.err
    assert Path("engines/m.int8.engine").exists()


@pytest.mark.usefixtures("project")
def test_everything_at_once(qbench: Qbench, install: Install) -> None:
    seen = install(fake_tensorrt("11.4"))
    flags = "--sparsity --tf32 --refit --strip-weights --weight-streaming --version-compatible"
    values = "--hardware-compatibility same-compute-capability --timing-cache t --max-aux-streams 0"
    assert qbench("build-trt", "--fp16", *flags.split(), *values.split()).code == 0
    options = seen[0].options
    assert all(
        (
            options.sparsity,
            options.tf32,
            options.refit,
            options.strip_weights,
            options.weight_streaming,
            options.version_compatible,
        )
    )
    assert options.hardware_compatibility == "same-compute-capability"
    assert (options.timing_cache, options.max_aux_streams) == (Path("t"), 0)


def test_a_timing_cache_that_is_a_folder(project: Path, qbench: Qbench, install: Install) -> None:
    install(fake_tensorrt("11.4"))
    message = refused(qbench("build-trt", "--fp16", "--timing-cache", "imgs"), 2)
    assert "File 'imgs' is a directory" in message
    assert not (project / "engines").exists()


@pytest.mark.usefixtures("calibrated")
def test_the_share_of_what_tensorrt_placed_is_told(
    qbench: Qbench, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(fake_tensorrt("10.3"))
    found = EngineAudit({"Int8": 1}, {"Conv": {"Int8": 3, "Half": 1}}, (), ())
    monkeypatch.setattr(build, "audit_file", lambda *_: found)
    layer = EngineLayer("conv", "conv", (), (), (), (), "")
    compile_it = build.build
    monkeypatch.setattr(
        build, "build", lambda *arguments: replace(compile_it(*arguments), layers=(layer,))
    )
    assert "convolutions in INT8: 75.0 %\n" in qbench("build-trt", "--legacy-implicit").out
