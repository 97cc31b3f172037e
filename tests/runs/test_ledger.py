"""The ledger of a run: resumed where it was stopped, and never in the way of a measurement."""

from pathlib import Path

import numpy as np
import pytest
import run_parts

from qbench.runs.ledger import UNKEPT, RunLedger
from qbench.runs.request import ModelFile, Request
from qbench.runs.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / ".qbench")


def opened(store: Store, asked: Request | None = None, *, restart: bool = False) -> RunLedger:
    ledger = RunLedger(asked or run_parts.request(), store)
    ledger.open(run_parts.SETTINGS, restart=restart)
    return ledger


def test_a_stopped_run_goes_on_with_the_rows_it_has(store: Store) -> None:
    with opened(store) as first:
        first.save(run_parts.cell(), run_parts.row(), np.array([0.002]))
        first.save(run_parts.cell("int8"), run_parts.row("int8", error="no memory"), None)
    with opened(store) as second:
        assert second.id == first.id
        assert second.find(run_parts.cell()) == run_parts.row()
        assert second.find(run_parts.cell("int8")) is None  # what failed is tried again
        assert second.find(run_parts.cell(batch=4)) is None
        second.save(run_parts.cell("int8"), run_parts.row("int8", ms=1.0), np.array([0.001]))
        run = second.finish(run_parts.result(run_parts.row(), run_parts.row("int8", ms=1.0)))
    assert {i: list(s) for i, s in run.samples.items()} == {0: [0.002], 1: [0.001]}
    kept = store.load("latest")
    assert (kept.id, kept.result, kept.cells) == (run.id, run.result, run.cells)
    assert {i: list(s) for i, s in kept.samples.items()} == {0: [0.002], 1: [0.001]}
    with opened(store) as third:
        assert third.id != run.id  # a finished run is not gone on with
        assert third.kept == ()


def test_a_run_can_be_begun_anew(store: Store) -> None:
    with opened(store) as first:
        first.save(run_parts.cell(), run_parts.row(), None)
    with opened(store, restart=True) as second:
        assert second.id != first.id
        assert second.find(run_parts.cell()) is None


def test_a_run_that_another_process_works_on_is_left_to_it(store: Store) -> None:
    with opened(store) as first, opened(store) as second:
        assert first.id != second.id


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
        pass
    with opened(store, run_parts.request(**changed)) as second:
        assert second.id != first.id


def test_the_same_request_in_other_words_is_the_same_run(store: Store) -> None:
    with opened(store) as first:
        pass
    moved = run_parts.request(command=("bench",), models=(ModelFile("/there/m.onnx", "aa"),))
    with opened(store, moved) as second:
        assert second.id == first.id


def test_without_a_store_the_run_is_in_memory(tmp_path: Path) -> None:
    with RunLedger(run_parts.request()) as ledger:
        ledger.open(run_parts.SETTINGS)
        ledger.save(run_parts.cell(), run_parts.row(), np.array([0.002]))
        run = ledger.finish(run_parts.result(run_parts.row()))
    assert (ledger.id, run.id) == (None, UNKEPT)
    assert run.cells == {0: run_parts.cell()}
    assert list(run.samples[0]) == [0.002]
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_made_costs_no_row(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.path.parent.write_text("in the way")
    with opened(store) as ledger:
        ledger.save(run_parts.cell(), run_parts.row(), np.array([0.002]))
        run = ledger.finish(run_parts.result(run_parts.row()))
    assert (run.id, len(run.cells)) == (UNKEPT, 1)
    assert caplog.text.count("this run is not kept: cannot make ") == 1


@pytest.mark.parametrize("failing", ["add", "finish"])
def test_a_store_that_fails_later_costs_no_row(
    failing: str, store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qbench.runs.database._PATIENCE", 0.01)
    with opened(store) as ledger:
        if failing == "add":
            store.path.write_bytes(b"no database")
        ledger.save(run_parts.cell(), run_parts.row(), np.array([0.002]))
        if failing == "finish":
            store.path.write_bytes(b"no database")
        run = ledger.finish(run_parts.result(run_parts.row()))
    assert (run.id, len(run.samples)) == (UNKEPT, 1)
    assert caplog.text.count("this run is not kept: cannot use ") == 1


def test_rows_without_an_entry_stand_by_themselves(store: Store) -> None:
    """Such as one that a benchmark adds at its end."""
    with opened(store) as ledger:
        ledger.save(run_parts.cell(), run_parts.row(), np.array([0.002]))
        rows = run_parts.row("int8"), run_parts.row(notes=("late",))
        run = ledger.finish(run_parts.result(*rows))
    assert run.cells == {1: run_parts.cell()}
    assert store.load(run.id).result.rows == rows
    assert list(store.load(run.id).samples) == [1]
