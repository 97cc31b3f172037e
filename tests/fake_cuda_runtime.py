"""`cuda.bindings.runtime` with its real names and signatures, on host memory."""

import ctypes
import inspect
from types import SimpleNamespace
from typing import Any

import pytest

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


def install(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """Put it in the place of the real one."""
    stand_in = Runtime()
    monkeypatch.setattr("cuda.bindings.runtime", stand_in)
    return stand_in
