"""What both CUDA backends do alike, each on a stand-in of its package in host memory."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fake_pycuda
import numpy as np
import pytest

from qbench.errors import EngineError, UnfitError
from qbench.runtimes.cuda.base import Device
from qbench.runtimes.cuda.choose import BACKENDS, open_cuda


@dataclass(frozen=True)
class Backend:
    """A backend, and what a test sees of the package below it.

    Attributes:
        name: Its name.
        package: The module that it imports.
        held: Returns the memory and handles that were not given back.
        fail: Lets the package find no GPU and no memory.
    """

    name: str
    package: str
    held: Callable[[], list[Any]]
    fail: Callable[[], None]


def cuda_bindings(monkeypatch: pytest.MonkeyPatch) -> Backend:
    from fake_cuda_runtime import install, real  # skips where the package is missing

    runtime, errors = install(monkeypatch), real.cudaError_t

    def fail() -> None:
        runtime.failing["cudaSetDevice"] = errors.cudaErrorNoDevice
        runtime.failing["cudaMalloc"] = errors.cudaErrorMemoryAllocation

    return Backend(
        "cuda-bindings", "cuda.bindings", lambda: [*runtime.blocks, *runtime.handles], fail
    )


def pycuda(monkeypatch: pytest.MonkeyPatch) -> Backend:
    driver = fake_pycuda.install(monkeypatch)

    def fail() -> None:
        driver.problem = "no CUDA-capable device is detected"

    return Backend("pycuda", "pycuda", lambda: list(driver.live), fail)


@pytest.fixture(params=[cuda_bindings, pycuda])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Backend:
    made: Backend = request.param(monkeypatch)
    return made


def test_all_backends_are_tested(backend: Backend) -> None:
    assert backend.name in BACKENDS
    assert len(BACKENDS) == 2
    assert open_cuda(backend.name).name == backend.name


def test_the_device(backend: Backend) -> None:
    assert open_cuda(backend.name).device() == Device("NVIDIA L4", "sm89", 5, 7)


def test_bytes_go_to_the_device_and_back(backend: Backend) -> None:
    cuda = open_cuda(backend.name)
    stream, address = cuda.stream(), cuda.allocate(16)
    there, back = cuda.allocate_pinned(16), cuda.allocate_pinned(16)
    there[:] = np.arange(16)
    stream.copy_in(address, there)
    stream.copy_out(back, address)
    stream.synchronize()
    assert np.array_equal(back, np.arange(16))
    assert len(backend.held()) >= 3
    cuda.free(address)
    cuda.free_pinned(there)
    cuda.free_pinned(back)
    stream.close()
    assert backend.held() == []


def test_events_tell_seconds(backend: Backend) -> None:
    cuda = open_cuda(backend.name)
    stream, first, second = cuda.stream(), cuda.event(), cuda.event()
    first.record(stream)
    second.record(stream)
    assert second.seconds_since(first) == 1e-3
    for thing in (first, second, stream):
        thing.close()
    assert backend.held() == []


def test_no_memory_says_what_to_do(backend: Backend) -> None:
    cuda = open_cuda(backend.name)
    backend.fail()
    with pytest.raises(EngineError, match=r"[aA]lloc failed: .*out of memory; use a smaller"):
        cuda.allocate(1 << 40)


def test_no_gpu(backend: Backend) -> None:
    backend.fail()
    with pytest.raises(UnfitError, match=r"no usable GPU \(no CUDA-capable device.*run `qbench do"):
        open_cuda(backend.name)


def test_no_package(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, backend.package, None)
    name = backend.name
    with pytest.raises(UnfitError, match=rf"{name} does not load \(.*or `pip install {name}`"):
        open_cuda(name)
