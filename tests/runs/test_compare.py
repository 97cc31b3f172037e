"""What changed between two runs."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import run_parts
from run_parts import accuracy, ratio, row, run

from qbench.benchmarking.stats import Interval
from qbench.errors import DataError
from qbench.runs.compare import compare, find_run, part_of
from qbench.runs.comparing.changes import AccuracyChange, SpeedChange
from qbench.runs.run import Run
from qbench.runs.store import Store

CALLS = np.full(100, 0.002)


def both(before: Run, after: Run) -> tuple[AccuracyChange | None, SpeedChange | None]:
    """Return the change of accuracy and of speed of the only row in common."""
    (change,) = compare(before, after).rows
    return change.accuracy, change.speed


def test_times_are_compared_on_one_machine() -> None:
    change = compare(run(row(ms=2.0), samples=[CALLS]), run(row(ms=4.0), samples=[2 * CALLS]))
    (changed,) = change.rows
    assert changed.speed is not None
    assert (changed.speed.basis, changed.speed.before, changed.speed.after) == ("time", 2.0, 4.0)
    assert changed.speed.ratio == pytest.approx(0.5)
    assert changed.speed.verdict == "slower"
    assert changed.speed.ci_low is not None
    assert changed.speed.ci_low < 0.5
    assert (change.machine, change.software, change.together) == ((), (), False)


def test_the_same_times_of_two_sessions_settle_nothing_finer_than_sessions_do() -> None:
    _, speed = both(run(row(), samples=[CALLS]), run(row(), samples=[CALLS]))
    assert speed is not None
    assert speed.verdict == "inconclusive"


def test_times_of_other_machines_are_refused_and_the_reason_is_told() -> None:
    other = run_parts.environment(cpu="Another", cores=8)
    rows = row(ratio=ratio(1.0, 0.0)), row("int8", ratio=ratio(2.0))
    now = row(ratio=ratio(1.0, 0.0)), row("int8", ratio=ratio(1.0))
    samples = [CALLS, CALLS]
    change = compare(run(*rows, samples=samples), run(*now, samples=samples, environment=other))
    assert change.machine == ("CPU A CPU then, Another now", "cores 2 then, 8 now")
    first, second = change.rows
    assert first.speed is None
    assert second.speed is not None
    assert (second.speed.basis, second.speed.before, second.speed.after) == ("own baseline", 2, 1)
    assert second.speed.ratio == pytest.approx(0.5)
    assert second.speed.verdict == "slower"


def test_speed_ups_over_different_baselines_are_not_compared() -> None:
    other = run_parts.environment(cpu="Another")
    before = run(row(ratio=ratio(1.0, 0.0)), row("int8", ratio=ratio(2.0)))
    after = run(
        row("fp16", ratio=ratio(1.0, 0.0)), row("int8", ratio=ratio(2.0)), environment=other
    )
    (change,) = compare(before, after).rows
    assert change.speed is None


def test_without_samples_the_speed_ups_have_an_interval() -> None:
    rows = row(ratio=ratio(1.0, 0.0)), row("int8", ratio=ratio(2.0))
    first, second = compare(run(*rows), run(*rows)).rows
    assert first.speed is not None
    assert (first.speed.basis, first.speed.ci_low, first.speed.verdict) == ("time", None, None)
    assert second.speed is not None
    assert (second.speed.basis, second.speed.verdict) == ("own baseline", "same")


def test_an_untrusted_run_settles_nothing() -> None:
    before = run(row(), samples=[CALLS], trusted=False)
    change = compare(before, run(row(), samples=[2 * CALLS]))
    assert not change.trusted
    assert change.rows[0].speed is not None
    assert change.rows[0].speed.verdict == "inconclusive"


@pytest.mark.parametrize(("error", "verdict"), [(1.0, "slower"), (1.1, "same")])
def test_what_the_control_errs_by_is_no_difference(error: float, verdict: str) -> None:
    noisy = run(row(), samples=[CALLS], control=Interval(error, 0.9, 1.2))
    _, speed = both(noisy, run(row(), samples=[1.1 * CALLS]))
    assert speed is not None
    assert speed.verdict == verdict


def test_accuracy_on_the_same_images_has_an_interval() -> None:
    found, _ = both(run(row(accuracy=accuracy(0.8))), run(row(accuracy=accuracy(0.7))))
    assert found is not None
    assert found.verdict == "worse"
    assert found.difference == pytest.approx(-0.1)
    assert found.ci_low == pytest.approx(-0.1 - 0.02 * 2**0.5)


@pytest.mark.parametrize("images", [(None, None), ("one", "other"), ("one", None)])
def test_accuracy_on_other_images_has_none(images: tuple[str | None, str | None]) -> None:
    before, after = (
        run(row(accuracy=accuracy(value)), images=known)
        for value, known in zip((0.8, 0.7), images, strict=True)
    )
    found, _ = both(before, after)
    assert found is not None
    assert found.difference == pytest.approx(-0.1)
    assert (found.ci_low, found.verdict) == (None, None)


def test_a_paired_difference_to_one_first_row_is_narrower() -> None:
    def judged(value: float) -> Run:
        paired = Interval(value - 0.8, value - 0.8 - 0.005, value - 0.8 + 0.005)
        first, second = accuracy(0.8), accuracy(value, difference=paired)
        return run(row(accuracy=first), row("int8", accuracy=second))

    first, second = compare(judged(0.79), judged(0.78)).rows
    assert first.accuracy is not None
    assert (first.accuracy.ci_low, first.accuracy.ci_high) == (0, 0)  # the same file as before
    assert second.accuracy is not None
    assert second.accuracy.ci_high == pytest.approx(-0.01 + 0.005 * 2**0.5)
    assert second.accuracy.verdict == "worse"


def test_other_metrics_are_not_compared() -> None:
    other = msgspec.structs.replace(accuracy(0.8), metric="map")
    assert both(run(row(accuracy=accuracy(0.8))), run(row(accuracy=other)))[0] is None
    assert both(run(row(accuracy=accuracy(0.8))), run(row()))[0] is None


def test_rows_are_matched_by_what_they_measure() -> None:
    before = run(row(), row("int8"), row("fp16"), row(batch=4))
    after = run(row(batch=4), row("int8"), row(provider="cuda"), row())
    change = compare(before, after)
    labels = [found.label for found in change.rows]
    assert labels == ["m.onnx fp32 cpu batch 4", "m.onnx int8 cpu", "m.onnx fp32 cpu"]
    assert change.only_before == ("m.onnx fp16 cpu",)
    assert change.only_after == ("m.onnx fp32 cuda",)


def test_labels_name_what_is_unusual() -> None:
    unusual = row(batch=2, threads=3, streams=4, mode="throughput")
    (change,) = compare(run(unusual), run(unusual)).rows
    assert change.label == "m.onnx fp32 cpu batch 2 3 threads 4 streams throughput"


def test_one_model_is_compared_with_another_whatever_their_names() -> None:
    change = compare(run(row(model="a.onnx")), run(row(model="b.onnx")))
    assert change.rows[0].notes == ("a.onnx then, b.onnx now",)
    several = run(row(model="b.onnx"), row(model="c.onnx"))
    assert compare(run(row(model="a.onnx")), several).rows == ()


def test_a_row_that_no_longer_runs_is_broken() -> None:
    works, fails = run(row()), run(row(error="no driver"))
    (change,) = compare(works, fails).rows
    assert (change.broken, change.speed) == (True, None)
    assert change.notes == ("does not run now: no driver",)
    (change,) = compare(fails, works).rows
    assert (change.broken, change.notes) == (False, ("did not run then: no driver",))


def test_rows_of_the_same_place_are_matched_in_order() -> None:
    before = run(row(ms=1.0), row(ms=2.0), samples=[CALLS / 2, CALLS])
    changes = compare(before, run(row(ms=1.0), row(ms=2.0), samples=[CALLS / 2, CALLS])).rows
    speeds = [change.speed.before for change in changes if change.speed]
    assert speeds == [1.0, 2.0]


def test_parts_of_one_run_were_timed_together() -> None:
    paired = Interval(-0.1, -0.11, -0.09)
    whole = run(
        row(model="old.onnx", accuracy=accuracy(0.8)),
        row(model="new.onnx", accuracy=accuracy(0.7, difference=paired)),
        samples=[CALLS, 1.5 * CALLS],
        images=None,
    )
    cells = {0: run_parts.cell(sha256="old"), 1: run_parts.cell(sha256="new")}
    whole = Run(whole.id, whole.result, whole.samples, cells)
    before, after = part_of(whole, {"old"}), part_of(whole, {"new"})
    assert (before.result.rows[0].model, list(before.samples), before.cells[0].sha256) == (
        "old.onnx",
        [0],
        "old",
    )
    (change,) = compare(before, after, together=True).rows
    assert change.speed is not None
    assert change.speed.ci_low == change.speed.ci_high == pytest.approx(1 / 1.5)
    assert change.accuracy is not None
    assert (change.accuracy.ci_low, change.accuracy.ci_high) == pytest.approx((-0.11, -0.09))


def test_a_document_stands_for_a_run(tmp_path: Path) -> None:
    path = tmp_path / "before.json"
    kept = run(row(accuracy=accuracy(0.8)))
    path.write_bytes(msgspec.json.encode(kept.result))
    found = find_run(str(path), Store(tmp_path / ".qbench"))
    assert (found.id, found.result, found.samples) == ("before.json", kept.result, {})


def test_documents_that_cannot_be_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(DataError, match=r"no document at none\.json; write one with `qbench bench"):
        find_run("none.json", store)
    for content in (b"{}", b"no json", b""):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(DataError, match=r"bad\.json is no document of `qbench bench --json`"):
            find_run(str(tmp_path / "bad.json"), store)
