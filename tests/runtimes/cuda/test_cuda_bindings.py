"""The backend through cuda-bindings, against its real names and signatures on host memory."""

import ctypes
import inspect
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from qbench.errors import EngineError, UnfitError
from qbench.runtimes.cuda.base import Device
from qbench.runtimes.cuda.cuda_bindings import CudaBindings

real = pytest.importorskip("cuda.bindings.runtime")
SUCCESS = real.cudaError_t.cudaSuccess


class Runtime:
    """`cuda.bindings.runtime` on host memory; a call that does not fit the real one is an error."""

    def __init__(self) -> None:
        self.blocks: dict[int, Any] = {}
        self.handles: set[int] = set()
        self.calls: list[str] = []
        self.failing: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        function = getattr(real, name)
        if isinstance(function, type) or not callable(function):
            return function

        def call(*arguments: Any) -> tuple[Any, ...]:
            inspect.signature(function).bind(*arguments)
            self.calls.append(name)
            if name in self.failing:
                return self.failing[name], None
            own = type(self).__dict__.get(f"on_{name}")
            return (SUCCESS,) if own is None else (SUCCESS, *own(self, *arguments))

        return call

    def on_cudaGetErrorString(self, error):  # noqa: N802
        return real.cudaGetErrorString(error)[1:]

    def on_cudaGetDeviceProperties(self, device):  # noqa: N802
        assert device == 0
        return (SimpleNamespace(name=b"NVIDIA L4\0\0", major=8, minor=9),)

    def on_cudaMemGetInfo(self):  # noqa: N802
        return 5, 7

    def on_cudaMalloc(self, size):  # noqa: N802
        block = ctypes.create_string_buffer(size)
        self.blocks[ctypes.addressof(block)] = block
        return (ctypes.addressof(block),)

    on_cudaMallocHost = on_cudaMalloc  # noqa: N815

    def on_cudaFree(self, address):  # noqa: N802
        del self.blocks[address]
        return ()

    on_cudaFreeHost = on_cudaFree  # noqa: N815

    def on_cudaMemcpyAsync(self, to, source, size, kind, stream):  # noqa: N802
        assert int(stream) in self.handles
        assert kind in (
            real.cudaMemcpyKind.cudaMemcpyHostToDevice,
            real.cudaMemcpyKind.cudaMemcpyDeviceToHost,
        )
        ctypes.memmove(to, source, size)
        return ()

    def _made(self, *_):
        self.handles.add(len(self.calls))
        return (len(self.calls),)

    def _gone(self, handle):
        self.handles.remove(int(handle))
        return ()

    on_cudaStreamCreateWithFlags = on_cudaEventCreate = _made  # noqa: N815
    on_cudaStreamEndCapture = on_cudaGraphInstantiate = _made  # noqa: N815
    on_cudaStreamDestroy = on_cudaEventDestroy = _gone  # noqa: N815
    on_cudaGraphDestroy = on_cudaGraphExecDestroy = _gone  # noqa: N815

    def on_cudaEventElapsedTime(self, start, end):  # noqa: N802
        return (float(end - start),)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    stand_in = Runtime()
    monkeypatch.setattr("cuda.bindings.runtime", stand_in)
    return stand_in


@pytest.mark.usefixtures("runtime")
def test_the_device() -> None:
    assert CudaBindings().device() == Device("NVIDIA L4", "sm89", 5, 7)


def test_bytes_go_to_the_device_and_back(runtime: Runtime) -> None:
    cuda = CudaBindings()
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
    assert (runtime.blocks, runtime.handles) == ({}, set())


def test_events_tell_seconds(runtime: Runtime) -> None:
    cuda = CudaBindings()
    stream, first, second = cuda.stream(), cuda.event(), cuda.event()
    first.record(stream)
    second.record(stream)
    assert second.seconds_since(first) == (second.event - first.event) / 1e3
    for thing in (first, second, stream):
        thing.close()
    assert runtime.handles == set()


def test_a_graph_is_captured_once_and_launched_often(runtime: Runtime) -> None:
    stream = CudaBindings().stream()
    captured: list[int] = []
    graph = stream.capture(lambda: captured.append(1))
    launch = graph.launcher()
    launch()
    launch()
    assert captured == [1]
    assert runtime.calls.count("cudaGraphLaunch") == 2
    graph.close()
    stream.close()
    assert runtime.handles == set()


def test_work_that_fails_leaves_the_capture(runtime: Runtime) -> None:
    def work() -> None:
        raise EngineError("no such kernel")

    stream = CudaBindings().stream()
    with pytest.raises(EngineError, match="no such kernel"):
        stream.capture(work)
    assert runtime.calls[-2:] == ["cudaStreamEndCapture", "cudaGetLastError"]


def test_a_graph_that_cannot_be_instantiated_is_freed(runtime: Runtime) -> None:
    stream = CudaBindings().stream()
    runtime.failing["cudaGraphInstantiate"] = real.cudaError_t.cudaErrorInvalidValue
    with pytest.raises(EngineError, match="cudaGraphInstantiate failed: invalid argument"):
        stream.capture(lambda: None)
    assert runtime.calls[-1] == "cudaGraphDestroy"


@pytest.mark.parametrize("name", ["cudaStreamSynchronize", "cudaGraphLaunch"])
def test_timed_calls_check_their_status(runtime: Runtime, name: str) -> None:
    stream = CudaBindings().stream()
    calls = {
        "cudaStreamSynchronize": stream.synchronize,
        "cudaGraphLaunch": stream.capture(lambda: None).launcher(),
    }
    runtime.failing[name] = real.cudaError_t.cudaErrorLaunchFailure
    with pytest.raises(EngineError, match=f"^{name} failed: unspecified launch failure$"):
        calls[name]()


def test_no_memory_says_what_to_do(runtime: Runtime) -> None:
    runtime.failing["cudaMalloc"] = real.cudaError_t.cudaErrorMemoryAllocation
    with pytest.raises(EngineError, match="cudaMalloc failed: out of memory; use a smaller batch"):
        CudaBindings().allocate(1 << 40)


def test_a_stream_of_somebody_else(runtime: Runtime) -> None:
    CudaBindings().wait_for(77)
    assert runtime.calls[-1] == "cudaStreamSynchronize"


def test_no_driver(runtime: Runtime) -> None:
    runtime.failing["cudaSetDevice"] = real.cudaError_t.cudaErrorNoDevice
    with pytest.raises(UnfitError, match=r"no usable GPU \(no CUDA-capable device.*run `qbench do"):
        CudaBindings()


def test_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(UnfitError, match=r"cuda-bindings does not load \(.*or `pip install cuda-b"):
        CudaBindings()
