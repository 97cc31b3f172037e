"""TensorRT 10's own calibrator, fed with samples through device memory; the fake asks for them."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import fake_trt
import graphs
import numpy as np
import onnx
import pytest
from fake_trt.plan import from_bytes
from host_cuda import HostCuda

from qbench.data.choice import DataChoice
from qbench.data.recipes import load_recipe
from qbench.engines.build import EngineOptions, build_engine
from qbench.engines.compiling import worker
from qbench.engines.compiling.implicit_order import implicit_on_images
from qbench.engines.compiling.protocol import (
    BuildRequest,
    CalibrationImages,
    FedInput,
    ImplicitInt8,
    Notice,
    decode_request,
    encode,
)
from qbench.engines.profiles import ShapeProfile, ShapeRange
from qbench.errors import DataError, EngineError, UnfitError, UsageError
from qbench.model.load import Model, load
from qbench.runtimes.cuda.choose import BACKENDS
from qbench.runtimes.gpu.devices import current_gpu
from qbench.runtimes.tensorrt.flavour import find_flavour

Compile = Callable[[ImplicitInt8], str]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> HostCuda:
    gpu = HostCuda()
    monkeypatch.setitem(BACKENDS, "cuda-bindings", lambda: gpu)
    return gpu


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A model for RGB images of any number; the fake TensorRT 10 is installed."""
    monkeypatch.chdir(tmp_path)
    fake_trt.install(monkeypatch, tmp_path / "site", "10.3")
    b = graphs.Builder(("N", 3, 16, 16))
    onnx.save(b.model(b.conv("head", b.conv("stem", b.x, cin=3))), "m.onnx")
    random = np.random.default_rng(0)
    Path("imgs").mkdir()
    for number in range(12):
        cv2.imwrite(f"imgs/{number:02}.png", random.integers(0, 9 + number, (16, 16, 3), np.uint8))
    return load("m.onnx")


def profile(batch: int) -> ShapeProfile:
    low, high = ((n, 3, 16, 16) for n in (1, 8))
    return ShapeProfile({"x": ShapeRange(low, (batch, 3, 16, 16), high)})


@pytest.fixture
def compiled(model: Model, tmp_path: Path) -> Callable[..., tuple[str, list[Any]]]:
    """Compile in this process; returns the calibration and what was told."""

    def run(limit: int | None = None, batch: int = 1, name: str = "entropy") -> Any:
        choice = DataChoice(Path("imgs"), "raw", limit=limit)
        request = BuildRequest(
            Path("m.onnx"),
            tmp_path / "m.engine",
            tmp_path / "m.log",
            find_flavour("tensorrt"),
            profiles=(profile(batch),),
            implicit=implicit_on_images(model, choice, name, [profile(batch)]),
        )
        told: list[Any] = []
        request = decode_request(encode(request))
        worker.compile_engine(request, tmp_path / "m.engine", told.append)
        plan = from_bytes((tmp_path / "m.engine").read_bytes())
        assert plan is not None
        return plan.calibration, [event for event in told if isinstance(event, Notice)]

    return run


def peak(*numbers: int) -> str:
    """The scale of `x` in a cache, by the images of these numbers."""
    images = [cv2.imread(f"imgs/{number:02}.png") for number in numbers]
    largest = max(float(image.max()) for image in images if image is not None)
    return struct.pack(">f", largest / 127).hex()


@pytest.mark.parametrize(
    ("name", "header"),
    [("entropy", "TRT-100300-EntropyCalibration2"), ("minmax", "TRT-100300-MinMaxCalibration")],
)
@pytest.mark.parametrize("batch", [1, 4])
def test_the_compiler_sees_every_image_and_its_cache_is_kept(
    compiled: Any, cuda: HostCuda, name: str, header: str, batch: int
) -> None:
    calibration, told = compiled(name=name, batch=batch)
    assert calibration.splitlines() == [header, f"x: {peak(*range(12))}"]
    assert Path("m.cache").read_text() == calibration
    assert told == []
    assert cuda.copies == [("in", batch * 3 * 16 * 16 * 4)] * 12
    assert (cuda.live, cuda.open, cuda.closed) == ({}, [], 1)
    assert cuda.allocations == 1


def test_a_limit(compiled: Any, cuda: HostCuda) -> None:
    compiled(limit=3)
    assert len(cuda.copies) == 3


@pytest.mark.usefixtures("cuda")
def test_images_that_cannot_be_read_are_left_out_and_told_of(compiled: Any) -> None:
    Path("imgs/11.png").write_bytes(b"broken")
    calibration, told = compiled()
    assert f"x: {peak(*range(11))}" in calibration
    assert len(told) == 1
    assert told[0].message.startswith("1 of 12 skipped: 11.png")


def test_too_many_that_cannot_be_read_end_the_build(compiled: Any, cuda: HostCuda) -> None:
    for number in (3, 5):
        Path(f"imgs/{number:02}.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="more than 10 % of the samples cannot be used: 2 of 12"):
        compiled()
    assert not Path("m.engine").exists()
    assert not Path("m.cache").exists()
    assert (cuda.live, cuda.open, cuda.closed) == ({}, [], 1)


def test_a_gpu_without_memory_ends_the_build(compiled: Any, cuda: HostCuda) -> None:
    cuda.capacity = 100
    with pytest.raises(EngineError, match="cudaMalloc failed: out of memory"):
        compiled()
    assert cuda.closed == 1


def test_an_order_says_all_that_the_compiler_needs(model: Model) -> None:
    choice = DataChoice(Path("imgs"), "raw", limit=3)
    order = implicit_on_images(model, choice, "minmax", [profile(4)])
    assert order == ImplicitInt8(
        "minmax",
        images=CalibrationImages(
            Path("imgs").absolute(),
            load_recipe("raw"),
            3,
            (FedInput("x", (4, 3, 16, 16), "float32"),),
        ),
    )
    with pytest.raises(UsageError, match="unknown calibrator 'kl'; choose from entropy, minmax"):
        implicit_on_images(model, choice, "kl", [profile(1)])
    with pytest.raises(DataError, match="no data at none"):
        implicit_on_images(model, DataChoice(Path("none"), "raw"), "minmax", [profile(1)])


@pytest.mark.skipif(current_gpu() is not None, reason="a GPU is here")
@pytest.mark.usefixtures("model")
def test_images_reach_the_compiler_in_its_own_process() -> None:
    """Where there is no GPU, that is what the error says: the images could not be put there."""
    options = EngineOptions(
        "tensorrt",
        ("x=1x3x16x16/2x3x16x16/4x3x16x16",),
        calibrator="entropy",
        images=DataChoice(Path("imgs"), "raw"),
    )
    with pytest.raises(UnfitError, match=r"qbench doctor|uv pip install"):
        build_engine("m.onnx", options=options)
    assert not list(Path("engines").glob("*.engine"))


@pytest.mark.usefixtures("model")
def test_images_are_for_the_compilers_own_calibrator() -> None:
    options = EngineOptions("tensorrt", images=DataChoice(Path("imgs"), "raw"))
    with pytest.raises(UsageError, match="for TensorRT's own calibrator; add --legacy-implicit"):
        build_engine("m.onnx", options=options)
