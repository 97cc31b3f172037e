"""The timing cache's file, against a stand-in for the compiler's cache."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qbench.engines.compiling.timing_cache import CacheKey, TimingCache, check_place
from qbench.errors import StorageError, UsageError

KEY = CacheKey("tensorrt", "10.3", "RTX 4090")


class Config:
    """Takes timings unless they begin with `bad`, and adds to them while it builds."""

    def __init__(self) -> None:
        self.cache: Any = None

    def create_timing_cache(self, data: bytes) -> Any:
        return None if data == b"none" else SimpleNamespace(serialize=lambda: data + b"\nmore")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.cache = cache
        return not cache.serialize().startswith(b"bad")

    def get_timing_cache(self) -> Any:
        return self.cache


def build(path: Path, key: CacheKey = KEY) -> tuple[bytes, list[str]]:
    """Return what a build holds in the end, and what the user hears."""
    said: list[str] = []
    config, cache = Config(), TimingCache(path, key, said.append)
    cache.attach(config)
    cache.store(config)
    return config.cache.serialize(), said


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "t.cache"


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


def test_timings_are_kept_from_build_to_build(path: Path) -> None:
    assert build(path) == (b"\nmore", [])
    assert build(path) == (b"\nmore\nmore", [])
    assert names(path) == ["t.cache"]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (CacheKey("tensorrt", "10.8", "RTX 4090"), "it is of tensorrt 10.3 on RTX 4090, this is"),
        (CacheKey("tensorrt", "10.3", "A100"), "this is tensorrt 10.3 on A100; it is kept as"),
    ],
)
def test_timings_of_another_machine_are_set_aside(path: Path, key: CacheKey, message: str) -> None:
    build(path)
    before = path.read_bytes()
    data, said = build(path, key)
    assert data == b"\nmore"
    assert len(said) == 1
    assert message in said[0]
    assert path.with_name("t.cache.old").read_bytes() == before
    build(path)
    assert names(path) == ["t.cache", "t.cache.old", "t.cache.old2"]


@pytest.mark.parametrize(
    "content", [b"", b"\xff\x00", b"{}\nx", b'{"timing_cache": 1}\n', b"x" * 99]
)
def test_foreign_files_are_set_aside(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    data, said = build(path)
    assert data == b"\nmore"
    assert "t.cache is not used: qbench did not write it; it is kept as" in said[0]
    assert path.with_name("t.cache.old").read_bytes() == content
    assert build(path)[1] == []


def test_damaged_files_are_set_aside(path: Path) -> None:
    build(path)
    path.write_bytes(path.read_bytes()[:-1])
    data, said = build(path)
    assert (data, len(said)) == (b"\nmore", 1)
    assert "it is damaged" in said[0]


@pytest.mark.parametrize("data", [b"none", b"bad"])
def test_timings_that_tensorrt_refuses_are_set_aside(path: Path, data: bytes) -> None:
    config = Config()
    config.cache = SimpleNamespace(serialize=lambda: data)
    TimingCache(path, KEY, pytest.fail).store(config)
    held, said = build(path)
    assert held == b"\nmore"
    assert "TensorRT does not take it on this machine" in said[0]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read --timing-cache .* \(Is a directory\); name"):
        build(tmp_path)


def test_a_file_that_cannot_be_set_aside(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path.parent.mkdir()
    path.write_bytes(b"x")
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(StorageError, match=r"rename .*t\.cache to t\.cache\.old \(Permission den"):
        build(path)


def test_a_full_disk_costs_the_timings_alone(tmp_path: Path) -> None:
    (tmp_path / "a;b").write_bytes(b"")
    said: list[str] = []
    config = Config()
    config.cache = SimpleNamespace(serialize=lambda: b"data")
    TimingCache(tmp_path / "a;b" / "t.cache", KEY, said.append).store(config)
    assert len(said) == 1
    problem = r"the timing cache was not kept: cannot write .*a;b.t\.cache: [^;]+"
    assert re.fullmatch(problem + "; name another file with --timing-cache", said[0])


def test_a_place_that_can_be_written_gets_its_folder_and_no_file(path: Path) -> None:
    check_place(path)
    assert names(path) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"cannot write --timing-cache .*t\.cache \(.*\); name"):
        check_place(tmp_path / "file" / "t.cache")
