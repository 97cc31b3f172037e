"""A candidate of a benchmark: made, loaded and judged."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from qbench.benchmarking.accuracies import Accuracies
from qbench.benchmarking.judging.judged import Judged
from qbench.benchmarking.matrix import Job
from qbench.benchmarking.options import Options
from qbench.benchmarking.result import Accuracy, Row
from qbench.benchmarking.rows import Findings, Timing, row_of
from qbench.benchmarking.sessions.remote import RemoteSession
from qbench.benchmarking.sessions.session import LocalSession, Session, Task
from qbench.benchmarking.timing.clock import Block
from qbench.benchmarking.timing.sittings import Reload, Wait
from qbench.benchmarking.variants import Variant
from qbench.errors import (
    DataError,
    EngineError,
    MismatchError,
    ModelError,
    QbenchError,
    UnfitError,
    WorkerError,
)
from qbench.runtimes.ort.providers import ProviderChoice

FAILURES = (UnfitError, ModelError, EngineError, WorkerError, DataError)
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
        with self._noting_errors():
            block = self.session.time_block(calls, lead)
        return block._replace(figure=block.figure / self.session.facts.batch)

    @property
    def reloads(self) -> tuple[Reload, ...]:
        """The ways to load it anew, best first."""
        assert self.session is not None  # it was loaded
        return tuple(Reload(partial(self._begin, one), one.seconds) for one in self.session.reloads)

    def _begin(self, reload: Reload) -> Wait:
        with self._noting_errors():
            return partial(self._wait, reload.begin())

    def _wait(self, wait: Wait) -> None:
        with self._noting_errors():
            wait()

    @contextmanager
    def _noting_errors(self) -> Iterator[None]:
        try:
            yield
        except QbenchError as error:
            self.error = error
            raise

    def close(self, *, at_once: bool = False) -> None:
        """Let go of the session."""
        if self.session is not None:
            self.session.close(at_once=at_once)

    @property
    def is_int8_on_cpu(self) -> bool:
        """Whether its speed depends on integer kernels of the CPU."""
        return (self.variant.precision, self.variant.provider) == ("int8", "cpu")

    def row(self, timing: Timing | None) -> Row:
        """Return its row."""
        facts = self.session.facts if self.session else None
        found = Findings(self.job, self.variant, facts, self.accuracy, self.error)
        return row_of(found, timing)


class Maker:
    """Makes candidates of jobs."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._heard: set[str] = set()
        self._faults: dict[tuple[str, str], ModelError] = {}
        """Why the outputs of a float model on a provider cannot be judged, by hash and provider."""
        self.accuracies = Accuracies(options.ledger)

    def make(self, index: int, job: Job) -> Candidate:
        """Make, load and judge a candidate; a failure is kept for its row.

        Raises:
            DataError: The images or labels cannot be used.
            UsageError: What accuracy means cannot be told.
        """
        variant = self._unusable(job) or job.make()
        candidate = Candidate(job, index, variant, error=variant.problem)
        if candidate.error is not None:
            return candidate
        try:
            candidate.session = self._session(self._task(candidate))
        except FAILURES as error:
            candidate.error = error
            return candidate
        try:
            self._judge(candidate, candidate.session)
        except (UnfitError, ModelError, EngineError, WorkerError, MismatchError) as error:
            candidate.error = error
        except DataError as error:
            if variant.flavour is None:
                candidate.close(at_once=True)
                raise
            candidate.error = error  # an engine may have been built for other shapes
        except BaseException:
            candidate.close(at_once=True)
            raise
        return candidate

    def _unusable(self, job: Job) -> Variant | None:
        """Return a variant that is not made, where the outputs of its float model are at fault.

        To make INT8 takes a search of many seconds, and its outputs could not be judged either.
        """
        cell = job.cell
        fault = self._faults.get((cell.sha256, cell.provider))
        if fault is None or cell.precision == "fp32":
            return None
        problem = ModelError(f"it was not made, since fp32 cannot be judged: {fault}")
        return Variant(cell.precision, cell.provider, None, problem=problem)

    def _session(self, task: Task) -> Session:
        return RemoteSession(task, self._heard) if self._options.isolate else LocalSession(task)

    def _judge(self, candidate: Candidate, session: Session) -> None:
        variant, cell = candidate.variant, candidate.job.cell

        def judge() -> Judged | None:
            if candidate.job.feeding.images is not None:
                self._options.on_step(f"accuracy of {variant.precision} on {variant.provider}")
            return session.judge()

        try:
            candidate.accuracy = self.accuracies.of(cell, judge)
        except ModelError as error:
            if cell.precision == "fp32":
                self._faults[cell.sha256, cell.provider] = error
            raise
        except MismatchError as error:
            if cell.simulated:
                raise  # it has no other figure
            note = f"accuracy is not known: {error}"
            candidate.variant = replace(variant, notes=(*variant.notes, note))

    def _task(self, candidate: Candidate) -> Task:
        variant, options = candidate.variant, self._options
        assert variant.path is not None  # what cannot be made is not loaded
        choice = ProviderChoice(
            "cpu" if variant.simulated else variant.provider,
            allow_fallback=options.allow_fallback,
            precision=variant.arithmetic or "fp32",
            cache=options.cache,
        )
        feeding = candidate.job.feeding
        if options.isolate:  # candidates that share a process share what reads their boxes, too
            feeding = feeding.read_by(self.accuracies.decoder(candidate.job.cell))
        return Task(
            variant.path,
            choice,
            variant.flavour,
            variant.simulated,
            feeding,
            candidate.job.load,
            options.cuda_backend,
        )
