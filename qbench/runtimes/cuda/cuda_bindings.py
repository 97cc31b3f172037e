"""CUDA through NVIDIA's cuda-bindings."""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from qbench.errors import UnfitError
from qbench.runtimes.cuda.base import NO_GPU, Device, HostBytes, failed, missing

_DEVICE = 0


class CudaBindings:
    """The first GPU, in its primary context.

    Raises:
        UnfitError: cuda-bindings does not load, or finds no GPU or no driver.
    """

    name = "cuda-bindings"

    def __init__(self) -> None:
        try:
            from cuda.bindings import runtime
        except (ImportError, OSError, RuntimeError) as error:
            raise missing("cuda-bindings", str(error)) from error
        self._api = _Api(runtime)
        status = runtime.cudaSetDevice(_DEVICE)[0]
        if status != runtime.cudaError_t.cudaSuccess:
            raise UnfitError(NO_GPU.format(reason=self._api.reason(status)))

    def device(self) -> Device:
        """Return what the device is, and how much of its memory is free."""
        properties = self._api("cudaGetDeviceProperties", _DEVICE)
        free, total = self._api("cudaMemGetInfo")
        return Device(
            name=properties.name.partition(b"\0")[0].decode(),
            compute_capability=f"sm{properties.major}{properties.minor}",
            free_bytes=free,
            total_bytes=total,
        )

    def allocate(self, size: int) -> int:
        """Return the address of `size` bytes of device memory."""
        return int(self._api("cudaMalloc", size))

    def free(self, address: int) -> None:
        """Free device memory."""
        self._api("cudaFree", address)

    def allocate_pinned(self, size: int) -> HostBytes:
        """Return `size` bytes of page-locked host memory."""
        address = int(self._api("cudaMallocHost", size))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def free_pinned(self, host: HostBytes) -> None:
        """Free an array that `allocate_pinned` returned."""
        self._api("cudaFreeHost", host.ctypes.data)

    def stream(self) -> "_Stream":
        """Return a new stream that does not wait for the default stream."""
        return _Stream(self._api)

    def event(self) -> "_Event":
        """Return a new event that takes the time."""
        return _Event(self._api)

    def wait_for(self, handle: int) -> None:
        """Wait for the work of a stream that somebody else made."""
        self._api("cudaStreamSynchronize", handle)

    def close(self) -> None:
        """Leave the device; its primary context lives on for others."""


class _Api:
    """Calls a function of the module by name, raises its status and returns the rest."""

    def __init__(self, runtime: Any) -> None:
        self.runtime = runtime
        self._success = runtime.cudaError_t.cudaSuccess

    def __call__(self, name: str, *arguments: Any) -> Any:
        status, *values = getattr(self.runtime, name)(*arguments)
        if status != self._success:
            raise failed(name, self.reason(status))
        return values[0] if len(values) == 1 else values

    def prepared(self, name: str, *arguments: Any) -> Callable[[], None]:
        """Return the leanest call of a function on `arguments`, for use in timed calls."""
        function, success, reason = getattr(self.runtime, name), self._success, self.reason

        def call() -> None:
            status = function(*arguments)[0]
            if status != success:
                raise failed(name, reason(status))

        return call

    def reason(self, status: Any) -> str:
        """Return CUDA's words for a status."""
        words: bytes = self.runtime.cudaGetErrorString(status)[1]
        return words.decode()


class _Stream:
    def __init__(self, api: _Api) -> None:
        self._api = api
        self._stream = api("cudaStreamCreateWithFlags", api.runtime.cudaStreamNonBlocking)
        self.handle = int(self._stream)
        kinds = api.runtime.cudaMemcpyKind
        self._in, self._out = kinds.cudaMemcpyHostToDevice, kinds.cudaMemcpyDeviceToHost
        self.synchronize = api.prepared("cudaStreamSynchronize", self._stream)

    def copy_in(self, device: int, host: HostBytes) -> None:
        arguments = (device, host.ctypes.data, host.nbytes, self._in, self._stream)
        self._api("cudaMemcpyAsync", *arguments)

    def copy_out(self, host: HostBytes, device: int) -> None:
        arguments = (host.ctypes.data, device, host.nbytes, self._out, self._stream)
        self._api("cudaMemcpyAsync", *arguments)

    def capture(self, work: Callable[[], None]) -> "_Graph":
        mode = self._api.runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._api("cudaStreamBeginCapture", self._stream, mode)
        try:
            work()
        except BaseException:
            # The capture must end whatever happened; its own status says nothing new.
            self._api.runtime.cudaStreamEndCapture(self._stream)
            self._api.runtime.cudaGetLastError()
            raise
        graph = self._api("cudaStreamEndCapture", self._stream)
        return _Graph(self._api, graph, self._stream)

    def close(self) -> None:
        self._api("cudaStreamDestroy", self._stream)


class _Event:
    def __init__(self, api: _Api) -> None:
        self._api = api
        self.event = api("cudaEventCreate")

    def record(self, stream: Any) -> None:
        self._api("cudaEventRecord", self.event, stream.handle)

    def seconds_since(self, earlier: Any) -> float:
        return float(self._api("cudaEventElapsedTime", earlier.event, self.event)) / 1e3

    def close(self) -> None:
        self._api("cudaEventDestroy", self.event)


class _Graph:
    def __init__(self, api: _Api, graph: Any, stream: Any) -> None:
        self._api, self._stream = api, stream
        try:
            self._executable = api("cudaGraphInstantiate", graph, 0)
        finally:
            api("cudaGraphDestroy", graph)

    def launcher(self) -> Callable[[], None]:
        return self._api.prepared("cudaGraphLaunch", self._executable, self._stream)

    def close(self) -> None:
        self._api("cudaGraphExecDestroy", self._executable)
