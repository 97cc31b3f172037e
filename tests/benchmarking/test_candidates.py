"""The matrix of a benchmark, its groups, and a run that goes on after it was killed."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import graphs
import msgspec
import numpy as np
import onnx
import pytest
from colours import RECIPE, TINY, brightest, write_images

from qbench.benchmarking import candidates as module
from qbench.benchmarking.benchmark import Options, benchmark
from qbench.benchmarking.judging.feeding import Feeding
from qbench.benchmarking.judging.judges import ClassifyJudge
from qbench.benchmarking.judging.labelled_data import LabelledData
from qbench.benchmarking.ledger import Cell
from qbench.benchmarking.result import FEW_LOADS, UNTRUSTED, Row
from qbench.benchmarking.sessions.session import Facts, LocalSession
from qbench.benchmarking.stats import Interval
from qbench.benchmarking.timing.schedule import Measurement, measure_blocks
from qbench.benchmarking.timing.sittings import Reload
from qbench.data.choice import DataChoice
from qbench.data.samples import Sample
from qbench.errors import DataError, InconclusiveError, ModelError, UsageError
from qbench.model.load import load
from qbench.runtimes.base import Runner
from qbench.runtimes.ort.runner import OrtRunner

from .memory import Memory

QUICK = Options(settings=TINY)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(brightest(), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.fixture
def images(tmp_path: Path) -> LabelledData:
    """Three images, of which one lies in a wrong folder."""
    folder = write_images(tmp_path / "imgs", [(0, 0), (1, 1), (2, 0)])
    return LabelledData(DataChoice(folder, RECIPE))


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time that a model was judged."""
    found: list[int] = []
    judge = ClassifyJudge.judge

    def spy(self: ClassifyJudge, runner: Any) -> Any:
        found.append(1)
        return judge(self, runner)

    monkeypatch.setattr(ClassifyJudge, "judge", spy)
    return found


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many candidates were timed together, for each group."""
    found: list[int] = []

    def spy(timers: Sequence[Any], *others: Any, **options: Any) -> Measurement:
        found.append(len(timers))
        return measure_blocks(timers, *others, **options)

    monkeypatch.setattr(module, "measure_blocks", spy)
    return found


def axes(rows: Sequence[Row]) -> list[tuple[str, int, int]]:
    return [(row.precision, row.batch, row.threads) for row in rows]


def test_every_batch_size_and_number_of_threads_is_a_row(model: Path) -> None:
    options = replace(QUICK, batches=(1, 4), threads=(1, 2))
    rows = benchmark(model, precisions=["fp32", "fp16"], options=options).rows
    assert axes(rows) == [
        (precision, batch, threads)
        for precision in ("fp32", "fp16")
        for batch in (1, 4)
        for threads in (1, 2)
    ]
    assert {row.error for row in rows} == {None}


def test_a_batch_is_fed_with_as_many_samples(model: Path, images: LabelledData) -> None:
    """Five of three images: the first two come again."""
    fed: list[np.ndarray] = []
    options = replace(QUICK, batches=(5,))
    sample = Feeding.sample

    def spy(self: Feeding, runner: Runner, batch: int | None) -> Sample:
        found = sample(self, runner, batch)
        fed.append(found.feeds["x"])
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Feeding, "sample", spy)
        (row,) = benchmark(model, precisions=["fp32"], images=images, options=options).rows
    assert row.batch == 5
    assert row.throughput_per_s == pytest.approx(5e3 / row.latency_ms.median)  # type: ignore[union-attr]
    (array,) = fed
    assert array.shape == (5, 3, 8, 8)
    assert not np.array_equal(array[0], array[1])
    np.testing.assert_array_equal(array[3:], array[:2])


def test_ratios_are_per_image(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    time_block = LocalSession.time_block

    def as_long_for_any_batch(self: LocalSession, calls: int, lead: int) -> Any:
        return time_block(self, calls, lead)._replace(figure=0.008)

    monkeypatch.setattr(LocalSession, "time_block", as_long_for_any_batch)
    options = replace(QUICK, batches=(1, 8))
    rows = benchmark(model, precisions=["fp32"], options=options).rows
    assert [row.ratio.value for row in rows if row.ratio] == pytest.approx([1, 8])


def test_a_fixed_batch_that_is_not_the_one_asked_for(tmp_path: Path) -> None:
    onnx.save(brightest(4), tmp_path / "m.onnx")
    options = replace(QUICK, batches=(4, 8))
    four, eight = benchmark(tmp_path / "m.onnx", precisions=["fp32"], options=options).rows
    assert (four.error, four.batch, four.notes) == (None, 4, four.notes)
    assert eight.batch == 8
    assert eight.latency_ms is None
    assert eight.error == (
        "the model's batch is fixed to 4, not 8; export it with an open batch, "
        "or leave out --batch 8"
    )
    with pytest.raises(DataError, match="the model's batch is fixed to 4, not 2"):
        benchmark(tmp_path / "m.onnx", precisions=["fp32"], options=replace(QUICK, batches=(2,)))


def test_a_batch_that_the_graph_cannot_run(tmp_path: Path) -> None:
    b = graphs.Builder(("N", 3, 8, 8))
    onnx.save(
        b.model(b.node("Reshape", "y", b.x, b.constant("s", np.array([1, 192])))),
        tmp_path / "m.onnx",
    )
    options = replace(QUICK, batches=(1, 2))
    one, two = benchmark(tmp_path / "m.onnx", precisions=["fp32"], options=options).rows
    assert one.error is None
    assert str(two.error).startswith("the model does not run with a batch of 2: ")


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"batches": (0,)}, "0 is no batch size; give at least 1"),
        ({"threads": ()}, "no number of threads to measure"),
        ({"threads": (-1,)}, "-1 is no number of threads; give at least 0"),
        ({"threads": (1, 1025)}, "a number of threads of 1025 is too large to measure; give"),
        ({"streams": (1025,), "mode": "throughput"}, "a number of streams of 1025 is too large"),
        ({"batches": (65537,)}, "a batch size of 65537 is too large to measure; give at most"),
        ({"streams": (1, 4)}, "4 streams put calls in flight at the same time; that needs --mode"),
        ({"mode": "paced"}, "mode paced starts calls by the clock; add --rate 30"),
        ({"rate": 30.0}, "a rate of 30 calls a second needs --mode paced"),
        ({"rate": -2.0, "mode": "paced"}, "a rate of -2 starts no calls"),
        ({"rate": math.inf, "mode": "paced"}, "a rate of inf starts no calls"),
        ({"rate": math.nan, "mode": "paced"}, "a rate of nan starts no calls"),
        ({"rate": 0.01, "mode": "paced"}, "a rate of 0.01 starts no call in the 60 s that a group"),
        ({"mode": "througput"}, "unknown mode 'througput'; choose from latency, throughput, paced"),
    ],
)
def test_axes_that_cannot_be_measured(axes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Options(**axes)


def test_a_variant_is_judged_once(model: Path, images: LabelledData, judged: list[int]) -> None:
    options = replace(QUICK, batches=(1, 2), threads=(1, 2))
    rows = benchmark(model, precisions=["fp32", "fp16"], images=images, options=options).rows
    assert len(judged) == 2
    accuracies = [row.accuracy for row in rows]
    assert accuracies[:4] == [accuracies[0]] * 4
    assert accuracies[4:] == [accuracies[4]] * 4
    assert accuracies[0] is not None
    assert accuracies[0].difference is None
    assert accuracies[4] is not None
    assert accuracies[4].difference == Interval(0, 0, 0)


def test_every_group_has_the_baseline(
    model: Path, groups: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GROUP", 3)
    options = replace(QUICK, batches=tuple(range(1, 7)))
    rows = benchmark(model, precisions=["fp32"], options=options).rows
    assert groups == [3, 3, 2]
    assert [row.batch for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[0].ratio is not None
    assert rows[0].ratio.value == 1
    assert all(row.ratio is not None and row.ratio.value != 1 for row in rows[1:])


def test_only_a_group_is_loaded(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GROUP", 3)
    loaded: list[int] = []
    most = [0]
    opened, close = LocalSession.__init__, LocalSession.close

    def count(self: LocalSession, task: Any) -> None:
        opened(self, task)
        loaded.append(id(self))
        most[0] = max(most[0], len(loaded))

    def forget(self: LocalSession, *, at_once: bool = False) -> None:
        loaded.remove(id(self))
        close(self, at_once=at_once)

    monkeypatch.setattr(LocalSession, "__init__", count)
    monkeypatch.setattr(LocalSession, "close", forget)
    benchmark(model, precisions=["fp32"], options=replace(QUICK, batches=tuple(range(1, 9))))
    assert most == [3]
    assert loaded == []


def test_rows_are_kept_group_by_group(
    model: Path, images: LabelledData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GROUP", 2)
    memory = Memory()
    options = replace(QUICK, batches=(1, 2, 3), ledger=memory)
    result = benchmark(model, precisions=["fp32", "int4"], images=images, options=options)
    rows = [f"row fp32 {batch}" for batch in (1, 2, 3)] + [f"row int4 {n}" for n in (1, 2, 3)]
    assert memory.log == ["accuracy fp32", *rows]
    assert tuple(memory.rows.values()) == result.rows
    first, *_ = memory.rows
    assert first == Cell(
        model="m.onnx", sha256=load(model).sha256, precision="fp32", provider="cpu"
    )
    samples = memory.samples[first]
    assert samples is not None
    assert np.median(samples) * 1e3 == pytest.approx(result.rows[0].latency_ms.median)  # type: ignore[union-attr]
    assert memory.samples[[*memory.rows][-1]] is None  # it could not be made


class KilledError(Exception):
    """Stands for what ends a run."""


def test_a_run_that_was_killed_goes_on(
    model: Path, images: LabelledData, judged: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GROUP", 2)
    memory, rounds = Memory(), []

    def kill(*_: Any) -> None:
        rounds.append(1)
        if len(rounds) == 8:  # in the second group
            raise KilledError

    options = replace(QUICK, batches=(1, 2, 3), ledger=memory, on_round=kill)
    asked: dict[str, Any] = {"precisions": ["fp32", "fp16"], "images": images}
    with pytest.raises(KilledError):
        benchmark(model, **asked, options=options)
    before = dict(memory.rows)
    assert axes(list(before.values())) == [("fp32", 1, 0), ("fp32", 2, 0)]
    judged.clear()
    timed: list[int] = []
    options = replace(options, on_round=lambda *_: timed.append(1))
    rows = benchmark(model, **asked, options=options).rows
    assert axes(rows) == [(name, batch, 0) for name in ("fp32", "fp16") for batch in (1, 2, 3)]
    assert list(rows[:2]) == list(before.values())
    assert len(judged) == 1  # fp16: the baseline's answers were kept
    assert rows[3].accuracy is not None
    assert rows[3].accuracy.difference == Interval(0, 0, 0)
    assert all(row.ratio is not None for row in rows)
    timed.clear()
    again = benchmark(model, **asked, options=options)
    assert (again.rows, timed) == (rows, [])
    controls = [row.control.value for row in rows if row.control]
    assert len(controls) == 6
    assert again.control is not None
    assert again.control.value == max(controls, key=lambda value: abs(math.log(value)))


def test_the_first_job_stays_the_first_where_only_its_accuracy_was_kept(
    model: Path, images: LabelledData
) -> None:
    """As where it waited to be timed while rows that are not timed were finished."""
    memory = Memory()
    asked: dict[str, Any] = {"precisions": ["fp32", "fp16"], "images": images}
    options = replace(QUICK, ledger=memory)
    before = benchmark(model, **asked, options=options).rows
    del memory.rows[next(iter(memory.rows))]
    after = benchmark(model, **asked, options=options).rows
    assert [row.accuracy for row in after] == [row.accuracy for row in before]


def test_an_accuracy_alone_is_no_row(model: Path, images: LabelledData, judged: list[int]) -> None:
    memory = Memory()

    def kill(*_: Any) -> None:
        raise KilledError

    options = replace(QUICK, ledger=memory, on_round=kill)
    with pytest.raises(KilledError):
        benchmark(model, precisions=["fp32"], images=images, options=options)
    assert (memory.log, memory.rows) == (["accuracy fp32"], {})
    (row,) = benchmark(
        model, precisions=["fp32"], images=images, options=replace(QUICK, ledger=memory)
    ).rows
    assert row.latency_ms is not None
    assert row.accuracy is not None
    assert len(judged) == 1


def test_what_failed_is_tried_again(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory()
    options = replace(QUICK, batches=(1, 2), ledger=memory)
    opened = LocalSession.__init__

    def fail(self: LocalSession, task: Any) -> None:
        if task.load.batch == 2:
            raise ModelError("out of memory")
        opened(self, task)

    with monkeypatch.context() as patch:
        patch.setattr(LocalSession, "__init__", fail)
        first, second = benchmark(model, precisions=["fp32"], options=options).rows
    assert second.error == "out of memory"
    rows = benchmark(model, precisions=["fp32"], options=options).rows
    assert rows[0] == first
    assert rows[1].error is None


def failing(monkeypatch: pytest.MonkeyPatch, batch: int, after: int) -> None:
    """Let the candidate of `batch` fail at one of its blocks."""
    time_block, blocks = LocalSession.time_block, []

    def fail(self: LocalSession, calls: int, lead: int) -> Any:
        if self.facts.batch == batch:
            blocks.append(1)
            if len(blocks) > after:
                raise ModelError("it crashed")
        return time_block(self, calls, lead)

    monkeypatch.setattr(LocalSession, "time_block", fail)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_one_that_fails_while_it_is_timed_is_left_out(
    batch: int, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, batch, after=6)
    rows = benchmark(model, precisions=["fp32"], options=replace(QUICK, batches=(1, 2, 3))).rows
    assert [row.error for row in rows] == [
        "it crashed" if row.batch == batch else None for row in rows
    ]
    ratios = [row.ratio.value for row in rows if row.ratio]
    assert len(ratios) == 2
    assert ratios[0] == 1  # the first that runs is the baseline


OFTEN = Options(
    settings=msgspec.structs.replace(TINY, max_rounds=20, max_seconds=60.0, half_width=1e-9)
)
"""Rounds for four sittings."""


@pytest.fixture
def fast_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sittings be as short as if loading took no time."""
    monkeypatch.setattr("qbench.benchmarking.timing.sittings._ROUNDS_PER_RELOAD", 0.0)


@pytest.mark.usefixtures("fast_loading")
def test_rows_tell_how_many_loads_were_timed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, started = OrtRunner.__init__, []

    def count(self: OrtRunner, *arguments: Any, **options: Any) -> None:
        started.append(1)
        opened(self, *arguments, **options)

    monkeypatch.setattr(OrtRunner, "__init__", count)
    rows = benchmark(model, precisions=["fp32", "int4"], options=OFTEN).rows
    assert [row.loads for row in rows] == [4, 0]
    assert len(started) == 4
    assert FEW_LOADS not in rows[0].notes


def test_rows_that_were_not_loaded_anew_say_so(model: Path) -> None:
    rows = benchmark(model, precisions=["fp32", "fp16"], options=QUICK).rows
    assert [row.loads for row in rows] == [1, 1]
    assert all(FEW_LOADS in row.notes for row in rows)


def test_a_row_that_is_compared_with_nothing_needs_no_loads(model: Path) -> None:
    (row,) = benchmark(model, precisions=["fp32"], options=QUICK).rows
    assert (row.loads, FEW_LOADS in row.notes) == (1, False)


@pytest.mark.usefixtures("fast_loading")
@pytest.mark.parametrize("slow", [1, 2])
def test_a_row_that_takes_long_to_load_says_so_and_a_baseline_that_does_says_it_of_all(
    slow: int, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(self: LocalSession) -> tuple[Reload, ...]:
        return (Reload(lambda: self.reload, 1e3 if self.facts.batch == slow else 0.0),)

    monkeypatch.setattr(LocalSession, "reloads", property(slowly))
    rows = benchmark(model, precisions=["fp32"], options=replace(OFTEN, batches=(1, 2, 3))).rows
    assert [row.loads for row in rows] == [1 if row.batch == slow else 4 for row in rows]
    noted = [row.batch for row in rows if FEW_LOADS in row.notes]
    assert noted == ([1, 2, 3] if slow == 1 else [2])


@pytest.mark.usefixtures("fast_loading")
def test_one_that_cannot_be_loaded_again_is_left_out(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reload = LocalSession.reload

    def fail(self: LocalSession) -> None:
        if self.facts.batch == 2:
            raise ModelError("no memory")
        reload(self)

    monkeypatch.setattr(LocalSession, "reload", fail)
    rows = benchmark(model, precisions=["fp32"], options=replace(OFTEN, batches=(1, 2, 3))).rows
    assert [row.error for row in rows] == [None, "no memory", None]
    assert rows[2].ratio is not None


def test_a_baseline_that_fails_in_a_later_group_ends_the_rows_of_that_group(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GROUP", 2)
    failing(monkeypatch, batch=1, after=20)
    rows = benchmark(model, precisions=["fp32"], options=replace(QUICK, batches=(1, 2, 3))).rows
    assert [row.error for row in rows] == [
        None,
        None,
        "there is nothing to compare with: the baseline failed: it crashed",
    ]


def test_a_group_that_was_not_steady_makes_the_run_untrusted(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GROUP", 2)
    controls = iter([Interval(1, 0.99, 1.01), Interval(1.03, 1.02, 1.04)])
    measure = module.measure_blocks

    def disturbed(*arguments: Any, **options: Any) -> Measurement:
        found = measure(*arguments, **options)
        found.__dict__["control"] = next(controls)
        return found

    monkeypatch.setattr(module, "measure_blocks", disturbed)
    memory = Memory()
    options = replace(QUICK, batches=(1, 2, 3), ledger=memory)
    result = benchmark(model, precisions=["fp32"], options=options)
    assert (result.trusted, result.control) == (False, Interval(1.03, 1.02, 1.04))
    assert [UNTRUSTED in row.notes for row in result.rows] == [False, False, True]
    assert not benchmark(model, precisions=["fp32"], options=options).trusted  # all from the ledger


class Restless:
    """A GPU that is disturbed during some of its blocks."""

    def __init__(self, *blocks: int) -> None:
        self._blocks = blocks
        self.count = 0

    def before_block(self) -> None:
        self.count += 1

    def after_block(self) -> str | None:
        return "the GPU throttled" if not self._blocks or self.count in self._blocks else None


def on_gpu(monkeypatch: pytest.MonkeyPatch, watch: Restless) -> list[Callable[[], set[int]]]:
    """Let candidates be on a watched GPU; return what tells each watch the processes."""
    told: list[Callable[[], set[int]]] = []

    def opened(own: Callable[[], set[int]]) -> Restless:
        told.append(own)
        return watch

    monkeypatch.setattr(module, "_ON_CPU", set())
    monkeypatch.setattr(module, "open_gpu_watch", opened)
    return told


def test_disturbed_rounds_are_counted(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = on_gpu(monkeypatch, Restless(3, 5, 8))
    rows = benchmark(model, precisions=["fp32"], options=replace(QUICK, batches=(1, 2))).rows
    assert sum(row.voided_rounds for row in rows) == 3
    assert [own() for own in told] == [{os.getpid()}]
    assert not any("given up" in note for row in rows for note in row.notes)


def test_a_watch_knows_each_process_of_a_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    told = on_gpu(monkeypatch, Restless())
    session = SimpleNamespace(facts=Facts("cuda", 1.0, (), pid=4711))
    module._watch([SimpleNamespace(session=session)])  # type: ignore[list-item]
    own = told[0]
    assert own() == {os.getpid(), 4711}
    session.facts = replace(session.facts, pid=4712)
    assert own() == {os.getpid(), 4711, 4712}  # NVML tells of the former for a second


def test_candidates_on_the_cpu_are_not_watched(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "open_gpu_watch", pytest.fail)
    (row,) = benchmark(model, precisions=["fp32"], options=QUICK).rows
    assert row.voided_rounds == 0


def test_a_measurement_that_was_given_up_says_so(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = msgspec.structs.replace(TINY, min_rounds=10, max_rounds=10, max_seconds=1)
    on_gpu(monkeypatch, Restless(*range(13, 1000)))  # after six rounds of two blocks
    (row,) = benchmark(model, precisions=["fp32"], options=Options(settings=settings)).rows
    assert row.ratio is not None
    assert row.voided_rounds == 50
    assert "given up after 50 voided rounds: the GPU throttled" in row.notes


def test_a_gpu_that_is_never_free_leaves_rows_with_the_reason(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_gpu(monkeypatch, Restless())
    with pytest.raises(
        InconclusiveError, match="50 rounds were voided, since the GPU throttled; me"
    ):
        benchmark(model, precisions=["fp32"], options=QUICK)


def test_the_profile_is_there_where_it_is_asked_for(model: Path) -> None:
    (row,) = benchmark(model, precisions=["fp32"], options=replace(QUICK, profile=True)).rows
    assert sum(part.share for part in row.profile) == pytest.approx(1)
    assert any("Conv" in part.operator for part in row.profile)
    (row,) = benchmark(model, precisions=["fp32"], options=QUICK).rows
    assert row.profile == ()


def test_a_profile_that_fails_costs_no_figures(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: LocalSession) -> None:
        raise ModelError("no memory")

    monkeypatch.setattr(LocalSession, "profile", fail)
    (row,) = benchmark(model, precisions=["fp32"], options=replace(QUICK, profile=True)).rows
    assert (row.error, row.notes[-1]) == (None, "not profiled: no memory")
    assert row.latency_ms is not None
