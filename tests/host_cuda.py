"""A CUDA backend on host memory: a device address is a host address, and streams run at once."""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from qbench.errors import EngineError
from qbench.runtimes.cuda.base import Device, HostBytes

TICK = 0.001
"""Seconds between two marks."""


class HostCuda:
    """What a test can see: `live` allocations, `copies` in bytes, `launches` of graphs.

    Attributes:
        capacity: Bytes of device memory.
        refuses_capture: Why no graph can be captured; None where it can.
    """

    name = "host"

    def __init__(self, capacity: int = 1 << 30, refuses_capture: str | None = None) -> None:
        self.capacity, self.refuses_capture = capacity, refuses_capture
        self.live: dict[int, Any] = {}
        self.open: list[Any] = []
        self.copies: list[tuple[str, int]] = []
        self.launches = self.allocations = self.marks = 0
        self.waited_for: list[int] = []
        self.closed = 0

    def device(self) -> Device:
        return Device("host", "sm00", self.capacity, self.capacity)

    def allocate(self, size: int) -> int:
        if size > self.capacity:
            raise EngineError(f"cudaMalloc failed: out of memory ({size} bytes)")
        self.allocations += 1
        return self._keep(size).ctypes.data

    def free(self, address: int) -> None:
        del self.live[address]

    def allocate_pinned(self, size: int) -> HostBytes:
        return self._keep(size)

    def free_pinned(self, host: HostBytes) -> None:
        del self.live[host.ctypes.data]

    def stream(self) -> "HostStream":
        return self._opened(HostStream(self))

    def event(self) -> "HostEvent":
        return self._opened(HostEvent(self))

    def wait_for(self, handle: int) -> None:
        self.waited_for.append(handle)

    def close(self) -> None:
        self.closed += 1

    def _keep(self, size: int) -> HostBytes:
        block = np.full(size, 0xA5, np.uint8)
        self.live[block.ctypes.data] = block
        return block

    def _opened(self, thing: Any) -> Any:
        self.open.append(thing)
        return thing


class HostStream:
    def __init__(self, cuda: HostCuda) -> None:
        self._cuda = cuda
        self.handle = id(self)
        self.waits = 0

    def copy_in(self, device: int, host: HostBytes) -> None:
        self._cuda.copies.append(("in", host.nbytes))
        ctypes.memmove(device, host.ctypes.data, host.nbytes)

    def copy_out(self, host: HostBytes, device: int) -> None:
        self._cuda.copies.append(("out", host.nbytes))
        ctypes.memmove(host.ctypes.data, device, host.nbytes)

    def synchronize(self) -> None:
        self.waits += 1

    def capture(self, work: Callable[[], None]) -> "HostGraph":
        if self._cuda.refuses_capture is not None:
            raise EngineError(self._cuda.refuses_capture)
        return self._cuda._opened(HostGraph(self._cuda, work))

    def close(self) -> None:
        self._cuda.open.remove(self)


class HostGraph:
    def __init__(self, cuda: HostCuda, work: Callable[[], None]) -> None:
        self._cuda, self._work = cuda, work

    def launcher(self) -> Callable[[], None]:
        def launch() -> None:
            self._cuda.launches += 1
            self._work()

        return launch

    def close(self) -> None:
        self._cuda.open.remove(self)


class HostEvent:
    def __init__(self, cuda: HostCuda) -> None:
        self._cuda, self._mark = cuda, 0

    def record(self, stream: HostStream) -> None:
        del stream
        self._cuda.marks += 1
        self._mark = self._cuda.marks

    def seconds_since(self, earlier: "HostEvent") -> float:
        return TICK * (self._mark - earlier._mark)

    def close(self) -> None:
        self._cuda.open.remove(self)
