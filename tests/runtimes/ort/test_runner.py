from pathlib import Path
from typing import Any

import fake_nvml
import graphs
import numpy as np
import onnx
import onnxruntime
import pytest
import qdq
from at_once import run_at_once
from closing import check_closed
from onnx import helper

from qbench.errors import DataError, ModelError, UnfitError, UsageError
from qbench.model.spec import TensorSpec
from qbench.runtimes.ort import runner as ort_module
from qbench.runtimes.ort.providers import PROVIDERS, ProviderChoice, Ran
from qbench.runtimes.ort.runner import OrtRunner
from qbench.runtimes.providers import probe_providers

MODEL = graphs.conv_bn_relu().SerializeToString()
FEEDS = {"x": np.linspace(-1, 1, np.prod(graphs.IMAGE), dtype=np.float32).reshape(graphs.IMAGE)}


def test_inputs_and_outputs() -> None:
    runner = OrtRunner(MODEL, threads=1)
    assert runner.inputs == (TensorSpec("x", graphs.IMAGE, np.dtype(np.float32)),)
    assert [spec.name for spec in runner.outputs] == ["head"]
    assert runner.provider == "cpu"
    assert runner.load_seconds > 0


def test_a_file_and_its_bytes_are_the_same_model(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(MODEL)
    from_file = OrtRunner(tmp_path / "m.onnx", threads=1).run(FEEDS)
    assert np.array_equal(from_file["head"], OrtRunner(MODEL, threads=1).run(FEEDS)["head"])


def test_run_computes_what_the_onnx_reference_does() -> None:
    reference = onnx.reference.ReferenceEvaluator(onnx.load_from_string(MODEL)).run(None, FEEDS)[0]
    for simulate in (False, True):
        found = OrtRunner(MODEL, threads=1, simulate=simulate).run(FEEDS)["head"]
        assert np.allclose(found, reference, atol=1e-4)


def test_results_are_new_arrays() -> None:
    runner = OrtRunner(MODEL, threads=1)
    first = runner.run(FEEDS)["head"]
    kept = first.copy()
    runner.run({"x": FEEDS["x"] * 2})
    assert np.array_equal(first, kept)


def test_a_bound_call_can_be_repeated() -> None:
    call = OrtRunner(MODEL, threads=1).bind(FEEDS)
    call()
    call()


def test_a_bound_call_outlives_its_runner() -> None:
    runner = OrtRunner(MODEL, threads=1)
    call = runner.bind(FEEDS)
    runner.close()
    call()


def test_a_wrongly_declared_rank_keeps_no_model_from_being_timed() -> None:
    """ONNX Runtime's `run` only warns of such outputs; its binding fails when it meets its own."""
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Reshape", ["x", "shape"], ["y"])],
        "g",
        [info("x", onnx.TensorProto.FLOAT, [6]), info("shape", onnx.TensorProto.INT64, ["rank"])],
        [info("y", onnx.TensorProto.FLOAT, [2, 3])],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    proto = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    feeds = {"x": np.zeros(6, np.float32), "shape": np.array([1, 2, 3])}
    runner = OrtRunner(proto.SerializeToString(), threads=1)
    run, binding = runner.bind_bare(feeds)
    run(binding)
    with pytest.raises(RuntimeError, match="Invalid rank for output"):
        run(binding)
    call = runner.bind(feeds)
    call()
    runner.close()
    for _ in range(2):
        call()


def test_a_call_that_fails_says_what_is_wrong_with_the_feeds() -> None:
    call = OrtRunner(MODEL, threads=1).bind({"x": FEEDS["x"][:, :1]})
    for _ in range(2):
        with pytest.raises(DataError, match=r"8, 16, 16\] float32\): .*invalid dimensions .* x "):
            call()


@pytest.mark.parametrize("feeds", [{}, {"z": FEEDS["x"]}, FEEDS | {"z": FEEDS["x"]}])
def test_calls_are_bound_to_the_inputs_by_name(feeds: graphs.Feeds) -> None:
    with pytest.raises(DataError, match=r"does not fit .*: the names differ"):
        OrtRunner(MODEL, threads=1).bind(feeds)


def test_a_bound_call_of_another_type(tmp_path: Path) -> None:
    feeds = {"x": FEEDS["x"].astype(np.float64)}
    wanted = r"the data \(x .* float64\) does not fit .*: .*Unexpected input data type"
    with pytest.raises(DataError, match=wanted):
        OrtRunner(MODEL, threads=1).bind(feeds)()
    (tmp_path / "m.onnx").write_bytes(MODEL)
    with pytest.raises(DataError, match=wanted):
        OrtRunner(tmp_path / "m.onnx", threads=1).profile(feeds)


@pytest.mark.parametrize(
    "dtype",
    [
        np.float64,
        np.float16,
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    ],
)
def test_inputs_of_every_type(dtype: Any) -> None:
    runner = OrtRunner(graphs.identity(dtype).SerializeToString(), threads=1)
    assert [spec.dtype for spec in (*runner.inputs, *runner.outputs)] == [np.dtype(dtype)] * 2
    x = np.array([1, 2], dtype)
    assert np.array_equal(runner.run({"x": x})["y"], x)


def test_sequences_are_no_results() -> None:
    b = graphs.Builder()
    proto = b.model(b.node("SequenceConstruct", "y", b.x, b.x))
    tensor = helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
    proto.graph.output[0].type.CopyFrom(helper.make_sequence_type_proto(tensor))
    runner = OrtRunner(proto.SerializeToString(), threads=1)
    runner.bind(FEEDS)()  # which hands out nothing
    with pytest.raises(ModelError, match="output 'y' is no tensor but a list; export a model"):
        runner.run(FEEDS)


def test_bound_calls_run_at_once_and_keep_their_data(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = OrtRunner(MODEL, threads=1)
    bind_bare, bindings = runner.bind_bare, list[Any]()

    def keeping(feeds: graphs.Feeds) -> Any:
        run, binding = bind_bare(feeds)
        bindings.append(binding)
        return run, binding

    monkeypatch.setattr(runner, "bind_bare", keeping)
    feeds = [{"x": FEEDS["x"] * factor} for factor in (1, 2, 3)]
    run_at_once([runner.bind(feed) for feed in feeds])
    for binding, feed in zip(bindings, feeds, strict=True):
        assert np.array_equal(binding.copy_outputs_to_cpu()[0], runner.run(feed)["head"])


def test_a_profile_names_operators_and_what_they_compute_in(tmp_path: Path) -> None:
    b = qdq.QdqBuilder()
    quantized = b.qdq(b.qconv("conv", b.qdq(b.x, "x")), "y")
    onnx.save(b.model(b.conv("float", b.node("Relu", "relu", quantized))), tmp_path / "m.onnx")
    profile = OrtRunner(tmp_path / "m.onnx", threads=1).profile(FEEDS, runs=3)
    kinds = {(part.operator, part.type) for part in profile}
    assert {("QLinearConv", "int8"), ("Conv", "fp32")} <= kinds
    assert sum(part.share for part in profile) == pytest.approx(1)
    assert [p.share for p in profile] == sorted((p.share for p in profile), reverse=True)


def test_a_profile_needs_a_file() -> None:
    with pytest.raises(ModelError, match="a model in memory has no profile; write it to a file"):
        OrtRunner(MODEL, threads=1).profile(FEEDS)


def test_a_gpu_has_no_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = OrtRunner(MODEL, threads=1)
    monkeypatch.setattr(runner, "provider", "cuda")
    assert runner.profile(FEEDS) == ()


def test_memory_on_the_gpu_is_what_loading_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = fake_nvml.install(monkeypatch)
    create = ort_module.create_session

    def taking(*arguments: Any) -> Any:
        gpu.used += 5 << 20
        return create(*arguments)

    monkeypatch.setattr(ort_module, "create_session", taking)
    choice = ProviderChoice("cuda", allow_fallback=True)
    assert OrtRunner(MODEL, threads=1, provider=choice).device_memory_bytes is None  # the CPU ran
    monkeypatch.setattr(ort_module, "what_ran", lambda *_: Ran("cuda"))
    assert OrtRunner(MODEL, threads=1, provider=choice).device_memory_bytes == 5 << 20
    gpu.missing = {"nvmlDeviceGetMemoryInfo"}
    assert OrtRunner(MODEL, threads=1, provider=choice).device_memory_bytes is None


@pytest.mark.parametrize(
    ("provider", "device"), [("cpu", "cpu"), ("cuda", "cuda"), ("rtx", "cuda")]
)
def test_bound_outputs_stay_where_they_are_computed(
    provider: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = OrtRunner(MODEL, threads=1)
    monkeypatch.setattr(runner, "provider", provider)
    bound: list[tuple[str, str]] = []
    monkeypatch.setattr(
        onnxruntime.IOBinding, "bind_output", lambda _, name, where: bound.append((name, where))
    )
    runner.bind(FEEDS)
    assert bound == [("head", device)]


@pytest.mark.parametrize(
    "feeds", [{"x": FEEDS["x"][:, :4]}, {"x": FEEDS["x"].astype(np.float64)}, {"y": FEEDS["x"]}, {}]
)
def test_feeds_that_do_not_fit(feeds: graphs.Feeds) -> None:
    wanted = r"^the data \(.*\) does not fit the model's inputs \(x \[1, 8, 16, 16\] float32\): .+$"
    with pytest.raises(DataError, match=wanted):
        OrtRunner(MODEL, threads=1).run(feeds)


def test_what_fails_in_a_run_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    """Not by ONNX Runtime as well, in red; as where an image has an odd size."""
    b = graphs.Builder((1, 8, "H", "W"))
    scales = b.constant("scales", np.array([1, 1, 2, 2], np.float32))
    wide = b.node("Resize", "wide", b.conv("half", b.x, strides=[2, 2]), "", scales)
    runner = OrtRunner(b.model(b.node("Add", "sum", wide, b.x)).SerializeToString(), threads=1)
    fails = (
        r"^the model fails on data that fits it \(x \[1, 8, 5, 5\] float32\): .*running Add node"
    )
    with pytest.raises(DataError, match=fails):
        runner.run({"x": np.zeros((1, 8, 5, 5), np.float32)})
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("content", [b"", b"hello"])
def test_a_model_that_is_none(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"^ONNX Runtime refuses the model: [^\n]+$"):
        OrtRunner(content)


def test_an_operator_that_does_not_exist() -> None:
    builder = graphs.Builder()
    proto = builder.model(builder.node("Frobnicate", "y", builder.x))
    with pytest.raises(ModelError, match=r"refuses the model: [^\n]*Frobnicate[^\n]*$"):
        OrtRunner(proto.SerializeToString())


def test_an_unknown_provider() -> None:
    with pytest.raises(UsageError, match="unknown provider 'npu'; choose one of cpu, cuda, tensor"):
        OrtRunner(MODEL, provider="npu")


def test_a_provider_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UnfitError, match="'cuda' is not part of the installed ONNX Runtime; run"):
        OrtRunner(MODEL, provider="cuda")


def test_the_probe_tries_every_provider() -> None:
    problems = probe_providers()
    assert [*problems] == [*PROVIDERS, "openvino"]
    assert problems["cpu"] is problems["openvino"] is None


@pytest.mark.parametrize("use", ["run", "bind", "profile", "bind_bare"])
def test_a_closed_runner_says_that_it_is_closed(tmp_path: Path, use: str) -> None:
    (tmp_path / "m.onnx").write_bytes(MODEL)
    check_closed(OrtRunner(tmp_path / "m.onnx", threads=1), FEEDS, use)
