"""The candidates of a benchmark: loaded, judged, timed, and written down as rows."""

import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from pathlib import Path

from msgspec.structs import replace as replace_fields

from qbench.benchmarking import environment
from qbench.benchmarking.clock import Call
from qbench.benchmarking.judges import Judged
from qbench.benchmarking.result import (
    Accuracy,
    Row,
    RunResult,
    latency_from_summary,
    ratio_from_interval,
)
from qbench.benchmarking.schedule import Measurement, OnRound, measure
from qbench.benchmarking.settings import Settings
from qbench.benchmarking.speedup import slow_parts
from qbench.benchmarking.stats import summary
from qbench.benchmarking.subject import Subject
from qbench.benchmarking.variants import Variant
from qbench.errors import DataError, EngineError, ModelError, QbenchError, UnfitError
from qbench.runtimes.base import Runner, Tensors
from qbench.runtimes.cuda.choose import DEFAULT_BACKEND
from qbench.runtimes.flavour import flavour_named
from qbench.runtimes.ort import OrtRunner
from qbench.runtimes.ort_providers import ProviderChoice
from qbench.runtimes.tensorrt import TensorRtRunner


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        settings: When to stop; see `benchmarking.settings.MODES`.
        threads: Intra-op threads of each candidate; 0 leaves them to the runtime.
        simulate: Add a row per target that judges INT8 with exact arithmetic; needs images.
        image_size: Height and width of random samples where the model is dynamic; None takes the
            table's.
        allow_fallback: Let other providers run what the one asked for cannot; a note says so.
        cuda_backend: What engines reach the GPU through, a key of `runtimes.cuda.choose.BACKENDS`.
        cache: Folder in which the `tensorrt` and `rtx` providers keep engines and timings.
        on_step: Told in a few words what comes next.
        on_round: Told after each round of timing; see `schedule.OnRound`.
    """

    settings: Settings = field(default_factory=Settings)
    threads: int = 0
    simulate: bool = False
    image_size: tuple[int, int] | None = None
    allow_fallback: bool = False
    cuda_backend: str = DEFAULT_BACKEND
    cache: Path | None = None
    on_step: Callable[[str], None] = lambda _: None
    on_round: OnRound | None = None


@dataclass
class Candidate:
    """A variant on its way to a row."""

    variant: Variant
    runner: Runner | None = None
    first_inference: float | None = None
    accuracy: Accuracy | None = None
    error: QbenchError | None = None
    batch: int = 1
    call: Call | None = None
    feeds: Tensors = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Bench:
    """Loads, judges and times the candidates, in that order; its runners live in its context."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._candidates: list[Candidate] = []
        self._baseline: Judged | None = None

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_: object) -> None:
        for candidate in self._candidates:
            if candidate.runner is not None:
                candidate.runner.close()

    def add(self, variant: Variant, subject: Subject) -> None:
        """Load a variant and judge its accuracy; a failure is kept for its row."""
        candidate = Candidate(variant)
        self._candidates.append(candidate)
        candidate.error = variant.problem
        if variant.problem is not None:
            return
        try:
            self._try(candidate, subject)
        except (UnfitError, ModelError, EngineError) as error:
            candidate.error = error
        except DataError as error:
            if variant.flavour is None:
                raise
            candidate.error = error  # an engine may have been built for other shapes

    def _try(self, candidate: Candidate, subject: Subject) -> None:
        variant = candidate.variant
        runner = candidate.runner = self._load(variant)
        candidate.notes = runner.notes
        if not variant.simulated:
            sample = subject.sample(runner)
            candidate.batch = sample.batch
            candidate.feeds, candidate.call = sample.feeds, runner.bind(sample.feeds)
            candidate.first_inference = _seconds(candidate.call)
            candidate.notes += _phases(runner, sample.feeds)
        judge = subject.judge(runner)
        if judge is not None:
            self.options.on_step(f"accuracy of {variant.precision} on {variant.provider}")
            candidate.accuracy = self._compared(judge.judge(runner))

    def run(self) -> RunResult:
        """Time all candidates that can run and return every row.

        Raises:
            QbenchError: None can run; the reason of the first.
        """
        errors = [c.error for c in self._candidates if c.error is not None]
        if len(errors) == len(self._candidates):
            raise errors[0]
        timed = [c for c in self._candidates if c.call is not None and c.error is None]
        measurement = None
        if timed:
            self.options.on_step(f"timing {len(timed)} candidates")
            calls = [c.call for c in timed if c.call is not None]
            measurement = measure(calls, self.options.settings, self.options.on_round)
        lanes = {id(candidate): lane for lane, candidate in enumerate(timed)}
        rows = tuple(self._row(c, measurement, lanes.get(id(c))) for c in self._candidates)
        return RunResult(
            environment=environment.capture(),
            settings=self.options.settings,
            rows=rows,
            control=measurement.control if measurement else None,
            trusted=measurement.trusted if measurement else True,
        )

    def _row(self, candidate: Candidate, measurement: Measurement | None, lane: int | None) -> Row:
        """Return a row, with what slows INT8 down on a CPU where it is not faster."""
        row, variant = _row(candidate, measurement, lane), candidate.variant
        is_int8 = (variant.precision, variant.provider) == ("int8", "cpu")
        if not is_int8 or not lane or row.ratio is None or row.ratio.verdict == "faster":
            return row  # the first lane is what the others are compared with
        assert variant.path is not None  # it was timed
        reasons = slow_parts(variant.path, candidate.feeds, threads=self.options.threads)
        return replace_fields(row, notes=row.notes + reasons)

    def _compared(self, judged: Judged) -> Accuracy:
        """Return an accuracy with its difference to that of the first row."""
        if self._baseline is None:
            self._baseline = judged
            return judged.accuracy
        return judged.compared(self._baseline)

    def _load(self, variant: Variant) -> Runner:
        assert variant.path is not None  # what cannot be made is not loaded
        if variant.flavour is not None:
            flavour = flavour_named(variant.flavour)
            return TensorRtRunner(variant.path, flavour, cuda_backend=self.options.cuda_backend)
        choice = ProviderChoice(
            "cpu" if variant.simulated else variant.provider,
            allow_fallback=self.options.allow_fallback,
            precision=variant.arithmetic or "fp32",
            cache=self.options.cache,
        )
        threads, simulate = self.options.threads, variant.simulated
        return OrtRunner(variant.path, provider=choice, threads=threads, simulate=simulate)


def _row(candidate: Candidate, measurement: Measurement | None, lane: int | None) -> Row:
    variant, runner = candidate.variant, candidate.runner
    notes = [*variant.notes, *candidate.notes]
    provider = runner.provider if runner and not variant.simulated else variant.provider
    latency = ratio = throughput = None
    if candidate.batch > 1:
        notes.append(f"a call runs the model's fixed batch of {candidate.batch}")
    if measurement is not None and lane is not None:
        latency = latency_from_summary(summary(measurement.samples[lane]))
        ratio = ratio_from_interval(measurement.ratios[lane], measurement.verdicts[lane])
        throughput = candidate.batch * 1e3 / latency.median
        if measurement.unsettled[lane]:
            notes.append("unsettled: timings still drifted after warm-up")
        if not measurement.reached:
            notes.append("stopped at the time limit with intervals wider than asked for")
    return Row(
        model=variant.name,
        precision=variant.precision,
        provider=provider,
        accuracy=candidate.accuracy,
        latency_ms=latency,
        ratio=ratio,
        throughput_per_s=throughput,
        size_bytes=variant.size_bytes,
        peak_rss_bytes=environment.peak_rss_bytes(),
        load_seconds=runner.load_seconds if runner else None,
        first_inference_seconds=candidate.first_inference,
        error=str(candidate.error) if candidate.error else None,
        notes=tuple(notes),
    )


def _phases(runner: Runner, feeds: Tensors) -> tuple[str, ...]:
    """Return a note on what an engine's copies take, which its row leaves out."""
    if not isinstance(runner, TensorRtRunner):
        return ()
    phases = runner.phases(feeds)
    h2d, compute, d2h = (f"{1e3 * seconds:.3g} ms" for seconds in astuple(phases))
    return (f"by events on the GPU: copies in {h2d}, inference {compute}, copies out {d2h}",)


def _seconds(call: Call) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
