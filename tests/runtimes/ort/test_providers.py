"""Providers of ONNX Runtime that are missing, fall back, or leave a part of the model."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import onnxruntime
import pytest

from qbench.errors import ModelError, UnfitError
from qbench.runtimes.ort import providers as module
from qbench.runtimes.ort.providers import (
    PROVIDERS,
    ProviderChoice,
    Ran,
    did_not_load,
    judge_split,
    providers_for,
)
from qbench.runtimes.ort.runner import OrtRunner

MODEL = graphs.conv_bn_relu().SerializeToString()
FEEDS = {"x": np.zeros(graphs.IMAGE, np.float32)}
CPU, CUDA = PROVIDERS["cpu"], PROVIDERS["cuda"]


@pytest.fixture
def everything_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS.values()))


@pytest.fixture
def only_cpu_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])


@pytest.mark.usefixtures("only_cpu_installed")
@pytest.mark.parametrize("name", ["cuda", "tensorrt", "rtx"])
def test_a_fallback_that_is_allowed_says_what_ran(name: str) -> None:
    runner = OrtRunner(MODEL, threads=1, provider=ProviderChoice(name, allow_fallback=True))
    assert runner.provider == "cpu"
    assert runner.notes == (f"provider {name!r} did not load, 'cpu' ran the model",)
    plain = OrtRunner(MODEL, threads=1)
    assert np.array_equal(runner.run(FEEDS)["head"], plain.run(FEEDS)["head"])
    assert plain.notes == ()


@pytest.mark.parametrize("can_tell", [True, False])
def test_a_session_that_only_the_cpu_runs_is_an_error(
    can_tell: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without the API that tells what runs where, ONNX Runtime itself refuses the CPU.
    monkeypatch.setattr(module, "_can_tell", lambda: can_tell)
    monkeypatch.setattr("qbench.runtimes.ort.session.providers_for", lambda _: [[]])
    wanted = (
        "libraries or driver are missing" if can_tell else "CPU EP has been explicitly disabled"
    )
    with pytest.raises(UnfitError, match=rf"provider 'cuda' did not load \(.*{wanted}.*\); run"):
        OrtRunner(MODEL, provider="cuda")


@pytest.mark.usefixtures("only_cpu_installed")
def test_a_bad_model_is_no_matter_of_providers() -> None:
    with pytest.raises(ModelError, match="ONNX Runtime refuses the model"):
        OrtRunner(b"hello", provider=ProviderChoice("cuda", allow_fallback=True))


@pytest.mark.usefixtures("everything_installed")
def test_without_fallback_a_provider_stands_alone() -> None:
    assert providers_for(ProviderChoice("tensorrt")) == [[(PROVIDERS["tensorrt"], {})]]


@pytest.mark.usefixtures("everything_installed")
def test_with_fallback_cuda_comes_before_the_cpu() -> None:
    tensorrt = (PROVIDERS["tensorrt"], {})
    assert providers_for(ProviderChoice("tensorrt", allow_fallback=True)) == [
        [tensorrt, (CUDA, {})],
        [(CUDA, {})],
        [(CPU, {})],
    ]


@pytest.mark.usefixtures("everything_installed")
def test_engines_and_timings_are_cached_where_the_caller_says() -> None:
    choice = ProviderChoice("tensorrt", precision="int8", cache=Path("cache"))
    assert providers_for(choice)[0][0][1] == {
        "trt_int8_enable": "1",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": "cache",
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": "cache",
    }
    rtx = ProviderChoice("rtx", precision="int8", cache=Path("cache"))
    assert providers_for(rtx)[0][0][1] == {"nv_runtime_cache_path": "cache"}
    cuda = ProviderChoice("cuda", precision="int8", cache=Path("cache"))
    assert providers_for(cuda)[0][0][1] == {}


def test_all_nodes_where_they_were_asked_for() -> None:
    assert judge_split(ProviderChoice("cuda"), {CUDA: Counter(Conv=3)}) == Ran("cuda")


def test_compute_on_another_provider_is_an_error() -> None:
    split = {CUDA: Counter(Conv=3), CPU: Counter(TopK=1, NonMaxSuppression=1, Shape=2)}
    with pytest.raises(
        UnfitError,
        match=r"provider 'cuda' leaves 4 of 7 nodes to 'cpu' \(NonMaxSuppression, Shape, TopK\); "
        "allow it with --allow-fallback",
    ):
        judge_split(ProviderChoice("cuda"), split)
    ran = judge_split(ProviderChoice("cuda", allow_fallback=True), split)
    assert ran.provider == "cuda"
    assert "leaves 4 of 7 nodes to 'cpu'" in ran.notes[0]


def test_arithmetic_on_shapes_is_only_a_note() -> None:
    split = {CUDA: Counter(Conv=3), CPU: Counter(Shape=1, Gather=1, Concat=1, Unsqueeze=1)}
    ran = judge_split(ProviderChoice("cuda"), split)
    note = "provider 'cuda' leaves 4 of 7 nodes to 'cpu' (Concat, Gather, Shape, ...)"
    assert ran == Ran("cuda", (note,))


def test_a_provider_that_loads_and_runs_nothing() -> None:
    choice = ProviderChoice("tensorrt", allow_fallback=True)
    assert judge_split(choice, {CUDA: Counter(Conv=3), CPU: Counter(Shape=1)}).provider == "cuda"


def test_operators_are_counted_as_onnx_runtime_tells() -> None:
    options = onnxruntime.SessionOptions()
    module.watch(options, ProviderChoice("cuda"))
    session = onnxruntime.InferenceSession(MODEL, options, providers=[CPU])
    assert module._operators(session) == {CPU: Counter(Conv=3, Relu=2)}


def test_onnx_runtimes_source_lines_are_left_out() -> None:
    reason = "/src/state.cc:729 void f(A&, const B&) Please install TensorRT."
    assert "did not load (Please install TensorRT); run" in str(did_not_load("tensorrt", reason))


def test_cuda_libraries_of_python_packages_are_loaded_once_before_the_first_session(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []

    def preload() -> None:
        done.append("libraries")
        sys.stdout.write("Failed to load libcudart.so.13: not there\n")

    def no_session(*_: Any, **__: Any) -> None:
        done.append("session")
        raise RuntimeError("libcudart.so.13 is missing")

    monkeypatch.setattr(onnxruntime, "preload_dlls", preload, raising=False)
    monkeypatch.setattr(onnxruntime, "InferenceSession", no_session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS.values()))
    module.preload_cuda.cache_clear()
    for provider in ("cuda", "tensorrt", "rtx"):
        with pytest.raises(UnfitError, match=rf"provider {provider!r} did not load"):
            OrtRunner(MODEL, provider=provider)
    assert done == ["libraries", "session", "session", "session"]
    assert module.preload_cuda() == ("Failed to load libcudart.so.13: not there",)
    assert capsys.readouterr() == ("", "")
    module.preload_cuda.cache_clear()


def test_the_cpu_needs_no_cuda_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "qbench.runtimes.ort.session.preload_cuda", lambda: pytest.fail("not needed")
    )
    OrtRunner(MODEL, threads=1)


def test_an_old_onnx_runtime_has_nothing_to_load_libraries_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(onnxruntime, "preload_dlls")
    module.preload_cuda.cache_clear()
    assert module.preload_cuda() == ()
    module.preload_cuda.cache_clear()
