"""The candidates of a benchmark: loaded, judged, timed in groups, and written down as rows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from qbench.benchmarking import environment
from qbench.benchmarking.clock import Block
from qbench.benchmarking.judges import Judged
from qbench.benchmarking.judging import Accuracies
from qbench.benchmarking.matrix import Job
from qbench.benchmarking.options import GROUP, Options
from qbench.benchmarking.result import UNTRUSTED, Accuracy, Row, RunResult
from qbench.benchmarking.rows import Findings, Timing, row_of
from qbench.benchmarking.schedule import Measurement, measure_blocks
from qbench.benchmarking.session import LocalSession, Session, Task
from qbench.benchmarking.speedup import reasons_of
from qbench.benchmarking.stats import Interval
from qbench.benchmarking.variants import Variant
from qbench.errors import DataError, EngineError, ModelError, QbenchError, UnfitError
from qbench.runtimes.ort_providers import ProviderChoice

_FAILURES = (UnfitError, ModelError, EngineError, DataError)
"""What is wrong with one candidate, and not with what was asked for."""


@dataclass(eq=False)
class Candidate:
    """A job on its way to a row."""

    job: Job
    index: int
    variant: Variant
    session: Session | None = None
    accuracy: Accuracy | None = None
    error: QbenchError | None = None

    def time_block(self, calls: int, *, lead: int = 0) -> Block:
        """Time calls in its session; they are compared by seconds per image."""
        assert self.session is not None  # it was loaded
        try:
            block = self.session.time_block(calls, lead)
        except QbenchError as error:
            self.error = error
            raise
        return block._replace(figure=block.figure / self.session.facts.batch)

    def close(self, *, at_once: bool = False) -> None:
        """Let go of the session."""
        if self.session is not None:
            self.session.close(at_once=at_once)

    def row(self, timing: Timing | None) -> Row:
        """Return its row."""
        facts = self.session.facts if self.session else None
        found = Findings(self.job, self.variant, facts, self.accuracy, self.error)
        return row_of(found, timing)


class Bench:
    """Runs jobs in groups that share their rounds; its candidates live in its context.

    The baseline, which is the first candidate that runs, stays loaded and is timed in every group,
    so that each ratio comes from rounds that both took part in.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._open: list[Candidate] = []
        self._baseline: Candidate | None = None
        self._accuracies = Accuracies(options.ledger)
        self._controls: list[Interval] = []
        self._rows: dict[int, Row] = {}
        self._failures: list[QbenchError] = []

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for candidate in self._open:
            candidate.close(at_once=kind is not None)

    def run(self, jobs: Sequence[Job]) -> RunResult:
        """Return every row: those that the ledger has, and all others by measuring them.

        Raises:
            QbenchError: None can run; the reason of the first.
        """
        kept = self._kept(jobs)
        group: list[Candidate] = []
        for index, job in enumerate(jobs):
            if index in self._rows:
                continue
            candidate = self._prepared(index, job)
            if candidate.error is not None or job.cell.simulated:
                self._finish(candidate)
                continue
            if kept is not None and self._baseline is None:
                self._baseline = self._prepared(*kept)
                if self._baseline.error is not None:
                    raise self._baseline.error
            group.append(candidate)
            if len(group) == (GROUP if self._baseline is None else GROUP - 1):
                self._time(group)
                group = []
        self._time(group)
        if len(self._failures) == len(jobs):
            raise self._failures[0]
        return self._result()

    def _kept(self, jobs: Sequence[Job]) -> tuple[int, Job] | None:
        """Take over the rows that the ledger has; return the job of the baseline among them."""
        ledger, baseline = self._options.ledger, None
        for index, job in enumerate(jobs if ledger else ()):
            row = ledger.find(job.cell) if ledger else None
            if row is None or row.error is not None:
                continue
            self._rows[index] = row
            self._accuracies.recall(job.cell)
            if baseline is None and row.latency_ms is not None:
                baseline = (index, job)
        return baseline

    def _prepared(self, index: int, job: Job) -> Candidate:
        """Make, load and judge a candidate; a failure is kept for its row."""
        variant = job.make()
        candidate = Candidate(job, index, variant, error=variant.problem)
        self._open.append(candidate)
        if candidate.error is not None:
            return candidate
        try:
            candidate.session = LocalSession(self._task(candidate))
        except _FAILURES as error:
            candidate.error = error
            return candidate
        try:
            self._judge(candidate, candidate.session)
        except (UnfitError, ModelError, EngineError) as error:
            candidate.error = error
        except DataError as error:
            if variant.flavour is None:
                raise
            candidate.error = error  # an engine may have been built for other shapes
        return candidate

    def _judge(self, candidate: Candidate, session: Session) -> None:
        def judge() -> Judged | None:
            if candidate.job.feeding.images is not None:
                variant = candidate.variant
                self._options.on_step(f"accuracy of {variant.precision} on {variant.provider}")
            return session.judge()

        candidate.accuracy = self._accuracies.of(candidate.job.cell, judge)

    def _task(self, candidate: Candidate) -> Task:
        variant, options = candidate.variant, self._options
        assert variant.path is not None  # what cannot be made is not loaded
        choice = ProviderChoice(
            "cpu" if variant.simulated else variant.provider,
            allow_fallback=options.allow_fallback,
            precision=variant.arithmetic or "fp32",
            cache=options.cache,
        )
        return Task(
            variant.path,
            choice,
            variant.flavour,
            variant.simulated,
            candidate.job.feeding,
            candidate.job.load,
            options.cuda_backend,
        )

    def _time(self, group: Sequence[Candidate]) -> None:
        """Time a group with the baseline, and finish its rows.

        One that fails while it is timed is left out, and the others are timed again.
        """
        left = list(group)
        while left:
            lanes = left if self._baseline is None else [self._baseline, *left]
            try:
                measurement = self._measured(lanes)
            except _FAILURES as error:
                lost = self._lost(lanes, error)
                if not lost:
                    raise
                for candidate in lost:
                    left.remove(candidate)
                    self._finish(candidate)
                continue
            self._baseline = lanes[0]
            for lane, candidate in enumerate(lanes):
                if candidate in left:
                    self._finish(candidate, Timing(measurement, lane))
            return

    def _measured(self, lanes: Sequence[Candidate]) -> Measurement:
        self._options.on_step(f"timing {len(lanes)} candidates")
        timers = [candidate.time_block for candidate in lanes]
        measurement = measure_blocks(timers, self._options.settings, self._options.on_round)
        self._controls.append(measurement.control)
        return measurement

    def _lost(self, lanes: Sequence[Candidate], error: QbenchError) -> list[Candidate]:
        """Return whose rows an error ends: one candidate's, or with the baseline all of them."""
        if self._baseline is None or self._baseline.error is None:
            return [candidate for candidate in lanes if candidate.error is not None]
        for candidate in lanes[1:]:
            candidate.error = type(error)(
                f"there is nothing to compare with: the baseline failed: {error}"
            )
        return list(lanes[1:])

    def _finish(self, candidate: Candidate, timing: Timing | None = None) -> None:
        """Write down the row of a candidate and hand it to the ledger."""
        row = self._explained(candidate, candidate.row(timing), timing)
        self._rows[candidate.index] = row
        if candidate.error is not None:
            self._failures.append(candidate.error)
        if self._options.ledger is not None:
            samples = timing.samples if timing else None
            self._options.ledger.save(candidate.job.cell, row, samples)
        if candidate is not self._baseline:
            self._open.remove(candidate)
            candidate.close()

    def _explained(self, candidate: Candidate, row: Row, timing: Timing | None) -> Row:
        """Return a row, with what slows INT8 down on a CPU where it is not faster."""
        is_int8 = (candidate.variant.precision, candidate.variant.provider) == ("int8", "cpu")
        if timing is None or candidate is self._baseline or candidate.session is None:
            return row
        if not is_int8 or timing.ratio.verdict == "faster":
            return row
        return replace(row, notes=row.notes + reasons_of(candidate.session.shares()))

    def _result(self) -> RunResult:
        rows = tuple(row for _, row in sorted(self._rows.items(), key=lambda item: item[0]))
        return RunResult(
            environment=environment.capture(),
            settings=self._options.settings,
            rows=rows,
            control=max(self._controls, key=lambda one: abs(math.log(one.value)), default=None),
            trusted=not any(UNTRUSTED in row.notes for row in rows),
        )
