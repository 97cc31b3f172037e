"""The protocol of a CUDA backend: memory, streams, events, copies and graphs of one device.

Device memory is an address, host memory is an array of bytes. Whoever asks for something gives it
back: nothing here waits for the garbage collector.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qbench.errors import EngineError, UnfitError

HostBytes = NDArray[np.uint8]
"""Page-locked host memory, or a part of it; 1-D."""

NO_GPU = "CUDA finds no usable GPU ({reason}); run `qbench doctor` to see what runs here"


@dataclass(frozen=True)
class Device:
    """A GPU.

    Attributes:
        name: Such as `NVIDIA L4`.
        compute_capability: As in `sm89`.
        free_bytes: Memory that is free at the moment.
        total_bytes: Memory that it has.
    """

    name: str
    compute_capability: str
    free_bytes: int
    total_bytes: int


class Graph(Protocol):
    """Work that was captured from a stream."""

    def launcher(self) -> Callable[[], None]:
        """Return the leanest call that enqueues the work on the stream it was captured from."""

    def close(self) -> None:
        """Free it."""


class Stream(Protocol):
    """A queue of work on the device.

    Attributes:
        handle: The address of the stream, as TensorRT takes it.
    """

    handle: int

    def copy_in(self, device: int, host: HostBytes) -> None:
        """Enqueue a copy of `host` to the device address `device`."""

    def copy_out(self, host: HostBytes, device: int) -> None:
        """Enqueue a copy of `host.nbytes` bytes from the device address `device`."""

    def synchronize(self) -> None:
        """Wait for all work that is enqueued."""

    def capture(self, work: Callable[[], None]) -> Graph:
        """Return what `work` enqueues on this stream as a graph; none of it runs.

        Raises:
            EngineError: `work` cannot be captured, or this backend has no graphs.
        """

    def close(self) -> None:
        """Free it."""


class Event(Protocol):
    """A mark in a stream."""

    def record(self, stream: Any) -> None:
        """Enqueue the mark."""

    def seconds_since(self, earlier: Any) -> float:
        """Return the time between two marks, both of which were reached."""

    def close(self) -> None:
        """Free it."""


class Cuda(Protocol):
    """A CUDA device and what can be had of it.

    Every method raises EngineError where CUDA fails.

    Attributes:
        name: The backend: a key of `choose.BACKENDS`.
    """

    name: str

    def device(self) -> Device:
        """Return what the device is, and how much of its memory is free."""

    def allocate(self, size: int) -> int:
        """Return the address of `size` bytes of device memory."""

    def free(self, address: int) -> None:
        """Free device memory."""

    def allocate_pinned(self, size: int) -> HostBytes:
        """Return `size` bytes of page-locked host memory."""

    def free_pinned(self, host: HostBytes) -> None:
        """Free an array that `allocate_pinned` returned."""

    def stream(self) -> Stream:
        """Return a new stream."""

    def event(self) -> Event:
        """Return a new event that takes the time."""

    def wait_for(self, handle: int) -> None:
        """Wait for the work of a stream that somebody else made."""

    def close(self) -> None:
        """Leave the device; all that was had of it must be closed before."""


def failed(call: str, reason: str) -> EngineError:
    """Return the error of a CUDA call."""
    hint = "; use a smaller batch or free the GPU" if "memory" in reason.lower() else ""
    return EngineError(f"{call} failed: {reason}{hint}")


def missing(package: str, reason: str) -> UnfitError:
    """Return the error of a package that does not load."""
    return UnfitError(
        f"the Python package {package} does not load ({' '.join(reason.split())}); "
        f"run `uv pip install {package}` or `pip install {package}`"
    )
