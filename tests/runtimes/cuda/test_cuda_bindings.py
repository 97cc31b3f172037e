"""What only the backend through cuda-bindings does."""

import pytest
from fake_cuda_runtime import Runtime, install, real

from qbench.errors import EngineError
from qbench.runtimes.cuda.cuda_bindings import CudaBindings


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    return install(monkeypatch)


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


def test_a_stream_of_somebody_else(runtime: Runtime) -> None:
    CudaBindings().wait_for(77)
    assert runtime.calls[-1] == "cudaStreamSynchronize"
