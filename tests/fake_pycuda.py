"""A stand-in of pycuda's driver module, on host memory."""

import ctypes
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest


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


def install(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Put it where pycuda would be."""
    package, driver = ModuleType("pycuda"), Driver()
    package.driver = driver  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    monkeypatch.setattr(Context, "depth", 0)
    return driver
