"""The ledger of a run: resumed where it was stopped, and never in the way of a measurement."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import run_parts

from qbench.runs.ledger import RunLedger
from qbench.runs.request import ModelFile, Request
from qbench.runs.run import UNKEPT
from qbench.runs.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / ".qbench")


def opened(store: Store, asked: Request | None = None, *, restart: bool = False) -> RunLedger:
    ledger = RunLedger(asked or run_parts.request(), run_parts.SETTINGS, store)
    if not restart:
        ledger.resume()
    return ledger


def test_a_stopped_run_goes_on_with_the_rows_it_has(store: Store) -> None:
    with opened(store) as first:
        first.save(run_parts.cell(), run_parts.row(), np.array([0.002]))
        first.save(run_parts.cell("int8"), run_parts.row("int8", error="no memory"), None)
    with opened(store) as second:
        assert second.id == first.id
        assert second.find(run_parts.cell()) == run_parts.row()
        assert second.find(run_parts.cell("int8")) is None  # it is tried again
        assert second.find(run_parts.cell(batch=4)) is None
        second.save(run_parts.cell("int8"), run_parts.row("int8", ms=1.0), np.array([0.001]))
        run = second.finish(run_parts.result(run_parts.row(), run_parts.row("int8", ms=1.0)))
    assert {i: list(s) for i, s in run.samples.items()} == {0: [0.002], 1: [0.001]}
    kept = store.load("latest")
    assert (kept.id, kept.result) == (run.id, run.result)
    assert {i: list(s) for i, s in kept.samples.items()} == {0: [0.002], 1: [0.001]}
    with opened(store) as third:
        assert (third.id, third.kept) == (None, ())  # a finished run is not gone on with


def test_a_stopped_run_judges_nothing_again(store: Store) -> None:
    cell = run_parts.cell(batch=4)
    with opened(store) as first:
        first.save_judged(cell.judged, run_parts.judged(True, False))
        assert first.find_judged(cell.judged) is not None
    with opened(store) as second:
        found = second.find_judged(cell.judged)
        assert found is not None
        assert found.outcome.drawn.tolist() == [True, False]
        assert second.find_judged(run_parts.cell("int8")) is None
        second.save(cell, run_parts.row(batch=4), None)
        run = second.finish(run_parts.result(run_parts.row(batch=4)))
    assert run.judged[0].names == ("0.png", "1.png")
    assert store.load(run.id).judged[0].names == ("0.png", "1.png")


def test_a_run_can_be_begun_anew(store: Store) -> None:
    with opened(store) as first:
        first.save(run_parts.cell(), run_parts.row(), None)
    with opened(store, restart=True) as second:
        assert second.find(run_parts.cell()) is None
        second.save(run_parts.cell(), run_parts.row(), None)
        assert second.id != first.id


def test_a_run_that_was_begun_anew_since_is_not_gone_on_with(store: Store) -> None:
    with opened(store) as stopped:
        stopped.save(run_parts.cell(), run_parts.row(ms=9.0), None)
    with opened(store, restart=True) as anew:
        anew.save(run_parts.cell(), run_parts.row(), None)
        anew.finish(run_parts.result(run_parts.row()))
    with opened(store) as third:
        assert (third.id, third.kept) == (None, ())


def test_a_run_that_another_process_works_on_is_left_to_it(store: Store) -> None:
    with opened(store) as first:
        first.save(run_parts.cell(), run_parts.row(), None)
        with opened(store) as second:
            assert second.kept == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"models": (ModelFile("/models/m.onnx", "bb"),)},
        {"options": {"threads": 2}},
        {"images": "others"},
    ],
)
def test_another_request_is_another_run(store: Store, changed: dict[str, object]) -> None:
    with opened(store) as first:
        first.save(run_parts.cell(), run_parts.row(), None)
    with opened(store, run_parts.request(**changed)) as second:
        assert second.kept == ()


def test_the_same_request_in_other_words_is_the_same_run(store: Store) -> None:
    with opened(store) as first:
        first.save(run_parts.cell(), run_parts.row(), None)
    moved = run_parts.request(command=("bench",), models=(ModelFile("/there/m.onnx", "aa"),))
    with opened(store, moved) as second:
        assert second.id == first.id


def test_without_a_store_the_run_is_in_memory(tmp_path: Path) -> None:
    with RunLedger(run_parts.request(), run_parts.SETTINGS) as ledger:
        ledger.resume()
        ledger.save(run_parts.cell(), run_parts.row(), np.array([0.002]))
        run = ledger.finish(run_parts.result(run_parts.row()))
    assert (ledger.id, run.id) == (None, UNKEPT)
    assert list(run.samples[0]) == [0.002]
    assert list(tmp_path.iterdir()) == []


def test_rows_that_look_the_same_keep_their_own_samples() -> None:
    twins = run_parts.row(), run_parts.row()
    with RunLedger(run_parts.request(), run_parts.SETTINGS) as ledger:
        for row, seconds in zip(twins, (0.002, 0.003), strict=True):
            ledger.save(run_parts.cell(), row, np.array([seconds]))
        run = ledger.finish(run_parts.result(*twins))
    assert [list(run.samples[i]) for i in range(2)] == [[0.002], [0.003]]


def test_where_nothing_could_be_measured_nothing_is_kept(store: Store) -> None:
    with opened(store) as ledger:
        ledger.save(run_parts.cell(), run_parts.row(error="no driver"), None)
    assert not store.path.parent.exists()


def test_failed_rows_are_kept_with_the_whole_run(store: Store) -> None:
    rows = run_parts.row(error="no driver"), run_parts.row("int8")
    with opened(store) as ledger:
        for row in rows:
            ledger.save(run_parts.cell(row.precision), row, None)
        run = ledger.finish(run_parts.result(*rows))
    assert store.load(run.id).result.rows == rows


def test_a_store_that_cannot_be_read_is_not_gone_on_with(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.path.parent.mkdir()
    with closing(sqlite3.connect(store.path)) as database:
        database.execute("CREATE TABLE theirs (x)")
    with opened(store) as ledger:
        ledger.save(run_parts.cell(), run_parts.row(), None)
        assert ledger.finish(run_parts.result(run_parts.row())).id == UNKEPT
    assert caplog.text.count("this run is not kept: ") == 1


def test_a_store_that_cannot_be_made_costs_no_row(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.path.parent.write_text("in the way")
    with opened(store) as ledger:
        ledger.save(run_parts.cell(), run_parts.row(), np.array([0.002]))
        run = ledger.finish(run_parts.result(run_parts.row()))
    assert (run.id, len(run.samples)) == (UNKEPT, 1)
    assert caplog.text.count("this run is not kept: cannot make ") == 1


@pytest.mark.parametrize("failing", ["add", "finish"])
def test_a_store_that_fails_later_costs_no_row(
    failing: str, store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qbench.runs.database._PATIENCE", 0.01)
    rows = run_parts.row(), run_parts.row("int8")
    with opened(store) as ledger:
        ledger.save(run_parts.cell(), rows[0], np.array([0.002]))
        if failing == "add":
            store.path.write_bytes(b"no database")
        ledger.save(run_parts.cell("int8"), rows[1], np.array([0.001]))
        if failing == "finish":
            store.path.write_bytes(b"no database")
        run = ledger.finish(run_parts.result(*rows))
    assert (run.id, len(run.samples)) == (UNKEPT, 2)
    assert caplog.text.count("this run is not kept: cannot use ") == 1


def test_rows_without_an_entry_stand_by_themselves(store: Store) -> None:
    """Such as one that a benchmark adds at its end."""
    with opened(store) as ledger:
        ledger.save(run_parts.cell(), run_parts.row(), np.array([0.002]))
        rows = run_parts.row("int8"), run_parts.row(notes=("late",))
        run = ledger.finish(run_parts.result(*rows))
    assert list(run.samples) == [1]
    assert store.load(run.id).result.rows == rows
    assert list(store.load(run.id).samples) == [1]
