import errno
import hashlib
import json
import mmap
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from qbench import artifacts
from qbench.artifacts import (
    check_name,
    check_writable,
    json_bytes,
    sha256_bytes,
    sha256_files,
    sha256_with_data,
    staged,
    versions,
    write_bytes,
    write_json,
)
from qbench.errors import StorageError


def fails_with(code: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def test_hash_of_files_is_the_hash_of_their_bytes_in_order(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.write_bytes(b"ab" * (1 << 20))
    second.write_bytes(b"c")
    whole = first.read_bytes() + b"c"
    assert sha256_files([first, second]) == sha256_bytes(whole) == hashlib.sha256(whole).hexdigest()
    assert sha256_files([second, first]) != sha256_files([first, second])


def test_hash_with_data_holds_the_blake3_of_each_data_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "_WINDOW", mmap.ALLOCATIONGRANULARITY)
    model, empty, large = tmp_path / "m.onnx", tmp_path / "empty", tmp_path / "large"
    model.write_bytes(b"model")
    empty.touch()
    large.write_bytes(bytes(range(256)) * (3 * mmap.ALLOCATIONGRANULARITY // 256) + b"more")
    hashes = [blake3(data.read_bytes()).digest() for data in (empty, large)]
    expected = sha256_bytes(b"model" + b"".join(hashes))
    assert sha256_with_data(model, [empty, large]) == expected
    assert sha256_with_data(model, []) == sha256_files([model])


def test_versions_name_what_is_installed() -> None:
    assert {"numpy", "onnx", "onnx-ir"} <= versions().keys()


def test_staged_files_appear_together(tmp_path: Path) -> None:
    target = tmp_path / "new" / "model.onnx"
    with staged(target) as path:
        path.write_bytes(b"graph")
        path.with_name("model.onnx.data").write_bytes(b"weights")
        assert list(target.parent.glob("model*")) == []
    assert sorted(p.name for p in target.parent.iterdir()) == ["model.onnx", "model.onnx.data"]


def test_the_named_file_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr("os.replace", lambda _, target: order.append(target.name))
    with staged(tmp_path / "a.json") as path:
        for name in ("z.npz", "a.json", "0.npz"):
            path.with_name(name).touch()
    assert order[-1] == "a.json"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_write_leaves_what_was_there(
    tmp_path: Path, error: type[BaseException]
) -> None:
    target = tmp_path / "table.json"
    target.write_bytes(b"old")
    with pytest.raises(error, match="stop"), staged(target) as path:  # noqa: PT012
        path.write_bytes(b"half")
        raise error("stop")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("table.json", b"old")]


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "write_bytes", fails_with(errno.ENOSPC))
    with pytest.raises(StorageError, match=r"cannot write .*a\.json: the disk is full; free space"):
        write_bytes(tmp_path / "a.json", b"")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot write .*: (Not a directory|File exists); cho"):
        write_bytes(tmp_path / "file" / "a.json", b"")


def test_a_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match="it is a folder; name a file in it with -o"),
        staged(tmp_path),
    ):
        pytest.fail("there was work")


def test_a_name_that_is_too_long_is_one_line(tmp_path: Path) -> None:
    target = tmp_path / ("x" * 300)
    for attempt in (check_writable, lambda place: write_bytes(place, b"")):
        with pytest.raises(StorageError, match="x: File name too long; choose another place with"):
            attempt(target)


def test_json_is_indented_and_ends_in_a_newline(tmp_path: Path) -> None:
    class Point(msgspec.Struct):
        x: int
        y: tuple[int, ...]

    write_json(tmp_path / "p.json", Point(1, (2, 3)))
    text = (tmp_path / "p.json").read_text()
    assert json.loads(text) == {"x": 1, "y": [2, 3]}
    assert text.startswith('{\n  "x"')
    assert text.endswith("}\n")


class Named(msgspec.Struct):
    """What tells of files and of figures."""

    files: tuple[str, ...]
    by_file: dict[str, float]


def test_names_that_are_no_unicode_are_escaped() -> None:
    document = Named(("n\udcff.onnx", "\xfc.onnx"), {"n\udcff.onnx": float("nan")})
    assert json.loads(json_bytes(document)) == {
        "files": [r"n\udcff.onnx", "\xfc.onnx"],
        "by_file": {r"n\udcff.onnx": None},
    }


def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("kept")
    for place in (tmp_path / "old", tmp_path / "new" / "deep" / "file"):
        check_writable(place)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_a_place_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match="it is a folder; name a file in it with -o"):
        check_writable(tmp_path)
    monkeypatch.setattr("tempfile.mkdtemp", fails_with(errno.EROFS))
    with pytest.raises(StorageError, match="x: Read-only file system; choose another place with"):
        check_writable(tmp_path / "x")
    with pytest.raises(StorageError, match="x: Read-only file system; go elsewhere"):
        check_writable(tmp_path / "x", "go elsewhere")


def test_names_that_are_no_text() -> None:
    check_name(Path("d\xfcne \U0001f600.onnx"))
    with pytest.raises(StorageError, match=r"the name 'd\\udcfcne\.onnx' is not in UTF-8; choose"):
        check_name(Path("d\udcfcne.onnx"))


def test_names_that_the_locale_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: "ascii")
    with pytest.raises(StorageError, match=r"names are read as ascii: set PYTHONUTF8=1 or LANG"):
        check_name(Path("d\udcc3\udcbcne.onnx"))
