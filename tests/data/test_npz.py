from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from qbench.data.npz import NpzSource
from qbench.errors import DataError
from qbench.model.spec import TensorSpec

SPECS = (
    TensorSpec("image", ("N", 3, "H", "W"), np.dtype(np.float32)),
    TensorSpec("ids", (1, 4), np.dtype(np.int64)),
)


def arrays(count: int, start: int = 0) -> dict[str, NDArray[Any]]:
    rows = np.arange(start, start + count)
    image = np.broadcast_to(rows[:, None, None, None], (count, 3, 5, 6)).astype(np.float32)
    return {"image": image, "ids": np.broadcast_to(rows[:, None], (count, 4)).astype(np.int64)}


def test_rows_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "batch.npz"
    np.savez(path, **arrays(3))
    source = NpzSource(path, SPECS)
    assert len(source) == 3
    sample = source.load(2)
    assert sample.name == source.name(2) == "batch.npz[2]"
    assert sample.feeds["image"].shape == (1, 3, 5, 6)
    assert np.array_equal(sample.feeds["ids"], [[2, 2, 2, 2]])
    assert source.describe() == f"3 samples in {path}"


def test_a_row_does_not_keep_its_file_in_memory(tmp_path: Path) -> None:
    np.savez(tmp_path / "batch.npz", **arrays(3))
    for array in NpzSource(tmp_path / "batch.npz", SPECS).load(1).feeds.values():
        owner = array if array.base is None else array.base
        assert owner.nbytes == array.nbytes


def test_arrays_in_the_other_byte_order(tmp_path: Path) -> None:
    swapped = {
        name: array.astype(array.dtype.newbyteorder("S")) for name, array in arrays(3).items()
    }
    np.savez(tmp_path / "batch.npz", **swapped)
    feeds = NpzSource(tmp_path / "batch.npz", SPECS).load(2).feeds
    assert [feeds[spec.name].dtype for spec in SPECS] == [spec.dtype for spec in SPECS]
    assert np.array_equal(feeds["ids"], [[2, 2, 2, 2]])


def test_files_of_a_folder_from_threads(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    np.savez_compressed(tmp_path / "more" / "b.npz", **arrays(5, start=4))
    np.savez(tmp_path / "a.npz", **arrays(4))
    source = NpzSource(tmp_path, SPECS)
    assert (source.name(3), source.name(4)) == ("a.npz[3]", "more/b.npz[0]")
    with ThreadPoolExecutor(4) as pool:
        samples = list(pool.map(source.load, range(9)))
    assert [sample.feeds["ids"][0, 0] for sample in samples] == list(range(9))


RECURRENT = (
    TensorSpec("frame", ("N", 64), np.dtype(np.float32)),
    TensorSpec("state", (2, "N", 16), np.dtype(np.float32)),
    TensorSpec("rate", (), np.dtype(np.int64)),
)


def call(batch: int = 1) -> dict[str, NDArray[Any]]:
    frame, state = np.zeros((batch, 64), np.float32), np.ones((2, batch, 16), np.float32)
    return {"frame": frame, "state": state, "rate": np.array(16000)}


@pytest.mark.parametrize("inputs", [3, 2])
@pytest.mark.parametrize("batch", [1, 2])
def test_inputs_that_share_no_batch_are_one_call_a_file(
    batch: int, inputs: int, tmp_path: Path
) -> None:
    specs = RECURRENT[:inputs]  # with the scalar and without
    arrays = {spec.name: call(batch)[spec.name] for spec in specs}
    for name in ("a", "b"):
        np.savez(tmp_path / f"{name}.npz", **arrays)
    source = NpzSource(tmp_path, specs)
    assert [source.name(index) for index in range(len(source))] == ["a.npz", "b.npz"]
    sample = source.load(1)
    assert sample.feeds.keys() == arrays.keys()
    assert all(np.array_equal(sample.feeds[name], arrays[name]) for name in arrays)
    assert sample.batch == 1  # though the state has two rows


def test_a_sequence_with_its_time_first(tmp_path: Path) -> None:
    specs = (
        TensorSpec("x", ("T", "N", 4), np.dtype(np.float32)),
        TensorSpec("h", (1, "N", 8), np.dtype(np.float32)),
    )
    np.savez(tmp_path / "a.npz", x=np.zeros((16, 2, 4), "f"), h=np.zeros((1, 2, 8), "f"))
    feeds = NpzSource(tmp_path, specs).load(0).feeds
    assert (feeds["x"].shape, feeds["h"].shape) == ((16, 2, 4), (1, 2, 8))
    np.savez(tmp_path / "a.npz", x=np.zeros((16, 2, 4), "f"), h=np.zeros((1, 3, 8), "f"))
    with pytest.raises(DataError, match=r"holds \{'x': 16, 'h': 1\} samples"):
        NpzSource(tmp_path, specs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": np.ones((1, 1, 16), np.float32)}, r"\[1, 1, 16\].* needs \[2, N, 16\]; reshape"),
        ({"rate": np.array([16000])}, r"'rate' has shape \[1\], but the input needs \[\]; reshape"),
        ({"frame": np.zeros(64, np.float32)}, r"'frame' has shape \[64\].* needs \[N, 64\]"),
        ({"rate": np.array(1.5)}, r"'rate' is float64, but the input is int64"),
    ],
)
def test_bad_arrays_of_a_call(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "bad.npz", **{**call(), **change})
    with pytest.raises(DataError, match=message):
        NpzSource(tmp_path, RECURRENT)


def test_fingerprint(tmp_path: Path) -> None:
    found = set()
    for count, start in ((3, 0), (4, 0), (3, 1)):
        np.savez(tmp_path / "a.npz", **arrays(count, start))
        found.add(NpzSource(tmp_path, SPECS).fingerprint())
    assert len(found) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": None}, r"bad\.npz lacks 'ids'; its arrays must be named ids, image"),
        ({"extra": np.zeros(3)}, r"bad\.npz has 'extra', which is no input; its arrays"),
        (
            {"image": np.zeros((3, 4, 5, 6), np.float32)},
            r"'image' has shape \[3, 4, 5, 6\], but the input needs \[samples, 3, H, W\]; reshape",
        ),
        ({"ids": np.zeros((3, 4, 1), np.int64)}, r"'ids' has shape \[3, 4, 1\].*\[samples, 4\]"),
        ({"ids": np.int64(3)}, r"'ids' has shape \[\]"),
        ({"ids": np.zeros((3, 4), np.int32)}, r"'ids' is int32, .*; save it with .astype\('int64"),
        ({"ids": np.zeros((2, 4), np.int64)}, r"holds \{'image': 3, 'ids': 2\} samples"),
        ({"ids": np.full((3, 4), None)}, r"is no \.npz file of plain arrays \(Object arrays"),
    ],
)
def test_bad_arrays(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    changed = {name: a for name, a in {**arrays(3), **change}.items() if a is not None}
    np.savez(tmp_path / "bad.npz", **changed)
    with pytest.raises(DataError, match=message):
        NpzSource(tmp_path / "bad.npz", SPECS)


@pytest.mark.parametrize(("kind", "size"), [(ml_dtypes.bfloat16, 2), (ml_dtypes.float8_e4m3fn, 1)])
def test_types_that_numpy_saves_as_plain_bytes(tmp_path: Path, kind: type, size: int) -> None:
    saved = arrays(3)
    np.savez(tmp_path / "bad.npz", **{**saved, "image": saved["image"].astype(kind)})
    message = (
        rf"bad\.npz: 'image' was saved in a type .* such as bfloat16 \(only its {size} bytes an "
        r"element are left\), and the input is float32; save it with \.astype\('float32'\)"
    )
    with pytest.raises(DataError, match=message):
        NpzSource(tmp_path, SPECS)


def test_an_input_of_a_type_that_no_file_keeps(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 4), ml_dtypes.bfloat16))
    spec = TensorSpec("x", ("N", 4), np.dtype(ml_dtypes.bfloat16))
    with pytest.raises(DataError, match=r"'x' belongs to an input of bfloat16, .* of float32"):
        NpzSource(tmp_path, (spec,))


def test_no_samples(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", **arrays(0))
    with pytest.raises(DataError, match="every array needs as many, and at least one"):
        NpzSource(tmp_path, SPECS)


def test_any_damaged_byte_of_compressed_arrays_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    np.savez_compressed(path, **arrays(3))
    whole, told = path.read_bytes(), 0
    for place in range(30, len(whole) - 60, 3):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            NpzSource(path, SPECS)
        except DataError:
            told += 1
    assert told > len(whole) / 6


@pytest.mark.parametrize("keep", [0, 20, 200])
def test_truncated_file(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays(3))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"bad\.npz is no \.npz file of plain arrays \(.*\); write"):
        NpzSource(path, SPECS)


def test_a_single_array_is_no_npz(tmp_path: Path) -> None:
    with (tmp_path / "bad.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match=r"bad\.npz is no \.npz file"):
        NpzSource(tmp_path, SPECS)


def test_folder_without_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.npz files in .*; write them with numpy\.savez"):
        NpzSource(tmp_path, SPECS)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.npz is no \.npz file .*No such file"):
        NpzSource(tmp_path / "gone.npz", SPECS)
