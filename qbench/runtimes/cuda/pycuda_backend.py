"""CUDA through pycuda, for whoever has it already: memory, streams and events, no graphs.

It shares the primary context with TensorRT and everybody else; pycuda's `autoinit` would make
another one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from qbench.errors import EngineError, UnfitError
from qbench.runtimes.cuda.base import NO_GPU, Device, Graph, HostBytes, failed, missing

_DEVICE = 0


class PyCuda:
    """The first GPU, in its primary context.

    Raises:
        UnfitError: pycuda does not load, or finds no GPU or no driver.
    """

    name = "pycuda"

    def __init__(self) -> None:
        try:
            from pycuda import driver
        except (ImportError, OSError) as error:
            raise missing("pycuda", str(error)) from error
        self._driver = driver
        try:
            driver.init()
            self._device = driver.Device(_DEVICE)
            self._context = self._device.retain_primary_context()
            self._context.push()
        except driver.Error as error:
            raise UnfitError(NO_GPU.format(reason=_words(error))) from error
        self._allocations: dict[int, Any] = {}

    def device(self) -> Device:
        """Return what the device is, and how much of its memory is free."""
        major, minor = self._device.compute_capability()
        with _checked(self._driver, "mem_get_info"):
            free, total = self._driver.mem_get_info()
        return Device(self._device.name(), f"sm{major}{minor}", free, total)

    def allocate(self, size: int) -> int:
        """Return the address of `size` bytes of device memory."""
        with _checked(self._driver, "mem_alloc"):
            allocation = self._driver.mem_alloc(size)
        # pycuda frees what nobody refers to.
        self._allocations[int(allocation)] = allocation
        return int(allocation)

    def free(self, address: int) -> None:
        """Free device memory."""
        with _checked(self._driver, "mem_free"):
            self._allocations.pop(address).free()

    def allocate_pinned(self, size: int) -> HostBytes:
        """Return `size` bytes of page-locked host memory."""
        with _checked(self._driver, "pagelocked_empty"):
            host: HostBytes = self._driver.pagelocked_empty(size, np.uint8)
        return host

    def free_pinned(self, host: HostBytes) -> None:
        """Free an array that `allocate_pinned` returned."""
        allocation: Any = host.base
        with _checked(self._driver, "mem_free_host"):
            allocation.free()

    def stream(self) -> "_Stream":
        """Return a new stream."""
        with _checked(self._driver, "Stream"):
            return _Stream(self._driver)

    def event(self) -> "_Event":
        """Return a new event that takes the time."""
        with _checked(self._driver, "Event"):
            return _Event(self._driver)

    def wait_for(self, handle: int) -> None:
        """Wait for the work of all streams: pycuda cannot name one that it did not make."""
        del handle
        with _checked(self._driver, "Context.synchronize"):
            self._driver.Context.synchronize()

    def close(self) -> None:
        """Leave the device; its primary context lives on for others."""
        with _checked(self._driver, "Context.pop"):
            self._driver.Context.pop()


class _Stream:
    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self.stream: Any = driver.Stream()
        self.handle = int(self.stream.handle)
        wait = self.stream.synchronize  # bound once: it is in every timed call

        def synchronize() -> None:
            try:
                wait()
            except driver.Error as error:
                raise failed("Stream.synchronize", _words(error)) from error

        self.synchronize = synchronize

    def copy_in(self, device: int, host: HostBytes) -> None:
        with _checked(self._driver, "memcpy_htod_async"):
            self._driver.memcpy_htod_async(device, host, self.stream)

    def copy_out(self, host: HostBytes, device: int) -> None:
        with _checked(self._driver, "memcpy_dtoh_async"):
            self._driver.memcpy_dtoh_async(host, device, self.stream)

    def capture(self, work: Callable[[], None]) -> Graph:
        del work
        raise EngineError("qbench captures no graphs through pycuda; use cuda-bindings for them")

    def close(self) -> None:
        self.stream = None  # pycuda destroys a stream with its last reference


class _Event:
    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self.event: Any = driver.Event()

    def record(self, stream: Any) -> None:
        with _checked(self._driver, "Event.record"):
            self.event.record(stream.stream)

    def seconds_since(self, earlier: Any) -> float:
        with _checked(self._driver, "Event.time_since"):
            return float(self.event.time_since(earlier.event)) / 1e3

    def close(self) -> None:
        self.event = None


@contextmanager
def _checked(driver: Any, call: str) -> Iterator[None]:
    try:
        yield
    except driver.Error as error:
        raise failed(call, _words(error)) from error


def _words(error: Exception) -> str:
    return " ".join(str(error).split())
