"""The backend through pycuda, against a stand-in of its driver module on host memory."""

import ctypes
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from qbench.errors import EngineError, UnfitError
from qbench.runtimes.cuda.base import Device
from qbench.runtimes.cuda.pycuda_backend import PyCuda


class DriverError(Exception):
    """pycuda.driver.Error."""


class Allocation:
    def __init__(self, driver: Any, size: int) -> None:
        self._driver, self.block = driver, ctypes.create_string_buffer(size)
        driver.live.append(self)

    def __int__(self) -> int:
        return ctypes.addressof(self.block)

    def free(self) -> None:
        self._driver.live.remove(self)


class Pinned(np.ndarray):
    """An array whose base is its allocation, as pycuda makes them."""

    base: Any = None


class Stream:
    def __init__(self) -> None:
        self.handle, self.problem = 0x51, ""

    def synchronize(self) -> None:
        if self.problem:
            raise DriverError(self.problem)


class Event:
    marks = 0

    def record(self, stream: Stream) -> None:
        assert isinstance(stream, Stream)
        Event.marks += 1
        self.mark = Event.marks

    def time_since(self, event: "Event") -> float:
        return float(self.mark - event.mark)


class Context:
    depth = 0

    def push(self) -> None:
        Context.depth += 1

    @staticmethod
    def pop() -> None:
        Context.depth -= 1

    @staticmethod
    def synchronize() -> None:
        Context.depth += 100


class GpuDevice:
    def __init__(self, number: int) -> None:
        assert number == 0

    def name(self) -> str:
        return "NVIDIA L4"

    def compute_capability(self) -> tuple[int, int]:
        return 8, 9

    def retain_primary_context(self) -> Context:
        return Context()


class Driver(ModuleType):
    Error = DriverError
    Device, Context, Stream, Event = GpuDevice, Context, Stream, Event

    def __init__(self) -> None:
        super().__init__("pycuda.driver")
        self.live: list[Allocation] = []
        self.problem = ""

    def init(self) -> None:
        if self.problem:
            raise DriverError(self.problem)

    def mem_get_info(self) -> tuple[int, int]:
        return 5, 7

    def mem_alloc(self, size: int) -> Allocation:
        if size > 1 << 30:
            raise DriverError("cuMemAlloc failed: out of memory")
        return Allocation(self, size)

    def pagelocked_empty(self, shape: int, dtype: Any) -> Pinned:
        array = np.zeros(shape, dtype).view(Pinned)
        array.base = Allocation(self, shape)
        return array

    def memcpy_htod_async(self, dest: int, src: Any, stream: Stream) -> None:
        assert isinstance(stream, Stream)
        ctypes.memmove(dest, src.ctypes.data, src.nbytes)

    def memcpy_dtoh_async(self, dest: Any, src: int, stream: Stream) -> None:
        assert isinstance(stream, Stream)
        ctypes.memmove(dest.ctypes.data, src, dest.nbytes)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    package, driver = ModuleType("pycuda"), Driver()
    package.driver = driver  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    monkeypatch.setattr(Context, "depth", 0)
    return driver


@pytest.mark.usefixtures("driver")
def test_the_device_in_its_primary_context() -> None:
    cuda = PyCuda()
    assert Context.depth == 1
    assert cuda.device() == Device("NVIDIA L4", "sm89", 5, 7)
    cuda.close()
    assert Context.depth == 0


def test_bytes_go_to_the_device_and_back(driver: Driver) -> None:
    cuda = PyCuda()
    stream, address = cuda.stream(), cuda.allocate(16)
    there, back = cuda.allocate_pinned(16), cuda.allocate_pinned(16)
    there[:] = np.arange(16)
    stream.copy_in(address, there)
    stream.copy_out(back, address)
    stream.synchronize()
    assert np.array_equal(back, np.arange(16))
    cuda.free(address)
    cuda.free_pinned(there)
    cuda.free_pinned(back)
    stream.close()
    assert driver.live == []


@pytest.mark.usefixtures("driver")
def test_events_tell_seconds() -> None:
    cuda = PyCuda()
    stream, first, second = cuda.stream(), cuda.event(), cuda.event()
    first.record(stream)
    second.record(stream)
    assert second.seconds_since(first) == 1e-3
    second.close()


@pytest.mark.usefixtures("driver")
def test_no_graphs() -> None:
    with pytest.raises(EngineError, match="captures no graphs through pycuda; use cuda-bindings"):
        PyCuda().stream().capture(lambda: None)


@pytest.mark.usefixtures("driver")
def test_a_stream_of_somebody_else_waits_for_all() -> None:
    PyCuda().wait_for(77)
    assert Context.depth == 101


@pytest.mark.usefixtures("driver")
def test_no_memory_says_what_to_do() -> None:
    with pytest.raises(
        EngineError, match=r"mem_alloc failed: .*out of memory; use a smaller batch"
    ):
        PyCuda().allocate(1 << 40)


@pytest.mark.usefixtures("driver")
def test_a_failed_wait() -> None:
    stream = PyCuda().stream()
    stream.stream.problem = "launch\nfailed"
    with pytest.raises(EngineError, match=r"^Stream\.synchronize failed: launch failed$"):
        stream.synchronize()


def test_no_driver(driver: Driver) -> None:
    driver.problem = "cuInit failed: no CUDA-capable device"
    with pytest.raises(UnfitError, match=r"no usable GPU \(cuInit failed: no CUDA.*run `qbench do"):
        PyCuda()


def test_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", None)
    with pytest.raises(UnfitError, match=r"pycuda does not load \(.*or `pip install pycuda`"):
        PyCuda()
