import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import graphs
import numpy as np
import onnx
import pytest
import qdq
from at_once import run_at_once
from closing import check_closed

from qbench.errors import DataError, ModelError, UnfitError
from qbench.model.spec import TensorSpec
from qbench.quantization.quantize import quantize
from qbench.runtimes.openvino import OpenVinoRunner
from qbench.runtimes.ort.runner import OrtRunner

MODEL = graphs.conv_bn_relu().SerializeToString()
FEEDS = {"x": np.linspace(-1, 1, np.prod(graphs.IMAGE), dtype=np.float32).reshape(graphs.IMAGE)}


@pytest.fixture(scope="module")
def runner() -> OpenVinoRunner:
    return OpenVinoRunner(MODEL, threads=1)


def any_batch() -> onnx.ModelProto:
    """Named otherwise inside: OpenVINO takes `y` and `q` for one tensor with two names."""
    b = graphs.Builder(("N", 4))
    return b.model(b.node("Identity", "y", b.node("Relu", "q", b.x)))


def signal_to_noise(found: Any, wanted: Any) -> float:
    noise = np.square(found - wanted).mean()
    return float(10 * np.log10(np.square(wanted).mean() / max(noise, 1e-30)))


def test_inputs_and_outputs(runner: OpenVinoRunner) -> None:
    assert runner.inputs == (TensorSpec("x", graphs.IMAGE, np.dtype(np.float32)),)
    assert [spec.name for spec in runner.outputs] == ["head"]
    assert runner.provider == "openvino"
    assert runner.load_seconds > 0
    assert runner.device_memory_bytes is None


def test_fp32_is_computed_in_fp32_whatever_the_cpu_could_do(runner: OpenVinoRunner) -> None:
    reference = OrtRunner(MODEL, threads=1).run(FEEDS)["head"]
    assert signal_to_noise(runner.run(FEEDS)["head"], reference) > 100
    assert {part.type for part in runner.profile(FEEDS)} == {"fp32"}


FP32 = {"FP32"}
ALL = {"FP32", "BF16", "FP16"}
OWN_WAY = "what is FP32 is computed in FP32; by itself OpenVINO would take"


@pytest.mark.parametrize(
    ("weights", "capabilities", "notes"),
    [
        ("FLOAT", FP32, ()),
        ("FLOAT", ALL, (f"{OWN_WAY} BF16 or FP16 for it",)),
        ("FLOAT16", ALL, ()),
        ("FLOAT16", FP32, ("this CPU has no FP16; OpenVINO computes it in FP32",)),
        ("BFLOAT16", FP32 | {"FP16"}, ("this CPU has no BF16; OpenVINO computes it in FP32",)),
    ],
)
def test_types_that_are_not_computed_in_as_one_would_think_are_noted(
    weights: str, capabilities: set[str], notes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = onnx.TensorProto.DataType.Value(weights)
    b = graphs.Builder()
    weight = onnx.helper.make_tensor("w", kind, graphs.IMAGE, np.ones(graphs.IMAGE).ravel())
    b.constants.append(weight)
    added = b.node("Add", "added", b.node("Cast", "half", b.x, to=kind), "w")
    model = b.model(b.node("Cast", "y", added, to=onnx.TensorProto.FLOAT))
    runner = OpenVinoRunner(model.SerializeToString(), threads=1)
    told = SimpleNamespace(get_property=lambda *_: sorted(capabilities))
    monkeypatch.setattr(runner, "_core", told)
    assert runner._notes() == notes


def test_a_file_and_its_bytes_are_the_same_model(runner: OpenVinoRunner, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(MODEL)
    from_file = OpenVinoRunner(tmp_path / "m.onnx", threads=1).run(FEEDS)
    assert np.array_equal(from_file["head"], runner.run(FEEDS)["head"])


@pytest.mark.parametrize("pattern", ["residual", "classifier", "encoder"])
@pytest.mark.parametrize(("precision", "least_db"), [("int8", 30), ("fp16", 60)])
def test_quantized_files_compute_what_they_say(
    pattern: str, precision: str, least_db: float, tmp_path: Path
) -> None:
    model, path = graphs.model_of(graphs.PATTERNS[pattern]()), tmp_path / "q.onnx"
    feeds = graphs.feeds_of(model)
    table = graphs.table_of(model)
    quantize(model, target="cpu", precision=precision, table=table, output=path)
    found = OpenVinoRunner(path, threads=1).run(feeds)
    wanted = OrtRunner(path, threads=1, simulate=True).run(feeds)
    assert list(found) == list(wanted)
    assert all(signal_to_noise(found[name], wanted[name]) > least_db for name in wanted)


def test_integers_are_multiplied_as_such() -> None:
    profile = OpenVinoRunner(qdq.conv().SerializeToString(), threads=1).profile(FEEDS)
    assert ("Convolution", "int8") in {(part.operator, part.type) for part in profile}
    assert sum(part.share for part in profile) == pytest.approx(1)
    assert [p.share for p in profile] == sorted((p.share for p in profile), reverse=True)


def test_any_batch_runs_under_the_names_of_the_onnx_file() -> None:
    runner = OpenVinoRunner(any_batch().SerializeToString(), threads=1)
    assert runner.inputs[0].shape == (None, 4)
    for batch in (1, 3):
        found = runner.run({"x": np.full((batch, 4), -1, np.float32)})
        assert {name: array.shape for name, array in found.items()} == {"y": (batch, 4)}


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "uint64"])
def test_inputs_of_rarer_types(dtype: str) -> None:
    runner = OpenVinoRunner(graphs.identity(dtype).SerializeToString(), threads=1)
    assert runner.inputs[0].dtype == np.dtype(dtype)
    x = np.array([1, 2], dtype)
    assert np.array_equal(runner.run({"x": x})["y"], x)


def test_results_are_new_arrays(runner: OpenVinoRunner) -> None:
    first = runner.run(FEEDS)["head"]
    kept = first.copy()
    runner.run({"x": FEEDS["x"] * 2})
    assert np.array_equal(first, kept)


def test_arrays_that_cannot_be_shared_are_copied(runner: OpenVinoRunner) -> None:
    locked = FEEDS["x"].copy()
    locked.flags.writeable = False
    turned = np.asfortranarray(FEEDS["x"])
    wanted = runner.run(FEEDS)["head"]
    for array in (locked, turned):
        assert np.array_equal(runner.run({"x": array})["head"], wanted)


def test_a_bound_call_outlives_its_runner() -> None:
    runner = OpenVinoRunner(MODEL, threads=1)
    call = runner.bind(FEEDS)
    runner.close()
    call()
    call()


@pytest.mark.parametrize("streams", [1, 2])
def test_bound_calls_run_at_once_and_keep_their_data(
    streams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = OpenVinoRunner(MODEL, threads=2, streams=streams)
    assert runner._compiled.get_property("NUM_STREAMS") == streams
    make, requests = runner._compiled.create_infer_request, list[Any]()
    keeping = SimpleNamespace(
        create_infer_request=lambda: [requests.append(make()), requests[-1]][1]
    )
    monkeypatch.setattr(runner, "_compiled", keeping)
    feeds = [{"x": FEEDS["x"] * factor} for factor in (1, 2, 3)]
    run_at_once([runner.bind(feed) for feed in feeds])
    for request, feed in zip(requests, feeds, strict=True):
        wanted = OrtRunner(MODEL, threads=1).run(feed)["head"]
        assert signal_to_noise(request.get_output_tensor(0).data, wanted) > 100


@pytest.mark.parametrize(
    ("feeds", "reason"),
    [
        ({"x": FEEDS["x"][:, :4]}, "Can't set the input tensor"),
        ({"x": FEEDS["x"].astype(np.float64)}, "ParameterMismatch"),
        ({"x": FEEDS["x"].astype(object)}, "Unsupported data type"),
        ({"y": FEEDS["x"]}, "the names differ"),
        ({}, "the names differ"),
    ],
)
def test_feeds_that_do_not_fit(feeds: graphs.Feeds, reason: str, runner: OpenVinoRunner) -> None:
    wanted = rf"^the data \(.*\) does not fit the model's inputs \(x .* float32\): {reason}[^\n]*$"
    with pytest.raises(DataError, match=wanted):
        runner.bind(feeds)


def test_shapes_that_fail_inside_the_model() -> None:
    b = graphs.Builder(("N", 4))
    model = b.model(b.node("Add", "y", b.x, b.constant("two", np.ones((2, 4), np.float32))))
    call = OpenVinoRunner(model.SerializeToString(), threads=1).bind(
        {"x": np.zeros((3, 4), np.float32)}
    )
    with pytest.raises(
        DataError, match=r"the model fails on data that fits it \(x \[3, 4\] float32"
    ):
        call()


@pytest.mark.parametrize("content", [b"", b"hello"])
def test_a_model_that_is_none(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"^OpenVINO refuses the model: Unable to read[^\n]+$"):
        OpenVinoRunner(content)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r'^OpenVINO refuses the model: [^\n]*no\.onnx"$'):
        OpenVinoRunner(tmp_path / "no.onnx")


def test_an_operator_that_does_not_exist() -> None:
    builder = graphs.Builder()
    proto = builder.model(builder.node("Frobnicate", "y", builder.x))
    with pytest.raises(ModelError, match=r"refuses the model: [^\n]*operations: Frobnicate[^\n]*$"):
        OpenVinoRunner(proto.SerializeToString())


def test_openvino_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(
        UnfitError, match=r"^OpenVINO does not load \(.*\); run .*pip install openv"
    ):
        OpenVinoRunner(MODEL)


def test_it_is_loaded_late_and_reports_to_nobody(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(MODEL)
    code = """if True:
        import sys
        from pathlib import Path
        import qbench.cli.main, qbench.runtimes.openvino
        assert "openvino" not in sys.modules
        qbench.runtimes.openvino.OpenVinoRunner(Path("m.onnx"), threads=1)
        assert "openvino" in sys.modules
        assert "openvino_telemetry" not in sys.modules
    """
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=os.environ | home, check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize("use", ["run", "bind", "profile"])
def test_a_closed_runner_says_that_it_is_closed(tmp_path: Path, use: str) -> None:
    (tmp_path / "m.onnx").write_bytes(MODEL)
    check_closed(OpenVinoRunner(tmp_path / "m.onnx", threads=1), FEEDS, use)
