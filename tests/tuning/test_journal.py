import logging
from pathlib import Path

import msgspec
import pytest

from qbench.artifacts import SCHEMA_VERSION
from qbench.benchmarking.result import Accuracy
from qbench.benchmarking.stats import Interval
from qbench.tuning.journal import (
    Journal,
    Trial,
    journal_path,
    open_journal,
    save_journal,
    this_machine,
)


def trial(value: float, low: float, high: float) -> Trial:
    accuracy = Accuracy("top1", 0.8 + value, 200, 0.7, 0.9, Interval(value, low, high))
    return Trial(float_nodes=("a", "b"), int8_mac_fraction=0.9, accuracy=accuracy)


UNJUDGED = Trial(float_nodes=(), int8_mac_fraction=None, problem="NaN")


@pytest.mark.parametrize(
    ("value", "meets"), [(0.02, True), (0.0, True), (0.795 - 0.8, True), (-0.0051, False)]
)
def test_a_loss_as_large_as_the_budget_meets_it(value: float, meets: bool) -> None:
    assert trial(value, -1, 1).meets(0.005) is meets


def test_what_could_not_be_judged_meets_no_budget() -> None:
    assert not UNJUDGED.meets(0.9)
    assert not UNJUDGED.is_within_noise(0.9)


@pytest.mark.parametrize(
    ("low", "high", "within"), [(-0.02, 0.01, True), (-0.004, 0.01, False), (-0.02, -0.006, False)]
)
def test_within_noise_is_a_budget_inside_the_interval(
    low: float, high: float, within: bool
) -> None:
    assert trial((low + high) / 2, low, high).is_within_noise(0.005) is within


@pytest.mark.parametrize(("budget", "within"), [(0.014, True), (0.016, False)])
def test_that_no_sample_changed_says_little_of_others(budget: float, within: bool) -> None:
    assert trial(0, 0, 0).is_within_noise(budget) is within  # 3 of 200 samples are 1.5 %


def test_a_journal_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / journal_path("m", "cpu", "0123456789abcdef")
    assert path.name == "m.cpu.0123456789ab.json"
    journal = Journal(
        key="k", machine="m", ranking=("b", "a"), trials=[trial(0.01, 0, 0.02), UNJUDGED]
    )
    save_journal(path, journal)
    found = open_journal(path, "k", "m", restart=False)
    assert found == journal
    assert found.find(("a", "b")) == journal.trials[0]
    assert found.find(("a",)) is None


def test_another_machine_takes_over_what_was_judged_and_no_speed(tmp_path: Path) -> None:
    fast, unable = (
        msgspec.structs.replace(trial(0.01, 0, 0.02), float_nodes=(name,), **how)
        for name, how in (("a", {"speed": Interval(3, 2, 4)}), ("b", {"problem": "no GPU"}))
    )
    path = tmp_path / "m.json"
    save_journal(path, Journal(key="k", machine="m", trials=[fast, unable, UNJUDGED]))
    found = open_journal(path, "k", "other", restart=False)
    assert found.machine == "other"
    assert [(one.float_nodes, one.is_done) for one in found.trials] == [
        (("a",), False),
        (("b",), False),
    ]
    assert [one.accuracy for one in found.trials] == [fast.accuracy, unable.accuracy]
    assert all(one.is_done for one in open_journal(path, "k", "m", restart=False).trials)


def test_a_machine_is_the_same_as_itself() -> None:
    assert this_machine() == this_machine()


def test_a_journal_of_something_else_or_of_no_use_is_empty(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "m.json"
    save_journal(path, Journal(key="k", machine="m", trials=[UNJUDGED]))
    assert open_journal(path, "other", "m", restart=False).trials == []
    assert open_journal(path, "k", "m", restart=True).trials == []
    save_journal(
        path, Journal(key="k", machine="m", trials=[UNJUDGED], schema_version=SCHEMA_VERSION + 1)
    )
    assert open_journal(path, "k", "m", restart=False).trials == []
    path.write_text("{", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert open_journal(path, "k", "m", restart=False).trials == []
    assert "m.json cannot be read and starts anew" in caplog.text
