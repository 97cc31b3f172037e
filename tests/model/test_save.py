import errno
from pathlib import Path

import graphs
import numpy as np
import onnx_ir as ir
import pytest

from qbench.errors import StorageError, UsageError
from qbench.model.load import load
from qbench.model.save import check_output, needs_external_data, on_disk, save, weight_bytes
from qbench.runtimes.ort.runner import OrtRunner

LIMIT = "qbench.model.save.PROTOBUF_LIMIT_BYTES"


@pytest.fixture
def model() -> ir.Model:
    return graphs.model_of(graphs.classifier()).ir


def assert_computes_like(path: Path, model: ir.Model) -> None:
    feeds = graphs.feeds_of(load(path))
    wanted = graphs.run(model, feeds)
    found = OrtRunner(path, threads=1, simulate=True).run(feeds)
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_a_small_model_is_one_file(model: ir.Model, tmp_path: Path) -> None:
    save(model, tmp_path / "m.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    assert_computes_like(tmp_path / "m.onnx", model)


def test_weights_beyond_the_limit_go_beside_the_file(
    model: ir.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LIMIT, weight_bytes(model) - 1)
    assert needs_external_data(model)
    save(model, tmp_path / "m.onnx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert_computes_like(tmp_path / "m.onnx", model)


def test_weights_that_would_fit_are_kept_outside_on_request(
    model: ir.Model, tmp_path: Path
) -> None:
    save(model, tmp_path / "m.onnx", external=True)
    assert (tmp_path / "m.onnx.data").stat().st_size > weight_bytes(model) / 2
    assert_computes_like(tmp_path / "m.onnx", model)


def test_a_model_with_external_data_may_replace_itself(
    model: ir.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    monkeypatch.setattr(LIMIT, 0)
    save(model, path)
    save(load(path).ir, path)
    assert_computes_like(path, model)


def test_no_output_replaces_a_file_of_the_model(model: ir.Model, tmp_path: Path) -> None:
    """A renamed model still keeps its weights where an output of its old name would."""
    save(model, tmp_path / "net.onnx", external=True)
    (tmp_path / "net.onnx").rename(tmp_path / "float.onnx")
    source = load(tmp_path / "float.onnx")
    with pytest.raises(UsageError, match=r"float\.onnx is the model itself; choose another"):
        check_output(source, tmp_path / "float.onnx")
    for name in ("net.onnx", "net.onnx.data"):
        with pytest.raises(UsageError, match=r"net\.onnx\.data is where the model keeps its weigh"):
            check_output(source, tmp_path / name)
    check_output(source, tmp_path / "other.onnx")


def test_a_temporary_copy_vanishes(model: ir.Model) -> None:
    with on_disk(model) as path:
        assert_computes_like(path, model)
    assert not path.parent.exists()


def test_a_full_disk_leaves_nothing(
    model: ir.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ir, "save", fail)
    with pytest.raises(StorageError, match="the disk is full"):
        save(model, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []
