"""The runner of engines, on a TensorRT that computes with ONNX Runtime in host memory."""

import logging
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_trt
import graphs
import ml_dtypes
import numpy as np
import onnx
import pytest
import trt_runtime
from at_once import SECONDS, run_at_once
from fake_trt.basics import weights_bytes
from fake_trt.running import ACTIVATIONS
from host_cuda import TICK, HostCuda, HostStream
from trt_runtime import FakeGpu

from qbench.errors import DataError, EngineError
from qbench.model.spec import TensorSpec
from qbench.runtimes.cuda.choose import BACKENDS
from qbench.runtimes.ort.runner import OrtRunner
from qbench.runtimes.tensorrt.flavour import find_flavour
from qbench.runtimes.tensorrt.runner import Phases, TensorRtRunner

SMALL = {"x": ((1, 4), (1, 4), (2, 4))}
LARGE = {"x": ((2, 4), (8, 4), (8, 4))}


@pytest.fixture(params=["10.12"])
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeGpu:
    return trt_runtime.install(monkeypatch, tmp_path, request.param)


@pytest.fixture
def cuda(gpu: FakeGpu) -> HostCuda:
    return gpu.cuda


def doubled() -> onnx.ModelProto:
    """Twice the input, of any batch."""
    b = graphs.Builder(("N", 4))
    return b.model(b.node("Add", "y", b.x, b.x))


def found_positions() -> onnx.ModelProto:
    """Where the input is not zero: as many columns as there are such values."""
    b = graphs.Builder((2, 4))
    model = b.model(b.node("NonZero", "y", b.x))
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    return model


def reshaped() -> onnx.ModelProto:
    """The input in the shape that another input holds."""
    b = graphs.Builder((2, 4))
    b.inputs.append(onnx.helper.make_tensor_value_info("to", onnx.TensorProto.INT64, (2,)))
    return b.model(b.node("Reshape", "y", b.x, "to"))


def rows(count: int, start: float = 0) -> np.ndarray[Any, Any]:
    return np.arange(start, start + 4 * count, dtype=np.float32).reshape(count, 4)


def on_device(array: np.ndarray[Any, Any], **more: Any) -> Any:
    interface = {
        "shape": array.shape,
        "typestr": array.dtype.str,
        "data": (array.ctypes.data, False),
        "version": 3,
        **more,
    }
    return SimpleNamespace(__cuda_array_interface__=interface, kept=array)


def test_it_computes_what_onnx_runtime_does(gpu: FakeGpu) -> None:
    proto = graphs.conv_bn_relu()
    feeds = graphs.feeds_of(graphs.model_of(proto))
    with gpu.open(proto) as runner:
        assert runner.inputs == (TensorSpec("x", graphs.IMAGE, np.dtype(np.float32)),)
        assert [spec.name for spec in runner.outputs] == ["head"]
        assert runner.provider == "tensorrt engine"
        assert runner.load_seconds > 0
        found = runner.run(feeds)["head"]
    reference = OrtRunner(proto.SerializeToString(), threads=1).run(feeds)["head"]
    assert np.allclose(found, reference, atol=1e-5)
    assert gpu.cuda.closed == 1


@pytest.mark.parametrize("gpu", fake_trt.versions(), indirect=True)
def test_every_version_runs_all_kinds_of_outputs(gpu: FakeGpu) -> None:
    with gpu.open(doubled(), (SMALL, LARGE)) as runner:
        for batch in (1, 8):
            assert np.array_equal(runner.run({"x": rows(batch)})["y"], 2 * rows(batch))
        runner.bind({"x": rows(1)}, graph=True, streams=2)()
        runner.phases({"x": rows(1)})
    with gpu.open(found_positions()) as runner:
        assert np.array_equal(runner.run({"x": rows(2)})["y"], np.array(np.nonzero(rows(2))))
    with gpu.open(reshaped()) as runner:
        assert runner.run({"x": rows(2), "to": np.array([8, 1])})["y"].shape == (8, 1)
    assert (gpu.cuda.live, gpu.cuda.open) == ({}, [])


def test_results_are_new_arrays(gpu: FakeGpu) -> None:
    with gpu.open(doubled(), (SMALL,)) as r:
        first = r.run({"x": rows(1)})["y"]
        r.run({"x": rows(1, start=100)})
        assert np.array_equal(first, 2 * rows(1))
        assert gpu.cuda.copies == [("in", 16), ("out", 16)] * 2


def test_buffers_are_allocated_once_and_grow_with_the_shapes(gpu: FakeGpu) -> None:
    with gpu.open(doubled(), ({"x": ((1, 4), (1, 4), (8, 4))},)) as runner:
        counts = []
        for batch in (2, 2, 1, 8, 3):
            assert np.array_equal(runner.run({"x": rows(batch)})["y"], 2 * rows(batch))
            counts.append(gpu.cuda.allocations)
        assert counts == [2, 2, 2, 4, 4]


def test_everything_is_given_back(gpu: FakeGpu) -> None:
    runner = gpu.open(doubled(), (SMALL,))
    runner.run({"x": rows(1)})
    runner.bind({"x": rows(1)}, graph=True, streams=2)()
    runner.phases({"x": rows(1)}, runs=1)
    assert gpu.cuda.live
    runner.close()
    runner.close()
    assert (gpu.cuda.live, gpu.cuda.open, gpu.cuda.closed) == ({}, [], 1)
    with pytest.raises(EngineError, match="the engine is closed; open it again"):
        runner.run({"x": rows(1)})
    with pytest.raises(EngineError, match="the engine is closed; open it again"):
        runner.typical_inputs()


def test_what_cannot_be_freed_is_said_aloud(
    gpu: FakeGpu,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    runner = gpu.open(doubled(), (SMALL,))
    runner.run({"x": rows(1)})

    def fail(_: HostStream) -> None:
        raise EngineError("the device is lost")

    monkeypatch.setattr(HostStream, "synchronize", fail)
    runner.close()
    assert caplog.messages == ["a context was not freed: the device is lost"]
    assert gpu.cuda.closed == 1


def test_profiles_are_switched_by_the_shapes(gpu: FakeGpu) -> None:
    with gpu.open(doubled(), (SMALL, LARGE)) as runner:
        for batch in (1, 8, 2, 4, 1):  # 2 fits both, and stays in the current one
            assert np.array_equal(runner.run({"x": rows(batch)})["y"], 2 * rows(batch))
        assert gpu.switches == [1, 0]
        assert gpu.cuda.allocations == 4


def test_a_profile_made_for_the_shapes_is_preferred(gpu: FakeGpu) -> None:
    wide = {"x": ((1, 4), (4, 4), (8, 4))}
    with gpu.open(doubled(), (wide, LARGE)) as runner:
        runner.run({"x": rows(8)})
        assert gpu.switches == [1]
    assert gpu.cuda.live == {}


def test_shapes_of_no_profile(gpu: FakeGpu) -> None:
    with (
        gpu.open(doubled(), (SMALL, LARGE)) as runner,
        pytest.raises(
            DataError,
            match=r"^the data \(x 9x4\) fits no optimization profile of .*m.engine "
            r"\(x 1x4\.\.2x4 or x 2x4\.\.8x4\); build the engine for it",
        ),
    ):
        runner.run({"x": rows(9)})


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, r"the data \(nothing\) does not fit the engine's inputs \(x\)"),
        ({"z": rows(1)}, r"the data \(z\) does not fit the engine's inputs \(x\)"),
        ({"x": rows(1).astype(np.float64)}, "input 'x' is float64, the engine takes float32; conv"),
        ({"x": np.zeros((4,), np.float32)}, r"the data \(x 4\) fits no optimization profile"),
    ],
)
def test_feeds_that_do_not_fit(feeds: dict[str, Any], message: str, gpu: FakeGpu) -> None:
    with gpu.open(doubled(), (SMALL,)) as runner, pytest.raises(DataError, match=message):
        runner.run(feeds)


@pytest.mark.parametrize("batch", [0, 9])
def test_a_call_that_cannot_be_bound_holds_nothing(batch: int, gpu: FakeGpu) -> None:
    with gpu.open(doubled(), (SMALL,)) as runner:
        before = len(gpu.cuda.live), len(gpu.cuda.open)
        for use in (runner.bind, runner.bind_bare, runner.profile):
            with pytest.raises(DataError, match="fits no optimization profile"):
                use({"x": rows(batch)})
        assert (len(gpu.cuda.live), len(gpu.cuda.open)) == before


def test_dimensions_that_no_profile_leaves_open_are_fixed(gpu: FakeGpu) -> None:
    b = graphs.Builder(("N", "M"))
    with gpu.open(b.model(b.node("Relu", "y", b.x)), (SMALL, LARGE)) as runner:
        assert runner.inputs[0].shape == (None, 4)
        assert runner.typical_inputs()[0].shape == (None, 4)


def test_a_batch_that_cannot_be_1_is_the_usual_one(gpu: FakeGpu) -> None:
    with gpu.open(doubled(), (LARGE, SMALL)) as runner:
        assert runner.typical_inputs()[0].shape == (8, 4)


def test_outputs_of_a_size_that_the_data_decides(gpu: FakeGpu) -> None:
    with gpu.open(found_positions()) as runner:
        for data in (np.eye(2, 4), np.ones((2, 4)), np.zeros((2, 4)), np.eye(2, 4)):
            found = runner.run({"x": data.astype(np.float32)})["y"]
            assert np.array_equal(found, np.array(np.nonzero(data)))
        assert gpu.cuda.allocations == 3  # the input, two positions, and then eight


def test_no_memory_for_an_output_of_unknown_size(gpu: FakeGpu) -> None:
    gpu.cuda.capacity = 64
    with (
        gpu.open(found_positions()) as runner,
        pytest.raises(EngineError, match=r"^cudaMalloc failed: out of memory \(128 bytes\)$"),
    ):
        runner.run({"x": np.ones((2, 4), np.float32)})


def test_inputs_that_hold_shapes_stay_on_the_host(gpu: FakeGpu) -> None:
    with gpu.open(reshaped()) as runner:
        for shape in ((1, 8), (4, 2), (8, 1)):
            found = runner.run({"x": rows(2), "to": np.array(shape)})["y"]
            assert np.array_equal(found, rows(2).reshape(shape))
        assert {size for way, size in gpu.cuda.copies if way == "in"} == {32}
        with pytest.raises(DataError, match="input 'to' holds shapes; feed it from the host"):
            runner.run({"x": rows(2), "to": on_device(np.array((1, 8)))})


def test_arrays_on_the_device_are_not_copied(gpu: FakeGpu) -> None:
    with gpu.open(doubled(), (SMALL,)) as runner:
        data = on_device(rows(2), stream=5, strides=(16, 4))
        assert np.array_equal(runner.run({"x": data})["y"], 2 * rows(2))
        assert gpu.cuda.copies == [("out", 32)]
        assert gpu.cuda.waited_for == [5]
        assert gpu.runs[0][0].get_tensor_address("x") == data.kept.ctypes.data
        # and back to the host
        assert np.array_equal(runner.run({"x": rows(1)})["y"], 2 * rows(1))


def test_strided_arrays_on_the_device(gpu: FakeGpu) -> None:
    with (
        gpu.open(doubled(), (SMALL,)) as runner,
        pytest.raises(DataError, match="input 'x' is strided on the device; make it contiguous"),
    ):
        runner.run({"x": on_device(rows(2), strides=(4, 8))})


def test_types_that_the_array_protocol_cannot_name(
    gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = graphs.Builder((2, 4))
    proto = b.model(b.node("Identity", "y", b.x))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    monkeypatch.setattr(
        gpu.module.ICudaEngine, "get_tensor_dtype", lambda *_: gpu.module.DataType.BF16
    )
    data = rows(2).astype(ml_dtypes.bfloat16)
    with gpu.open(proto) as runner:
        found = runner.run({"x": on_device(data)})["y"]
        assert found.dtype == data.dtype
        assert np.array_equal(found, data)
        assert gpu.cuda.copies == [("out", 16)]
        assert np.array_equal(runner.run({"x": data})["y"], data)
        with pytest.raises(DataError, match="input 'x' is float16, the engine takes bfloat16"):
            runner.run({"x": rows(2).astype(np.float16)})


def test_a_bound_call_copies_nothing(gpu: FakeGpu) -> None:
    with gpu.open(doubled(), (SMALL,)) as runner:
        call = runner.bind({"x": rows(1)})
        gpu.cuda.copies.clear()
        call()
        call()
        assert len(gpu.runs) == 2
        assert {handle for _, handle in gpu.runs} == {gpu.cuda.open[0].handle}
        assert gpu.cuda.copies == []


def test_a_bound_call_keeps_its_data_whatever_runs_between(gpu: FakeGpu) -> None:
    with gpu.open(doubled(), (SMALL,)) as runner:
        call = runner.bind({"x": rows(1)})
        runner.run({"x": rows(2, start=100)})
        call()
        context = gpu.runs[-1][0]
        output = gpu.cuda.live[context.get_tensor_address("y")].view(np.float32)
        assert np.array_equal(output, 2 * rows(1)[0])


def test_a_bound_call_that_fails(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    with gpu.open(doubled(), (SMALL,)) as runner:
        monkeypatch.setattr(gpu.module.IExecutionContext, "execute_async_v3", lambda *_: False)
        call = runner.bind({"x": rows(1)})
        with pytest.raises(EngineError, match=r"m\.engine does not run$"):
            call()


def test_several_streams_run_at_once(gpu: FakeGpu) -> None:
    with gpu.open(doubled(), (SMALL,)) as runner:
        runner.bind({"x": rows(1)}, streams=3)()
        assert len({id(context) for context, _ in gpu.runs}) == 3
        assert len({handle for _, handle in gpu.runs}) == 3
        waits = [stream.waits for stream in gpu.cuda.open]
        assert waits == [2, 2, 2]  # for the upload, and for the call


def test_bound_calls_run_at_once_and_keep_their_data(
    gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gpu.open(doubled(), (SMALL,)) as runner:
        runner.run({"x": rows(1)})
        everybody = threading.Barrier(3)
        context: Any = gpu.module.IExecutionContext
        execute = context.execute_async_v3

        def execute_async_v3(self: Any, stream_handle: int) -> bool:
            everybody.wait(SECONDS)  # for as long as not all three are in here
            return bool(execute(self, stream_handle))

        monkeypatch.setattr(context, "execute_async_v3", execute_async_v3)
        calls = [runner.bind({"x": rows(1, start)}) for start in (0, 10, 20)]
        lanes = runner._lanes[-3:]
        run_at_once(calls)
        for lane, start in zip(lanes, (0, 10, 20), strict=True):
            lane.download()
            assert np.array_equal(lane.results()["y"], 2 * rows(1, start))


def kinds(runner: TensorRtRunner, feeds: dict[str, Any]) -> dict[tuple[str, str | None], float]:
    return {(part.operator, part.type): part.share for part in runner.profile(feeds, runs=2)}


@pytest.mark.parametrize("gpu", fake_trt.versions(), indirect=True)
def test_a_profile_tells_what_layers_take_and_compute_in(gpu: FakeGpu) -> None:
    b = graphs.Builder()
    half = b.node("Cast", "half", b.node("Relu", "relu", b.conv("conv", b.x)), to=10)
    model = b.model(b.node("Cast", "y", b.node("Relu", "again", half), to=1))
    feeds = {"x": np.zeros(graphs.IMAGE, np.float32)}
    with gpu.open(model) as runner:  # whose layers take 1 ms, 2 ms, ...
        assert kinds(runner, feeds) == {
            ("Cast", "fp16"): pytest.approx(5 / 15),
            ("Relu", "fp16"): pytest.approx(4 / 15),
            ("Cast", "fp32"): pytest.approx(3 / 15),
            ("Relu", "fp32"): pytest.approx(2 / 15),
            ("Conv", "fp32"): pytest.approx(1 / 15),
        }
        assert len(gpu.cuda.open) == 0  # nothing stays of what was watched


def test_an_engine_that_tells_only_names_of_layers(gpu: FakeGpu) -> None:
    with gpu.open(doubled(), (SMALL,), verbosity="LAYER_NAMES_ONLY") as runner:
        assert kinds(runner, {"x": rows(1)}) == {("y", None): 1.0}
    with pytest.raises(EngineError, match="the engine is closed; open it again"):
        runner.profile({"x": rows(1)})


@pytest.mark.parametrize("gpu", fake_trt.versions(), indirect=True)
def test_weights_that_may_be_streamed_are_as_far_as_memory_is_short(gpu: FakeGpu) -> None:
    model = graphs.conv_bn_relu()
    feeds = graphs.feeds_of(graphs.model_of(model))
    with gpu.open(model, flags=("WEIGHT_STREAMING",)) as runner:
        runner.run(feeds)  # a context came after the budget, or the fake would have refused it
        engine: Any = runner._engine.engine if runner._engine else None
        size = engine.streamable_weights_size
        budget = getattr(engine, "weight_streaming_budget_v2", None)
        assert (engine._budget, budget) == ((-1, None) if budget is None else (size // 2,) * 2)
        assert runner.notes[1:] == ("weights that do not fit stay on the host and are streamed",)
    with gpu.open(model) as runner:
        assert runner._engine is not None
        assert runner._engine.engine._budget is None
        assert len(runner.notes) == 1


def test_memory_on_the_gpu_is_that_of_weights_and_one_context(gpu: FakeGpu) -> None:
    with gpu.open(graphs.conv_bn_relu()) as runner:
        assert runner.device_memory_bytes is None  # 10.12 does not tell how large weights are


@pytest.mark.parametrize("gpu", ["10.16", "11.4", "rtx-1.7"], indirect=True)
def test_memory_on_the_gpu_is_without_weights_that_are_streamed(
    gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = graphs.conv_bn_relu()
    weights = weights_bytes(model)
    with gpu.open(model) as runner:
        assert runner.device_memory_bytes == weights + ACTIVATIONS
    with gpu.open(model, flags=("WEIGHT_STREAMING",)) as runner:
        assert runner.device_memory_bytes == weights - (weights - weights // 2) + ACTIVATIONS
    monkeypatch.setattr(gpu.module.ICudaEngine, "get_engine_stat", lambda *_: -1)
    with gpu.open(model) as runner:
        assert runner.device_memory_bytes is None


def test_the_bare_call_is_the_same_work(gpu: FakeGpu) -> None:
    with gpu.open(doubled(), (SMALL,)) as runner:
        runner.bind_bare({"x": rows(1)})()
        assert len(gpu.runs) == 1
        assert gpu.cuda.open[0].waits == 2


def test_a_graph_is_launched_in_place_of_the_engine(gpu: FakeGpu) -> None:
    with gpu.open(doubled(), (SMALL,)) as runner:
        assert "without a CUDA graph," in runner.notes[0]
        call = runner.bind({"x": rows(1)}, graph=True)
        assert "from the GPU, as a CUDA graph, and" in runner.notes[0]
        assert gpu.cuda.launches == 0
        call()
        call()
        assert gpu.cuda.launches == 2
        runner.bind({"x": rows(1)})
        assert "without a CUDA graph," in runner.notes[0]


def test_a_graph_that_cannot_be_captured_is_said_aloud(
    gpu: FakeGpu, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.cuda.refuses_capture = "operation not permitted when stream is capturing"
    with gpu.open(doubled(), (SMALL,)) as runner:
        runner.bind({"x": rows(1)}, graph=True)()
        assert f"without a CUDA graph ({gpu.cuda.refuses_capture})," in runner.notes[0]
        assert len(gpu.runs) == 2  # once before the capture
    assert caplog.messages == [
        "without a CUDA graph: operation not permitted when stream is capturing"
    ]


def test_phases_are_taken_apart(gpu: FakeGpu) -> None:
    with gpu.open(doubled(), (SMALL,)) as runner:
        phases = runner.phases({"x": rows(1)}, runs=3)
        assert phases == Phases(*[pytest.approx(TICK)] * 3)
        assert len(gpu.cuda.open) == 1  # the stream: events are gone
        assert len(gpu.runs) == 4


@pytest.mark.parametrize("content", [b"hello", b""])
def test_a_file_that_is_no_engine(content: bytes, gpu: FakeGpu, tmp_path: Path) -> None:
    (tmp_path / "m.engine").write_bytes(content)
    with pytest.raises(
        EngineError,
        match=r"^TensorRT 10\.12\S* does not load .*m\.engine: .*Magic tag does not match; it may "
        "be of another flavour or version of TensorRT, or for another GPU: build it here",
    ):
        TensorRtRunner(tmp_path / "m.engine", gpu.flavour)
    assert gpu.cuda.closed == 1


def test_an_engine_of_another_version(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(gpu.module, "__version__", "10.0.1")
        engine = gpu.write_engine(gpu.folder / "old.engine", doubled(), (SMALL,))
    with pytest.raises(EngineError, match=r"old\.engine: .* is of version 10\.0\.1, expecting"):
        TensorRtRunner(engine, gpu.flavour)


def test_no_engine_there(gpu: FakeGpu, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"cannot read engine .*m\.engine \(No such file"):
        TensorRtRunner(tmp_path / "m.engine", gpu.flavour)


def test_a_format_that_is_not_linear(gpu: FakeGpu) -> None:
    with pytest.raises(EngineError, match="wants 'x' in the format CHW32; qbench runs engines wit"):
        gpu.open(doubled(), (SMALL,), formats={"x": "CHW32"})


def test_a_type_that_cannot_be_fed(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        gpu.module.ICudaEngine, "get_tensor_dtype", lambda *_: gpu.module.DataType.INT4
    )
    with pytest.raises(EngineError, match="has 'x' of type INT4; qbench feeds FLOAT, HALF"):
        gpu.open(doubled(), (SMALL,))


def test_no_memory_for_a_context(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu.module.ICudaEngine, "create_execution_context", lambda *_: None)
    with (
        gpu.open(doubled(), (SMALL,)) as runner,
        pytest.raises(EngineError, match=r"m\.engine has no memory to run; free the GPU or build"),
    ):
        runner.run({"x": rows(1)})


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("set_optimization_profile_async", "does not switch to its optimization profile 1"),
        ("set_input_shape", "refuses the shape of 'x'"),
        ("set_tensor_address", "refuses the memory of 'x'"),
    ],
)
def test_refusals_of_tensorrt_are_errors(
    method: str, message: str, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gpu.open(doubled(), (SMALL, LARGE)) as runner:
        with monkeypatch.context() as patch:
            patch.setattr(gpu.module.IExecutionContext, method, lambda *_: False)
            with pytest.raises(EngineError, match=rf"m\.engine {message}"):
                runner.run({"x": rows(8)})
        # A refusal is no state: the next run sets everything again.
        assert np.array_equal(runner.run({"x": rows(8)})["y"], 2 * rows(8))


def test_shapes_that_tensorrt_still_misses(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu.module.IExecutionContext, "infer_shapes", lambda _: ["a", "b"])
    with (
        gpu.open(doubled(), (SMALL,)) as runner,
        pytest.raises(DataError, match=r"m\.engine needs the shapes of a, b$"),
    ):
        runner.run({"x": rows(1)})


def test_the_gpu_is_asked_for_before_tensorrt(
    gpu: FakeGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> Any:
        raise EngineError("no GPU")

    monkeypatch.setitem(BACKENDS, "cuda-bindings", none)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match="no GPU"):
        TensorRtRunner(tmp_path / "m.engine", gpu.flavour)


def test_plugins_are_registered(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    spaces: list[str] = []
    monkeypatch.setattr(
        gpu.module, "init_libnvinfer_plugins", lambda _, namespace: spaces.append(namespace)
    )
    gpu.open(doubled(), (SMALL,)).close()
    assert spaces == [""]


def test_warnings_of_tensorrt_are_passed_on(
    gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def warn(tensorrt_logger: Any, _: str) -> None:
        tensorrt_logger.log(gpu.module.ILogger.Severity.WARNING, "an old\nplugin")
        tensorrt_logger.log(gpu.module.ILogger.Severity.INFO, "a new plugin")

    monkeypatch.setattr(gpu.module, "init_libnvinfer_plugins", warn)
    caplog.set_level(logging.INFO)
    gpu.open(doubled(), (SMALL,)).close()
    assert caplog.messages == ["tensorrt: an old plugin"]


def test_a_file_that_is_no_engine_in_tensorrt_for_rtx(gpu: FakeGpu, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    (tmp_path / "m.engine").write_bytes(b"hello")
    with pytest.raises(
        EngineError, match=r"^TensorRT for RTX .* does not load .*m\.engine: [^\n]+$"
    ):
        TensorRtRunner(tmp_path / "m.engine", find_flavour("rtx"))
    assert gpu.cuda.closed == 1
