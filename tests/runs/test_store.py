"""The store: what is kept, found, refused and saved from damage; several processes at once."""

import math
import multiprocessing
import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import run_parts

from qbench.benchmarking.judging.judged import Judged, Outcome
from qbench.benchmarking.result import UNTRUSTED
from qbench.benchmarking.stats import Interval
from qbench.errors import StorageError, UsageError
from qbench.runs.claim import Claim
from qbench.runs.names import new_id, resolved
from qbench.runs.request import ModelFile
from qbench.runs.store import Store

START = multiprocessing.get_context("spawn")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / ".qbench")


def begin(store: Store, model: str = "m.onnx") -> str:
    """Begin a run that nobody works on."""
    asked = run_parts.request(models=(ModelFile(f"/models/{model}", "aa"),))
    run, claim = store.begin(asked, run_parts.SETTINGS, run_parts.ENVIRONMENT)
    claim.release()
    return run


def test_a_run_reads_back_as_it_was_kept(store: Store) -> None:
    run = begin(store)
    rows = run_parts.row(), run_parts.row("int8", ms=1.0, float_nodes={"n": "why"})
    cells = run_parts.cell(), run_parts.cell("int8")
    store.add(run, cells[0], rows[0], np.array([0.002, 0.003]))
    store.add(run, cells[1], rows[1], None)
    store.add_judged(run, cells[1].judged, run_parts.judged(True, False))
    result = run_parts.result(*rows, trusted=False)
    store.finish(run, result, cells)
    found = store.load(run)
    assert found.result == result
    assert [entry.cell for entry in store.entries(run)] == list(cells)
    assert list(found.judged) == [1]
    assert found.judged[1].names == ("0.png", "1.png")
    assert found.judged[1].outcome.drawn.tolist() == [True, False]
    assert {index: list(s) for index, s in found.samples.items()} == {0: [0.002, 0.003]}
    assert found.request == run_parts.request()
    assert found.finished


def test_rows_are_there_before_the_run_is_finished(store: Store) -> None:
    run = begin(store)
    store.add(run, run_parts.cell(), run_parts.row(), None)
    found = store.load(run)
    assert found.result.rows == (run_parts.row(),)
    assert found.result.environment == run_parts.ENVIRONMENT
    assert not found.finished


def test_an_unfinished_run_is_trusted_as_far_as_its_rows(store: Store) -> None:
    run, control = begin(store), Interval(1.05, 1.04, 1.06)
    for row in (run_parts.row(control=control, notes=(UNTRUSTED,)), run_parts.row("int8")):
        store.add(run, run_parts.cell(row.precision), row, None)
    found = store.load(run).result
    assert (found.control, found.trusted) == (control, False)


def test_finishing_puts_rows_in_their_final_order_and_form(store: Store) -> None:
    run = begin(store)
    cells = run_parts.cell(), run_parts.cell("int8")
    for cell, seconds in zip(reversed(cells), ([1.0], [2.0]), strict=True):
        store.add(run, cell, run_parts.row(cell.precision), np.array(seconds))
    final = run_parts.row(), run_parts.row("int8", notes=("slow",))
    store.finish(run, run_parts.result(*final), cells)
    found = store.load(run)
    assert found.result.rows == final
    assert {index: list(s) for index, s in found.samples.items()} == {0: [2.0], 1: [1.0]}


def test_rows_of_the_same_cell_keep_their_own_samples(store: Store) -> None:
    run, cell = begin(store), run_parts.cell()
    for seconds in (1.0, 2.0):
        store.add(run, cell, run_parts.row(), np.array([seconds]))
    rows = run_parts.row(), run_parts.row()
    store.finish(run, run_parts.result(*rows), (cell, cell))
    assert {i: list(s) for i, s in store.load(run).samples.items()} == {0: [1.0], 1: [2.0]}


def test_the_list_is_short_and_begins_with_the_latest(store: Store) -> None:
    first, second = begin(store), begin(store, "other.onnx")
    store.add(first, run_parts.cell(), run_parts.row(), None)
    store.finish(first, run_parts.result(run_parts.row()), (run_parts.cell(),))
    found = store.summaries()
    assert [(run.id, run.rows, run.finished, run.trusted) for run in found] == [
        (second, 0, False, None),
        (first, 1, True, True),
    ]
    assert [run.id for run in store.summaries("other.onnx")] == [second]
    assert store.summaries("other") == []


def test_models_that_share_a_name_are_told_apart_by_their_folders(store: Store) -> None:
    a, b, other = begin(store, "a/m.onnx"), begin(store, "b/m.onnx"), begin(store, "other.onnx")
    paths = ("/models/c/m.onnx", "/models/a/m.onnx", "/models/a/m.onnx")
    both = run_parts.request(models=tuple(ModelFile(path, "aa") for path in paths))
    several, claim = store.begin(both, run_parts.SETTINGS, run_parts.ENVIRONMENT)
    claim.release()
    assert {run.id: run.models for run in store.summaries()} == {
        a: ("a/m.onnx",),
        b: ("b/m.onnx",),
        other: ("other.onnx",),
        several: ("c/m.onnx", "a/m.onnx"),
    }
    assert [run.id for run in store.summaries("m.onnx")] == [several, b, a]
    assert [run.models for run in store.summaries("b/m.onnx")] == [("b/m.onnx",)]
    assert store.summaries("") == []


def test_where_nothing_is_kept_nothing_is_made(store: Store) -> None:
    assert store.summaries() == []
    with pytest.raises(UsageError, match=r"no run 'latest': none is kept in .* run `qbench bench`"):
        store.load("latest")
    assert not store.path.parent.exists()


def test_names_of_runs() -> None:
    ids, place = ["bcdfgh", "bcxxxx", "mmmmmm"], Path("s")
    assert resolved("latest", ids, place) == "bcdfgh"
    assert resolved("mm", ids, place) == "mmmmmm"
    assert resolved("bcx", ids, place) == "bcxxxx"
    with pytest.raises(UsageError, match="'bc' may be bcdfgh, bcxxxx; give more letters"):
        resolved("bc", ids, place)
    for name in ("zz", ""):
        with pytest.raises(UsageError, match=f"no run '{name}' in s; `qbench runs list` names"):
            resolved(name, ids, place)
    many = [f"bcdf{letter}" for letter in "bcdfgh"]
    with pytest.raises(UsageError, match="'b' may be bcdfb, bcdfc, bcdfd, bcdff, bcdfg and 1 more"):
        resolved("b", many, place)


def test_a_whole_id_is_not_ambiguous() -> None:
    assert resolved("bc", ["bcd", "bc"], Path("s")) == "bc"


def test_ids_are_letters_that_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    letters = iter("bbbbbbcccccc")
    monkeypatch.setattr("qbench.runs.names.secrets.choice", lambda _: next(letters))
    assert new_id("bbbbbb".__eq__) == "cccccc"


def test_an_unfinished_run_is_found_by_its_key(store: Store) -> None:
    begin(store)
    asked = run_parts.request(options={"threads": 2})
    run, claim = store.begin(asked, run_parts.SETTINGS, run_parts.ENVIRONMENT)
    key = asked.key(run_parts.SETTINGS, run_parts.ENVIRONMENT)
    assert store.resume(key) is None  # it is being worked on
    claim.release()
    found = store.resume(key)
    assert found is not None
    assert found[0] == run
    store.finish(run, run_parts.result(), ())
    found[1].release()
    assert store.resume(key) is None


def test_a_run_that_is_finished_while_it_is_claimed_is_left_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(store)

    class Late(Claim):
        def __init__(self, path: Path) -> None:
            store.finish(run, run_parts.result(), ())
            super().__init__(path)

    monkeypatch.setattr("qbench.runs.store.Claim", Late)
    key = run_parts.request().key(run_parts.SETTINGS, run_parts.ENVIRONMENT)
    assert store.resume(key) is None


def test_samples_that_are_gone_or_damaged_are_left_out(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    run = begin(store)
    for precision in ("fp32", "fp16", "int8"):
        store.add(run, run_parts.cell(precision), run_parts.row(precision), np.ones(3))
    first, second, _ = sample_files(store)
    first.unlink()
    second.write_bytes(b"\x93NUMPY")
    assert list(store.load(run).samples) == [2]
    assert caplog.text.count("cannot be read") == 2


def test_accuracies_are_kept_whole(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    run, cell = begin(store), run_parts.cell(batch=8)
    assert store.judged(run) == {}
    draws = Outcome(0.5, np.array([0.25, 0.75]))
    kept = Judged("map", ("a.png",), draws, {"sqnr_db": draws})
    store.add_judged(run, cell.judged, run_parts.judged(True))
    store.add_judged(run, cell.judged, kept)  # judged again
    (found,) = store.judged(run).values()
    assert found.accuracy == kept.accuracy
    assert found.difference(kept) == Interval(0, 0, 0)
    for file in store.path.parent.glob("samples/*/*.msgpack"):
        file.write_bytes(b"?")
    assert store.judged(run) == {}
    assert "cannot be read" in caplog.text


def test_a_run_that_cannot_be_decoded_is_named(store: Store) -> None:
    """As one that was written with a figure that is no number."""
    run = begin(store)
    store.add(run, run_parts.cell(), run_parts.row(ms=math.nan), None)
    for read in (store.load, store.entries):
        with pytest.raises(StorageError, match=rf"run {run} cannot be read: .*`float`.*--restart"):
            read(run)
    assert [found.id for found in store.summaries()] == [run]


def sample_files(store: Store) -> list[Path]:
    with closing(sqlite3.connect(store.path)) as database:
        found = database.execute("SELECT samples FROM rows ORDER BY position").fetchall()
    return [store.path.parent / "samples" / file for (file,) in found]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / ".qbench").write_text("in the way")
    with pytest.raises(StorageError, match=r"cannot make .*\.qbench: File exists; run where files"):
        begin(Store(tmp_path / ".qbench"))


def test_samples_on_a_full_disk_leave_no_part(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: IO[bytes], _: object) -> None:
        file.write(b"half")
        raise OSError("4096 requested and 4 written")

    run = begin(store)
    monkeypatch.setattr("qbench.runs.samples.np.save", fail)
    with pytest.raises(StorageError, match=r"cannot write .*\.npy: 4096 requested .*; make room"):
        store.add(run, run_parts.cell(), run_parts.row(), np.ones(3))
    (left,) = (store.path.parent / "samples" / run).iterdir()
    assert left.name == "claim"


def test_samples_that_cannot_be_written(store: Store) -> None:
    run = begin(store)
    claims = store.path.parent / "samples" / run
    (claims / "claim").unlink()
    claims.rmdir()
    claims.write_text("in the way")
    with pytest.raises(StorageError, match=r"cannot write .*\.npy: .*; make room for it"):
        store.add(run, run_parts.cell(), run_parts.row(), np.ones(3))
    assert store.load(run).result.rows == ()


# Files that are no store of ours


def test_a_file_of_another_program_is_not_touched(store: Store) -> None:
    store.path.parent.mkdir()
    with closing(sqlite3.connect(store.path)) as database:
        database.execute("CREATE TABLE theirs (x)")
    before = store.path.read_bytes()
    for use in (store.summaries, lambda: begin(store)):
        with pytest.raises(StorageError, match="is a database of another program; move it away"):
            use()
    assert store.path.read_bytes() == before


def test_a_file_of_a_newer_qbench_is_not_touched(store: Store) -> None:
    begin(store)
    with closing(sqlite3.connect(store.path)) as database:
        database.execute("PRAGMA user_version = 2")
    for use in (Store(store.path.parent).summaries, lambda: begin(Store(store.path.parent))):
        with pytest.raises(StorageError, match=r"has version 2, this qbench reads 1; update"):
            use()


@pytest.mark.parametrize("damage", ["text", "pages", "cut"])
def test_a_damaged_file_is_set_aside(
    damage: str, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    lost = begin(store)
    for number in range(40):
        store.add(lost, run_parts.cell(), run_parts.row(notes=("x" * 500,) * number), None)
    content = store.path.read_bytes()
    harm = {
        "text": b"no database at all",
        "pages": content[:8192] + b"\xff" * (len(content) - 8192),
        "cut": content[: len(content) // 2],
    }[damage]
    store.path.write_bytes(harm)
    again = Store(store.path.parent)
    assert again.summaries() == []
    (kept,) = store.path.parent.glob("runs.sqlite.damaged-*")
    assert kept.read_bytes() == harm
    assert "is damaged (" in caplog.text
    assert f"it is kept as {kept.name}" in caplog.text
    run = begin(again)
    assert [found.id for found in again.summaries()] == [run]


def test_the_journal_of_a_damaged_file_goes_with_it(store: Store) -> None:
    store.path.parent.mkdir()
    store.path.write_bytes(b"no database at all")
    journal = store.path.with_name("runs.sqlite-journal")
    journal.write_bytes(b"")
    assert store.summaries() == []
    assert not journal.exists()
    assert len(list(store.path.parent.glob("runs.sqlite.damaged-*-journal"))) == 1


def test_an_empty_file_is_a_new_store(store: Store) -> None:
    store.path.parent.mkdir()
    store.path.touch()
    assert store.summaries() == []
    assert begin(store) == store.resolve("latest")


def fill_disk(monkeypatch: pytest.MonkeyPatch, pages: int) -> None:
    """Let SQLite write no more than some pages into the store."""
    connect = sqlite3.connect

    def limited(path: Path, *values: Any, **options: Any) -> sqlite3.Connection:
        database = connect(path, *values, **options)
        if path.name == "runs.sqlite":
            database.execute(f"PRAGMA max_page_count = {pages}")
        return database

    monkeypatch.setattr(sqlite3, "connect", limited)


@pytest.mark.parametrize("pages", [1, 9])
def test_a_full_disk_leaves_nothing_half_written(
    pages: int, store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = run_parts.request(options={"long": "x" * 9000})
    with monkeypatch.context() as full:
        fill_disk(full, pages)
        with pytest.raises(StorageError, match=r"cannot use .*sqlite: .* is full; free space"):
            store.begin(asked, run_parts.SETTINGS, run_parts.ENVIRONMENT)
    left = [path.name for path in store.path.parent.rglob("*")]
    assert left == (["runs.sqlite"] if pages == 9 else [])  # all tables, or nothing
    again = Store(store.path.parent)
    assert again.summaries() == []
    run = begin(again)
    assert [found.id for found in again.summaries()] == [run]
    assert caplog.text == ""


def test_a_claim_that_cannot_be_made_leaves_no_run(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        path.parent.mkdir(parents=True)
        path.touch()
        raise StorageError("cannot lock it")

    with monkeypatch.context() as full:
        full.setattr("qbench.runs.store.Claim", fail)
        with pytest.raises(StorageError, match="cannot lock it"):
            begin(store)
    assert store.summaries() == []
    assert not list(store.path.parent.glob("samples/*"))


def test_an_empty_file_that_another_process_fills_is_left_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qbench.runs.database._PATIENCE", 0.01)
    store.path.parent.mkdir()
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="another process writes to it"):
            begin(store)
        assert store.path.exists()


def test_a_store_that_is_locked_for_good(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(store)
    monkeypatch.setattr("qbench.runs.database._PATIENCE", 0.01)
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    reason = "database is locked; another process writes to it; try again, or end that one"
    try:
        with pytest.raises(StorageError, match=rf"cannot use .*: {reason}"):
            store.add(run, run_parts.cell(), run_parts.row(), None)
        with pytest.raises(StorageError, match=rf"cannot read .*: {reason}"):
            Store(store.path.parent).summaries()
    finally:
        other.close()


# Several processes


def add_rows(folder: Path, run: str, worker: int, count: int) -> None:
    """Write rows as fast as possible; a process of its own."""
    store = Store(folder)
    for number in range(count):
        cell = run_parts.cell(batch=number + 1, threads=worker)
        store.add(run, cell, run_parts.row(batch=number + 1, threads=worker), np.ones(4))


def test_processes_that_write_at_once_lose_no_row(store: Store) -> None:
    runs = [begin(store), begin(store)]
    work = [(run, worker) for worker, run in enumerate(runs * 2)]
    processes = [
        START.Process(target=add_rows, args=(store.path.parent, run, worker, 15))
        for run, worker in work
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    for index, run in enumerate(runs):
        found = store.load(run)
        written = {(row.threads, row.batch) for row in found.result.rows}
        assert written == {(w, b) for w in (index, index + 2) for b in range(1, 16)}
        assert len(found.samples) == 30


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 here")
def test_rows_survive_the_death_of_their_writer(store: Store) -> None:
    run = begin(store)
    process = START.Process(target=add_rows, args=(store.path.parent, run, 0, 10_000))
    process.start()
    while len(store.entries(run)) < 5:
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    entries = Store(store.path.parent).entries(run)
    batches = [entry.cell.batch for entry in entries if entry.cell]
    assert batches == list(range(1, len(entries) + 1))
    assert all(entry.samples is not None for entry in entries)
    process.close()


def hold(path: Path, ready: str) -> None:
    with Claim(path):
        Path(ready).touch()
        time.sleep(60)


def test_the_claim_of_a_dead_process_is_free(tmp_path: Path) -> None:
    path, ready = tmp_path / "claim", tmp_path / "ready"
    process = START.Process(target=hold, args=(path, str(ready)))
    process.start()
    while not ready.exists():
        time.sleep(0.01)
    with pytest.raises(StorageError, match=r"cannot lock .*: database is locked; end its holder"):
        Claim(path)
    process.kill()
    process.join()
    Claim(path).release()
    process.close()


def test_a_claim_where_no_file_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot lock .*: .*; check its permissions"):
        Claim(tmp_path / "file" / "claim")


def test_two_processes_mend_a_damaged_file_once(store: Store) -> None:
    """The slower one finds the new file, and does not set that aside, too."""
    store.path.parent.mkdir()
    store.path.write_bytes(b"no database at all")
    from qbench.runs import database

    with Claim(store.path.with_name("runs.sqlite.lock")):
        waiting = START.Process(target=Store(store.path.parent).summaries)
        waiting.start()
        time.sleep(0.2)
        database._set_aside(store.path, "by the test")
        with database.connected(store.path) as file:
            file.executescript(database._TABLES)
    waiting.join()
    assert waiting.exitcode == 0
    assert len(list(store.path.parent.glob("runs.sqlite.damaged-*"))) == 1
    waiting.close()
