"""The candidates of a benchmark, timed in groups and written down as rows."""

import os
from collections.abc import Sequence

from msgspec.structs import replace

from qbench.benchmarking import environment
from qbench.benchmarking.candidate import FAILURES, Candidate, Maker
from qbench.benchmarking.matrix import Job
from qbench.benchmarking.options import GROUP, Options
from qbench.benchmarking.result import Row, RunResult
from qbench.benchmarking.rows import Timing
from qbench.benchmarking.speedup import by_operator, reasons_of
from qbench.benchmarking.timing.rounds import Watch
from qbench.benchmarking.timing.schedule import Measurement, measure_blocks
from qbench.errors import InconclusiveError, QbenchError
from qbench.runtimes.gpu.watch import open_gpu_watch

_ON_CPU = {"cpu", "openvino"}
"""Providers that leave the GPU alone."""


class Bench:
    """Runs jobs in groups that share their rounds; its candidates live in its context.

    The baseline, which is the first candidate that runs, stays loaded and is timed in every group,
    so that each ratio comes from rounds that both took part in.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._open: list[Candidate] = []
        self._baseline: Candidate | None = None
        self._maker = Maker(options)
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
            candidate = self._made(index, job)
            if candidate.error is not None or job.cell.simulated:
                self._finish(candidate)
                continue
            if kept is not None and self._baseline is None:
                self._baseline = self._made(*kept)
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
        """Take over what the ledger has; return the job of the baseline among its rows."""
        ledger, baseline = self._options.ledger, None
        for index, job in enumerate(jobs if ledger else ()):
            self._maker.accuracies.recall(job.cell)
            row = ledger.find(job.cell) if ledger else None
            if row is None or row.error is not None:
                continue
            self._rows[index] = row
            if baseline is None and row.latency_ms is not None:
                baseline = (index, job)
        return baseline

    def _made(self, index: int, job: Job) -> Candidate:
        candidate = self._maker.make(index, job)
        self._open.append(candidate)
        return candidate

    def _time(self, group: Sequence[Candidate]) -> None:
        """Time a group with the baseline, and finish its rows.

        One that fails while it is timed is left out, and the others are timed again.
        """
        left = list(group)
        while left:
            lanes = left if self._baseline is None else [self._baseline, *left]
            try:
                measurement = self._measured(lanes)
            except (*FAILURES, InconclusiveError) as error:
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
        return measure_blocks(
            timers,
            self._options.settings,
            self._options.on_round,
            reloads=[candidate.reloads for candidate in lanes],
            watch=_watch(lanes),
        )

    def _lost(self, lanes: Sequence[Candidate], error: QbenchError) -> list[Candidate]:
        """Return whose rows an error ends: one candidate's, or with the baseline all of them."""
        if isinstance(error, InconclusiveError):  # the machine's fault, and so that of all
            return self._all_lost(lanes, error)
        if self._baseline is None or self._baseline.error is None:
            return [candidate for candidate in lanes if candidate.error is not None]
        reason = f"there is nothing to compare with: the baseline failed: {error}"
        return self._all_lost(lanes, type(error)(reason))

    def _all_lost(self, lanes: Sequence[Candidate], error: QbenchError) -> list[Candidate]:
        lost = [candidate for candidate in lanes if candidate is not self._baseline]
        for candidate in lost:
            candidate.error = error
        return lost

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
        """Return a row with its profile, where one is asked for or tells why INT8 is slow."""
        if timing is None:
            return row
        is_unfit = timing.lane > 0 and timing.ratio.verdict != "faster"
        is_slow = is_unfit and candidate.is_int8_on_cpu
        if not (is_slow or self._options.profile):
            return row
        assert candidate.session is not None  # it was timed
        try:
            profile = candidate.session.profile()
        except FAILURES as error:  # the figures are there all the same
            return replace(row, notes=(*row.notes, f"not profiled: {error}"))
        reasons = reasons_of(by_operator(profile)) if is_slow else ()
        return replace(
            row, notes=row.notes + reasons, profile=profile if self._options.profile else ()
        )

    def _result(self) -> RunResult:
        rows = tuple(row for _, row in sorted(self._rows.items(), key=lambda item: item[0]))
        here, settings = environment.capture(), self._options.settings
        return RunResult(environment=here, settings=settings, rows=()).with_rows(rows)


def _watch(lanes: Sequence[Candidate]) -> Watch | None:
    """Return what watches the GPU, where one is used and can be asked."""
    sessions = [candidate.session for candidate in lanes if candidate.session is not None]
    if all(session.facts.provider in _ON_CPU for session in sessions):
        return None
    seen = {os.getpid()}

    def own() -> set[int]:
        """Return the processes, also the former ones: NVML tells of them a while longer."""
        seen.update(session.facts.pid for session in sessions)
        return seen

    return open_gpu_watch(own)
