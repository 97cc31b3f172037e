"""What the comparison with other tools rests on; the tools themselves are not installed here."""

import argparse
import importlib
import shutil
import sys
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import onnx
import pytest

from qbench.benchmarking.judging.material import Material
from qbench.data.synthetic import SyntheticSource
from qbench.model.load import Model, load
from qbench.model.save import weight_bytes
from qbench.quantization.int8 import Int8Options
from qbench.quantization.quantize import quantize
from qbench.runtimes.ort.runner import OrtRunner


@pytest.fixture
def environments() -> Any:
    return importlib.import_module("peers.environments")


@pytest.fixture
def model(tmp_path: Path) -> Model:
    onnx.save(graphs.concat_branches(), tmp_path / "m.onnx")
    return load(tmp_path / "m.onnx")


def test_qbench_needs_no_environment_of_its_own(environments: Any, tmp_path: Path) -> None:
    assert environments.interpreter("qbench", tmp_path) == Path(sys.executable)


def test_without_uv_a_tool_is_unavailable(
    environments: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(environments.UnavailableError, match="uv is not installed"):
        environments.interpreter("ort", tmp_path)


def test_a_tool_that_fails_gives_its_last_line(environments: Any) -> None:
    code = "import sys; print('first\\nthe reason', file=sys.stderr); sys.exit(3)"
    with pytest.raises(environments.UnavailableError, match=r"^the reason$"):
        environments.run([sys.executable, "-c", code])


def test_a_tool_that_dies_gives_the_signal(environments: Any) -> None:
    code = "import os; os.kill(os.getpid(), 9)"
    with pytest.raises(environments.UnavailableError, match="was ended by signal 9"):
        environments.run([sys.executable, "-c", code])


def test_samples_are_read_again_after_a_rewind(tmp_path: Path) -> None:
    for number in range(2):
        np.savez(tmp_path / f"{number}.npz", x=np.full((1, 3), number, np.float32))
    samples = importlib.import_module("peers.worker").Samples(tmp_path, {"x": 4})
    assert [feeds["x"].shape for feeds in samples] == [(4, 3)] * len(samples)
    assert samples.get_first()["x"].max() == 0
    assert [samples.get_next()["x"].max() for _ in range(2)] == [0, 1]
    assert samples.get_next() is None
    samples.rewind()
    assert samples.get_next()["x"].max() == 0


def test_each_way_of_qbench_writes_a_model(model: Model, tmp_path: Path) -> None:
    worker = importlib.import_module("peers.worker")
    folder = tmp_path / "samples"
    folder.mkdir()
    for seed in range(2):
        np.savez(folder / f"{seed}.npz", **graphs.feeds_of(model, seed))
    ways = [name for name in worker.WAYS if name.startswith("qbench")]
    assert len(ways) == 4
    for name in ways:
        output = tmp_path / f"{name}.onnx"
        seconds = worker.WAYS[name](model.path, worker.Samples(folder, {"x": 1}), output)
        assert set(seconds) == {"calibrate", "quantize"}
        assert load(output).inputs == model.inputs


def test_the_table_has_a_line_for_each_candidate(capsys: pytest.CaptureFixture[str]) -> None:
    """In 80 columns, with figures as long as a large model makes them."""
    compare_peers = importlib.import_module("compare_peers")
    ways = importlib.import_module("peers.worker").WAYS
    cost = {"seconds": 1234.5, "plain_seconds": 10.0, "peak_rss_bytes": 12345 << 20}
    rows = [
        compare_peers.Row(way, Path("m.onnx"), 0.8551, 0.8452, 1.0, cost, {"value": 1.45})
        for way in ways
    ]
    args = argparse.Namespace(model=Path("m.onnx"), metric="top1")
    compare_peers.print_table(rows, args)
    _, _, *lines = capsys.readouterr().out.splitlines()
    figures = ["0.8551", "0.8452", "100.0%", "1234.5", "123.5", "12345", "1.45"]
    assert [line.split() for line in lines] == [[*way.split(), *figures] for way in ways]
    assert max(map(len, lines)) <= 80


def test_the_share_in_int8_is_what_the_plan_says(model: Model, tmp_path: Path) -> None:
    int8_share = importlib.import_module("peers.judge").int8_share
    feeds = graphs.feeds_of(model)
    assert model.path is not None
    assert int8_share(model.path, feeds) == 0
    table = graphs.table_of(model)
    result = quantize(model, target="tensorrt", table=table, output=tmp_path / "q.onnx")
    assert result.int8_mac_fraction == 1
    assert int8_share(tmp_path / "q.onnx", feeds) == 1
    conv = next(node.name for node in model.ir.graph if node.op_type == "Conv")
    options = Int8Options(exclude=[conv or ""])
    path = tmp_path / "partly.onnx"
    partly = quantize(model, target="tensorrt", table=table, output=path, options=options)
    assert int8_share(path, feeds) == pytest.approx(partly.int8_mac_fraction)
    assert int8_share(path, feeds) < 1


def test_the_large_model_has_the_size_that_is_asked_for() -> None:
    writer_cost = importlib.import_module("writer_cost")
    size = 3 * 4 * writer_cost._WIDTH**2
    assert 0 <= weight_bytes(writer_cost.large_model(size, "MatMul")) - size < 1 << 20


def test_scores_are_compared_without_their_boxes(tmp_path: Path) -> None:
    shape = [1, 6, 8]  # four rows of boxes, two of scores

    def scaled(name: str, boxes: float) -> Path:
        factors = np.array([[boxes]] * 4 + [[1.0]] * 2, np.float32)
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Mul", ["x", "factors"], ["y"])],
            "g",
            [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape)],
            [onnx.numpy_helper.from_array(factors, "factors")],
        )
        opset = [onnx.helper.make_opsetid("", 17)]
        onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / name)
        return tmp_path / name

    reference, other = scaled("a.onnx", 1.0), scaled("b.onnx", -1.0)
    model = load(reference)
    source = SyntheticSource(model.inputs, count=2, seed=0, size=None)
    material = Material(source, tmp_path, None, None, "auto", model)
    judge = importlib.import_module("peers.judge").METRICS["score-cosine"](material)
    assert judge.judge(OrtRunner(other, threads=1)).accuracy.value == pytest.approx(1)
