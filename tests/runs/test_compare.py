"""What changed between two runs."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import run_parts
from run_parts import accuracy, ratio, row, run

from qbench.benchmarking.judging.judged import Outcome
from qbench.benchmarking.result import Accuracy, Figure
from qbench.benchmarking.stats import Interval
from qbench.errors import DataError, UsageError
from qbench.runs.compare import compare, find_run, part_of, read_document
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


def test_throughput_is_lost_by_calls_that_take_long() -> None:
    """One in ten takes ten times as long: the median call is what it was."""
    before = row(mode="throughput", throughput_per_s=500.0)
    after = row(mode="throughput", throughput_per_s=265.0)
    slow = np.where(np.arange(100) % 10 == 0, 10 * CALLS, CALLS)
    _, speed = both(run(before, samples=[CALLS]), run(after, samples=[slow]))
    assert speed is not None
    assert (speed.before, speed.after) == pytest.approx((2.0, 1e3 / 265))
    assert speed.ratio == pytest.approx(1 / 1.9, rel=0.02)
    assert speed.verdict == "slower"
    _, calls = both(run(row(), samples=[CALLS]), run(row(), samples=[slow]))
    assert calls is not None
    assert calls.ratio == pytest.approx(1)


def test_the_baseline_is_that_of_the_ratios_where_another_row_stands_first() -> None:
    """As in a run that went on, whose first row could not be measured before."""
    other = run_parts.environment(cpu="Another")
    rows = row(ratio=ratio(0.5)), row("int8", ratio=ratio(1.0, 0.0)), row("fp16", ratio=ratio(2.0))
    first, own, third = compare(run(*rows), run(*rows, environment=other)).rows
    assert own.speed is None
    assert first.speed is not None
    assert third.speed is not None
    assert (first.speed.before, third.speed.after) == (0.5, 2.0)


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


def test_outcomes_that_are_kept_are_paired() -> None:
    """The five that changed tell more than two accuracies of 200 each."""
    then = [True] * 160 + [False] * 40
    now = [True] * 155 + [False] * 45
    before = run(row(accuracy=accuracy(0.8)), judged=[run_parts.judged(*then)])
    after = run(row(accuracy=accuracy(0.775)), judged=[run_parts.judged(*now)])
    found, _ = both(before, after)
    assert found is not None
    assert found.ci_low is not None
    assert found.ci_high is not None
    assert -0.06 < found.ci_low < -0.025 < found.ci_high < 0
    assert found.verdict == "worse"


def test_outcomes_of_other_images_are_not_paired() -> None:
    before = run(row(accuracy=accuracy(0.8)), judged=[run_parts.judged(True, False)], images="a")
    after = run(row(accuracy=accuracy(0.8)), judged=[run_parts.judged(True, False)], images="b")
    found, _ = both(before, after)
    assert found is not None
    assert found.ci_low is None


def with_top5(value: float, top5: float) -> Accuracy:
    others = (Figure("top5", top5, top5 - 0.01, top5 + 0.01),)
    return msgspec.structs.replace(accuracy(value), others=others)


def test_further_figures_are_compared_too() -> None:
    before, after = run(row(accuracy=with_top5(0.8, 0.95))), run(row(accuracy=with_top5(0.8, 0.9)))
    found, _ = both(before, after)
    assert found is not None
    (top5,) = found.others
    assert (top5.metric, top5.before, top5.after) == ("top5", 0.95, 0.9)
    assert top5.difference == pytest.approx(-0.05)
    assert (top5.ci_low, top5.verdict) == (None, None)  # the outcomes are not kept
    assert both(run(row(accuracy=accuracy(0.8))), after)[0].others == ()  # type: ignore[union-attr]


def test_further_figures_are_paired_where_outcomes_are_kept() -> None:
    right = [True] * 190 + [False] * 10
    then = run_parts.judged(*[True] * 200)
    now = replace(then, others={"top5": Outcome(0.95, np.array(right))})
    then = replace(then, others={"top5": Outcome(1.0, np.array([True] * 200))})
    before = run(row(accuracy=with_top5(1.0, 1.0)), judged=[then])
    found, _ = both(before, run(row(accuracy=with_top5(1.0, 0.95)), judged=[now]))
    assert found is not None
    (top5,) = found.others
    assert found.verdict == "within noise"
    assert top5.ci_low is not None
    assert top5.ci_high is not None
    assert -0.1 < top5.ci_low < -0.05 < top5.ci_high < 0
    assert top5.verdict == "worse"


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


def test_folders_of_models_count_only_where_names_alone_do_not_tell() -> None:
    names = ("old/a.onnx", "old/b.onnx"), ("new/b.onnx", "new/a.onnx"), ("a/m.onnx", "b/m.onnx")
    old, new, twins = (run(*(row(model=name) for name in of_run)) for of_run in names)
    change = compare(old, new)
    assert [found.notes for found in change.rows] == [
        ("old/b.onnx then, new/b.onnx now",),
        ("old/a.onnx then, new/a.onnx now",),
    ]
    assert [found.model for found in compare(twins, twins).rows] == ["a/m.onnx", "b/m.onnx"]
    assert compare(run(row()), twins).rows == ()


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


def test_parts_of_one_run_were_measured_together() -> None:
    """By ratios to the first row, and not by times, which come from several groups."""
    rows = [
        row(model="old.onnx", sha256="old", ratio=ratio(1.0, 0.0)),
        row("int8", model="old.onnx", sha256="old", ratio=ratio(2.0, 0.02)),
        row(model="new.onnx", sha256="new", ratio=ratio(0.5, 0.01), ms=100.0),
        row("int8", model="new.onnx", sha256="new", ratio=ratio(2.0, 0.02)),
    ]
    seen = [run_parts.judged(True, False)] * 4
    whole = run(*rows, samples=[CALLS] * 4, judged=seen, images=None)
    before, after = part_of(whole, {"old"}), part_of(whole, {"new"})
    assert [found.model for found in before.result.rows] == ["old.onnx"] * 2
    assert (list(after.samples), list(after.judged)) == ([0, 1], [0, 1])
    first, second = compare(before, after, together=True).rows
    assert first.speed is not None
    assert (first.speed.basis, first.speed.before, first.speed.after) == ("time", 2.0, 100.0)
    assert (first.speed.ratio, first.speed.ci_low) == pytest.approx((0.5, 0.49))
    assert second.speed is not None
    assert second.speed.ratio == pytest.approx(1)
    assert second.speed.ci_high == pytest.approx(1 + 0.01 * 2**0.5, abs=1e-3)
    assert second.accuracy is None


def test_rows_that_were_not_timed_have_no_speed() -> None:
    simulated = row(provider="cpu (simulated)", latency_ms=None)
    for together in (True, False):
        (change,) = compare(run(simulated), run(simulated), together=together).rows
        assert change.speed is None


def test_the_latest_run_to_compare_with_is_finished(tmp_path: Path) -> None:
    store = Store(tmp_path / ".qbench")
    begun = []
    for number in range(2):
        asked = run_parts.request(options={"number": number})
        name, claim = store.begin(asked, run_parts.SETTINGS, run_parts.ENVIRONMENT)
        claim.release()
        begun.append(name)
    with pytest.raises(UsageError, match=r"no run in .* is finished; name one by its id"):
        find_run("latest", store, finished=True)
    store.finish(begun[0], run_parts.result(row()), (run_parts.cell(),))
    assert find_run("latest", store, finished=True).id == begun[0]
    for name in ("latest", begun[1]):
        assert find_run(name, store).id == begun[1]


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


@pytest.mark.parametrize("finished", [True, False])
def test_a_document_says_whether_its_run_was_stopped(finished: bool, tmp_path: Path) -> None:
    kept = replace(run(row()), finished=finished)
    (tmp_path / "r.json").write_bytes(msgspec.json.encode(kept.document()))
    assert read_document(tmp_path / "r.json").finished is finished


def test_a_document_of_a_newer_qbench(tmp_path: Path) -> None:
    path = tmp_path / "new.json"
    path.write_bytes(msgspec.json.encode(run_parts.result(schema_version=2)))
    with pytest.raises(DataError, match="has schema_version 2, this qbench reads 1; update qbench"):
        find_run(str(path), Store(tmp_path))
