import errno
import os
from pathlib import Path

import graphs
import msgspec
import numpy as np
import pytest

from qbench.calibration.table import CalibrationTable, find_table, load_table, tell_replaced
from qbench.data.recipes import Recipe
from qbench.errors import CalibrationError, StorageError


@pytest.fixture(scope="module")
def table() -> CalibrationTable:
    return graphs.table_of(graphs.model_of(graphs.residual()), samples=3)


@pytest.fixture
def path(table: CalibrationTable, tmp_path: Path) -> Path:
    table.save(tmp_path / "model.json")
    return tmp_path / "model.json"


def test_a_table_survives_the_disk(table: CalibrationTable, path: Path) -> None:
    found = load_table(path)
    assert found.header == table.header
    assert list(found.statistics) == list(table.statistics)
    for name, statistics in table.statistics.items():
        for method in ("minmax", "mse"):
            wanted = table.range_of(name, method, symmetric=True)
            assert found.range_of(name, method, symmetric=True) == wanted
        assert found.statistics[name].mean == statistics.mean
        for channels in ("lows", "highs", "means", "second_moments"):
            wanted = getattr(statistics, f"channel_{channels}")
            assert np.array_equal(getattr(found.statistics[name], f"channel_{channels}"), wanted)
    assert found.sha256 == table.sha256


def test_a_table_that_was_read_can_be_merged_further(path: Path) -> None:
    first, second = load_table(path), load_table(path)
    first.statistics["x"].merge(second.statistics["x"])
    assert first.statistics["x"].count == 2 * second.statistics["x"].count


def test_the_same_statistics_give_the_same_bytes(table: CalibrationTable, tmp_path: Path) -> None:
    again = graphs.table_of(graphs.model_of(graphs.residual()), samples=3)
    assert again.sha256 == table.sha256
    for name, either in (("a", table), ("b", again)):
        either.save(tmp_path / f"{name}.json")
    for ending in ("json", "npz"):
        first, second = ((tmp_path / f"{name}.{ending}").read_bytes() for name in "ab")
        assert first == second


def test_other_data_gives_another_hash(table: CalibrationTable) -> None:
    other = graphs.table_of(graphs.model_of(graphs.residual()), samples=4)
    assert other.sha256 != table.sha256


def test_a_recipe_survives_the_disk(table: CalibrationTable, tmp_path: Path) -> None:
    recipe = Recipe(name="mine", resize="letterbox", size=(32, 48), mean=(1.0, 2.0, 3.0))
    header = msgspec.structs.replace(table.header, recipe=recipe, image_size=(32, 48))
    CalibrationTable(header, table.statistics).save(tmp_path / "t.json")
    assert load_table(tmp_path / "t.json").header == header


def test_a_table_is_found_by_its_model(table: CalibrationTable, path: Path) -> None:
    (path.parent / "a-note.json").write_text('{"some": "other JSON"}')
    (path.parent / "broken.json").write_text("{")
    assert find_table(path.parent, table.header.model_sha256) == path
    assert find_table(path.parent, "0" * 64) is None
    assert find_table(path.parent / "none", table.header.model_sha256) is None


def test_a_table_that_cannot_be_read_stands_back(table: CalibrationTable, path: Path) -> None:
    """One without its histograms is found alone, so that the error can say so."""
    bare, old = path.with_name("a.json"), path.with_name("b.json")
    bare.write_bytes(path.read_bytes())
    header = msgspec.structs.replace(table.header, schema_version=0)
    CalibrationTable(header, table.statistics).save(old)
    assert find_table(path.parent, table.header.model_sha256) == path
    path.unlink()
    assert find_table(path.parent, table.header.model_sha256) == bare


def test_a_table_of_another_model_is_not_replaced_in_silence(
    table: CalibrationTable, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tell_replaced(path, table.header.model_sha256)
    tell_replaced(path.with_name("none.json"), "0" * 64)
    assert caplog.text == ""
    tell_replaced(path, "0" * 64)
    assert "model.json was made from another model" in caplog.text
    assert "will be replaced; `qbench calibrate -o` keeps both" in caplog.text


def test_a_tensor_that_a_table_lacks_is_named(table: CalibrationTable) -> None:
    with pytest.raises(CalibrationError, match="lacks tensor 'unseen'; calibrate again"):
        table.statistics_of("unseen")


def test_a_table_of_another_model_is_refused(table: CalibrationTable) -> None:
    table.check_model(table.header.model_sha256, "model.onnx")
    message = (
        r"made from another model \(model\.onnx, sha256 \w{12}\) than b\.onnx \(sha256 0{12}\)"
    )
    with pytest.raises(CalibrationError, match=message):
        table.check_model("0" * 64, "b.onnx")


def test_an_unknown_tensor(table: CalibrationTable) -> None:
    with pytest.raises(CalibrationError, match=r"table of model\.onnx lacks tensor 'y'; calibrate"):
        table.range_of("y", "minmax", symmetric=True)


def test_missing_files(path: Path) -> None:
    path.with_suffix(".npz").unlink()
    with pytest.raises(CalibrationError, match=r"model\.json lacks its histograms .*model\.npz"):
        load_table(path)
    with pytest.raises(CalibrationError, match=r"no calibration table at .*none\.json; calibrate"):
        load_table(path.with_name("none.json"))


@pytest.mark.parametrize("content", ["", "{", "{}", '{"header": 1, "tensors": []}', "[1]"])
def test_json_that_is_no_table(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(CalibrationError, match=r"^[^\n]*model\.json is not a calibration table of"):
        load_table(path)


@pytest.mark.parametrize("name", ["channel_lows", "channel_totals"])
def test_arrays_that_do_not_fit(path: Path, name: str) -> None:
    npz = path.with_suffix(".npz")
    with np.load(npz) as file:
        arrays = dict(file)
    np.savez(npz, **{**arrays, name: arrays[name][..., 1:]})
    with pytest.raises(CalibrationError, match=f"its {name} do not fit its JSON.; calibrate again"):
        load_table(path)
    del arrays[name]
    np.savez(npz, **arrays)
    with pytest.raises(CalibrationError, match=f"{name} is not a file in .*; calibrate again"):
        load_table(path)


@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_truncated_histograms(path: Path, share: float) -> None:
    npz = path.with_suffix(".npz")
    data = npz.read_bytes()
    npz.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CalibrationError, match=r"^[^\n]*model\.json is not a calibration table of"):
        load_table(path)


@pytest.mark.parametrize("seed", range(30))
def test_damaged_histograms(path: Path, seed: int) -> None:
    npz = path.with_suffix(".npz")
    data = npz.read_bytes()
    random = np.random.default_rng(seed)
    start = int(random.integers(len(data) - 60))
    npz.write_bytes(data[:start] + random.bytes(60) + data[start + 60 :])
    with pytest.raises(CalibrationError, match=r"^[^\n]*model\.json is not a calibration table of"):
        load_table(path)


def test_histograms_of_another_table(path: Path) -> None:
    other = graphs.table_of(graphs.model_of(graphs.residual()), samples=4)
    other.save(path.with_name("other.json"))
    path.with_name("other.npz").replace(path.with_suffix(".npz"))
    with pytest.raises(CalibrationError, match=r"histogram of 'x' .* calibrate again"):
        load_table(path)


def test_a_table_of_a_later_version(path: Path) -> None:
    text = path.read_text().replace('"schema_version": 1', '"schema_version": 2')
    path.write_text(text)
    with pytest.raises(CalibrationError, match=r"schema_version 2, .* 1\); calibrate again"):
        load_table(path)


def test_a_full_disk_leaves_nothing(
    table: CalibrationTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(StorageError, match=r"cannot write .*t\.json: the disk is full"):
        table.save(tmp_path / "t.json")
    assert list(tmp_path.iterdir()) == []
