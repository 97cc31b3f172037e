"""A folder of engines, each damaged in a way of its own."""

import json
from pathlib import Path

import pytest
from manifests import put

from qbench.engines import shelf
from qbench.engines.fitness import FITS, UNFIT, UNKNOWN, Verdict
from qbench.engines.machine import Machine
from qbench.engines.shelf import (
    BROKEN,
    CHANGED,
    check_verdicts,
    discarded,
    entries,
    entry,
    remove,
    verify,
)
from qbench.errors import EngineError, StorageError, UnfitError
from qbench.runtimes.tensorrt.flavour import Flavour

HERE = Machine("Linux x86_64", "RTX 4090", "sm89", "580.65.06")
NO_GPU = HERE.without_gpu()
FLAVOURS = (Flavour("tensorrt_rtx", "1.7"),)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one good engine, and files that are no engine's."""
    put(tmp_path, "good")
    (tmp_path / "README.md").write_text("read me")
    (tmp_path / "fast.toml").write_text("[build]")
    (tmp_path / "good.choice.json").write_text('{"nodes": []}')
    (tmp_path / "notes.json").write_text("[1, 2]")
    return tmp_path


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def state(folder: Path, name: str, machine: Machine = HERE) -> str:
    return verify(entry(folder, name), machine, FLAVOURS).state


def reason(folder: Path, name: str) -> str:
    return verify(entry(folder, name), HERE, FLAVOURS).reasons[0]


def gone(folder: Path, machine: Machine = HERE) -> set[str]:
    """Prune, and return the names of the files that went."""
    before = files(folder)
    remove(folder, discarded(folder, machine, FLAVOURS))
    return before - files(folder)


def test_only_engines_and_their_manifests_are_entries(folder: Path) -> None:
    put(folder, "another")
    (folder / "lone.engine").write_bytes(b"x")
    found = entries(folder)
    assert [entry.name for entry in found] == ["another", "good", "lone"]
    assert found[1].files == (
        "good.engine",
        "good.onnx",
        "good.onnx.data",
        "good.log",
        "good.json",
    )
    assert found[2].files == ()


@pytest.mark.parametrize("name", ["good", "good.engine", "good.json"])
def test_one_engine(folder: Path, name: str) -> None:
    assert entry(folder, name) == entry(Path("elsewhere"), str(folder / name))
    assert entry(folder, name).name == "good"


def test_no_such_engine(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no engine 'god' in .*; there is good$"):
        entry(folder, "god")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EngineError, match=r"no engine 'god' in .*empty; there is no engine$"):
        entry(tmp_path / "empty", "god")
    with pytest.raises(EngineError, match=r"no folder .*nowhere; name one with --folder, or"):
        entries(tmp_path / "nowhere")


def test_a_good_engine_fits(folder: Path) -> None:
    assert verify(entry(folder, "good"), HERE, FLAVOURS) == Verdict(FITS)
    assert state(folder, "good", NO_GPU) == UNKNOWN
    assert gone(folder) == gone(folder, NO_GPU) == set()


def test_an_engine_for_another_gpu_goes_with_all_that_is_its_own(folder: Path) -> None:
    put(folder, "other", targets=("sm120",))
    (folder / "other.onnx.data").write_bytes(b"weights")
    (folder / "other.txt").write_text("a note")
    assert state(folder, "other") == UNFIT
    found = discarded(folder, HERE, FLAVOURS)
    assert [engine.name for engine in found] == ["other"]
    assert found[0].size_bytes == sum((folder / name).stat().st_size for name in found[0].files)
    assert gone(folder) == {
        "other.engine",
        "other.onnx",
        "other.onnx.data",
        "other.log",
        "other.json",
    }


def test_the_cache_of_an_engine_goes_only_where_the_compiler_placed_int8(folder: Path) -> None:
    put(folder, "m.int8", targets=("sm120",))
    put(folder, "m.int8-implicit", targets=("sm120",), precision="int8-implicit")
    for name in ("m.int8", "m.int8-implicit"):
        (folder / f"{name}.cache").write_text("of timings, or of ranges")
    caches = {name for name in gone(folder) if name.endswith(".cache")}
    assert caches == {"m.int8-implicit.cache"}


def test_a_missing_engine(folder: Path) -> None:
    put(folder, "lost")
    (folder / "lost.engine").unlink()
    assert state(folder, "lost") == BROKEN
    assert "lost.engine is missing; build it again" in reason(folder, "lost")
    assert gone(folder) == {"lost.onnx", "lost.log", "lost.json"}


def test_a_truncated_engine(folder: Path) -> None:
    put(folder, "cut")
    (folder / "cut.engine").write_bytes(b"eng")
    assert "cut.engine has 3 bytes of 10; copy or build it again" in reason(folder, "cut")
    assert "cut.engine" in gone(folder)


def test_an_engine_with_other_bytes(folder: Path) -> None:
    put(folder, "bad")
    (folder / "bad.engine").write_bytes(b"engine BAD")
    found = entry(folder, "bad")
    assert verify(found, HERE, FLAVOURS, hashes=False).state == FITS
    assert "is not what was built (its SHA-256 differs)" in reason(folder, "bad")
    assert "bad.engine" in gone(folder)


def test_another_onnx_file_beside_it(folder: Path) -> None:
    put(folder, "stale")
    (folder / "stale.onnx").write_bytes(b"later")
    assert state(folder, "stale") == CHANGED
    assert "stale.onnx is not the file that it was compiled from" in reason(folder, "stale")
    assert gone(folder) == set()  # the engine itself is whole
    elsewhere = verify(entry(folder, "stale"), HERE.without_gpu(), FLAVOURS)
    assert (elsewhere.state, len(elsewhere.reasons)) == (CHANGED, 2)
    assert "stale.onnx is not the file" in elsewhere.reasons[0]
    put(folder, "both", targets=("sm120",))
    (folder / "both.onnx").write_bytes(b"later")
    assert state(folder, "both") == UNFIT


def test_the_onnx_file_may_be_missing(folder: Path) -> None:
    (folder / "good.onnx").unlink()
    assert state(folder, "good") == FITS


def test_an_engine_that_no_manifest_names_stays(folder: Path) -> None:
    (folder / "lone.engine").write_bytes(b"x")
    assert state(folder, "lone") == BROKEN
    assert "no manifest" in reason(folder, "lone")
    (found,) = discarded(folder, HERE, FLAVOURS)
    assert (found.name, found.files, found.size_bytes) == ("lone", (), 0)
    assert gone(folder) == set()


def test_a_damaged_manifest_names_nothing(folder: Path) -> None:
    put(folder, "torn")
    (folder / "torn.json").write_text('{"engine": "torn.eng')
    assert "torn.json is not an engine manifest" in reason(folder, "torn")
    assert gone(folder) == set()


def test_a_manifest_of_an_older_version_still_names_its_engine(folder: Path) -> None:
    put(folder, "old")
    (folder / "old.json").write_text(json.dumps({"engine": "old.engine", "schema_version": 1}))
    assert "old.json has schema version 1" in reason(folder, "old")
    assert gone(folder) == {"old.engine", "old.json"}


def test_an_engine_of_a_newer_version_stays(folder: Path) -> None:
    put(folder, "new")
    (folder / "new.json").write_text(json.dumps({"engine": "new.engine", "schema_version": 99}))
    assert "new.json has schema version 99" in reason(folder, "new")
    assert gone(folder) == set()


def test_a_manifest_that_names_files_elsewhere(folder: Path) -> None:
    outside = folder.parent / "precious"
    outside.write_text("keep")
    document = json.loads((folder / "good.json").read_text())
    document["log"] = "../precious"
    put(folder, "evil")
    (folder / "evil.json").write_text(json.dumps(document | {"engine": "evil.engine"}))
    assert "'../precious' is not the name of a file beside it" in reason(folder, "evil")
    assert gone(folder) == {"evil.engine", "evil.json"}
    (folder / "evil.json").write_text(
        json.dumps(document | {"engine": "../precious", "schema_version": 1})
    )
    assert gone(folder) == {"evil.json"}
    assert outside.read_text() == "keep"


def test_a_copied_manifest_takes_nothing_of_the_original(folder: Path) -> None:
    (folder / "copy.json").write_bytes((folder / "good.json").read_bytes())
    assert "its manifest is that of good.engine; give both files one name" in reason(folder, "copy")
    assert gone(folder) == {"copy.json"}


def test_a_file_that_a_kept_engine_names_stays(folder: Path) -> None:
    put(folder, "twin", onnx="good.onnx", targets=("sm120",))
    (folder / "twin.onnx").unlink()
    assert gone(folder) == {"twin.engine", "twin.log", "twin.json"}


def test_a_file_that_cannot_be_deleted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder, "other", targets=("sm120",))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shelf.Path, "unlink", refuse)
    with pytest.raises(
        StorageError, match=r"cannot delete .*other\.engine: Permission denied; del"
    ):
        remove(folder, discarded(folder, HERE, FLAVOURS))


def test_a_file_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shelf, "sha256_files", refuse)
    with pytest.raises(EngineError, match=r"cannot read .*good\.engine: Permission denied; make"):
        verify(entry(folder, "good"), HERE, FLAVOURS)


FINE, ODD = Verdict(FITS), Verdict(UNKNOWN, ("this machine has no GPU",))


def test_verdicts() -> None:
    check_verdicts([("a", FINE), ("b", FINE)])
    with pytest.raises(UnfitError, match=r"whether engine b fits is unknown: .* no GPU$"):
        check_verdicts([("a", FINE), ("b", ODD)])
    with pytest.raises(UnfitError, match=r"whether engine a fits is unknown: .* \(and 1 more\)$"):
        check_verdicts([("a", ODD), ("b", ODD)])


@pytest.mark.parametrize("state", [BROKEN, CHANGED, UNFIT])
def test_a_certain_problem_comes_before_an_unknown_one(state: str) -> None:
    with pytest.raises(EngineError, match=f"engine b is {state}: why$"):
        check_verdicts([("a", ODD), ("b", Verdict(state, ("why", "more")))])
