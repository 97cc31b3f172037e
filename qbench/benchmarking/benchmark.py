"""`qbench.benchmark`: what each precision costs in accuracy and buys in latency."""

import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from msgspec.structs import replace as replace_fields

from qbench.benchmarking import environment
from qbench.benchmarking.clock import Call
from qbench.benchmarking.judges import TASKS, Judge, Judged, Material
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
from qbench.benchmarking.variants import PRECISIONS, Variant, VariantMaker, has_its_precision
from qbench.calibration.calibrate import DataChoice, open_choice
from qbench.calibration.table import CalibrationTable
from qbench.data.samples import Sample, Source
from qbench.data.synthetic import SyntheticSource
from qbench.errors import DataError, ModelError, QbenchError, UnfitError, UsageError
from qbench.model.load import Model, load
from qbench.quantization.options import NEED_TABLE
from qbench.quantization.quantize import resolve_table
from qbench.runtimes.base import Runner, Tensors
from qbench.runtimes.ort import OrtRunner
from qbench.runtimes.ort_providers import PROVIDERS


@dataclass(frozen=True)
class LabelledData:
    """Images to judge accuracy on.

    Attributes:
        choice: Which images; their recipe is the calibration table's unless it names one.
        labels: For `classify` a CSV `file,label`, or None for a folder per class; for `detect` a
            COCO JSON file or a folder of YOLO text files, or None for the agreement with the first
            model in FP32; for `segment` a folder of masks; not for `embed`.
        task: A key of `judges.TASKS`.
        decoder: How `detect` reads boxes; see `evaluation.decoders`.
    """

    choice: DataChoice
    labels: Path | None = None
    task: str = "classify"
    decoder: str = "auto"


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        settings: When to stop; see `benchmarking.settings.MODES`.
        threads: Intra-op threads of each candidate; 0 leaves them to the runtime.
        simulate: Add a row per target that judges INT8 with exact arithmetic; needs images.
        image_size: Height and width of random samples where the model is dynamic; None takes the
            table's.
        on_step: Told in a few words what comes next.
        on_round: Told after each round of timing; see `schedule.OnRound`.
    """

    settings: Settings = field(default_factory=Settings)
    threads: int = 0
    simulate: bool = False
    image_size: tuple[int, int] | None = None
    on_step: Callable[[str], None] = lambda _: None
    on_round: OnRound | None = None


def benchmark(
    models: Sequence[Path | str] | Path | str,
    *,
    precisions: Sequence[str] = ("fp32", "int8"),
    providers: Sequence[str] = ("cpu",),
    table: CalibrationTable | Path | None = None,
    images: LabelledData | None = None,
    options: Options | None = None,
) -> RunResult:
    """Measure accuracy and latency of every model in every precision on every provider.

    Latency is one call at a time on one sample, in paired rounds of random order; the first row
    that runs is the baseline of all ratios. What cannot run here becomes a row with the reason.

    Args:
        models: ONNX files. One that is quantized already is measured as it is.
        precisions: Of `variants.PRECISIONS`; made on the way.
        providers: Keys of `runtimes.ort.PROVIDERS`.
        table: Calibration table for `int8` and `fp8`; None looks in `calibration/` by the model's
            hash.
        images: Labelled images; None measures no accuracy.
        options: How to measure.

    Raises:
        ModelError: A model cannot be read, or no row can run.
        UnfitError: No row can run on this machine.
        CalibrationError: `int8` or `fp8` is asked for and no table was made from the model.
        DataError: The images or labels cannot be used.
        UsageError: A precision or provider is unknown, or there is nothing to measure.
    """
    paths = [models] if isinstance(models, (str, Path)) else list(models)
    options = options or Options()
    _check_words("precision", precisions, PRECISIONS)
    _check_words("provider", providers, PROVIDERS)
    if images is not None:
        _check_words("task", [images.task], TASKS)
    elif options.simulate:
        raise UsageError("simulation judges accuracy; add labelled images with --data and --task")
    with tempfile.TemporaryDirectory(prefix="qbench-") as folder:
        bench, reference = _Bench(options), None
        for number, path in enumerate(paths):
            model = load(path)
            reference = reference or model
            found = _table(model, table) if NEED_TABLE.intersection(precisions) else None
            subject = _Subject(model, found, images, reference, options.image_size)
            place = Path(folder) / str(number)
            place.mkdir()
            maker = VariantMaker(subject.model, subject.table, place)
            options.on_step(f"preparing {subject.model.path}")
            for variant in maker.timed(precisions, providers):
                bench.add(variant, subject)
            if options.simulate:
                for variant in maker.simulated():
                    bench.add(variant, subject)
        return bench.run()


class _Subject:
    """One model with its table, its samples and what judges it on them."""

    def __init__(
        self,
        model: Model,
        table: CalibrationTable | None,
        images: LabelledData | None,
        reference: Model,
        image_size: tuple[int, int] | None,
    ) -> None:
        self.model, self.table = model, table
        self._image_size = image_size
        self.source: Source | None = None
        self.judge: Judge | None = None
        if images is not None:
            recipe, self.source = open_choice(model, _with_recipe(images.choice, self.table))
            known = self.table.header.recipe if self.table else None
            if known is not None and recipe is not None and known != recipe:
                raise DataError(
                    f"images are prepared by recipe {recipe.name!r}, but calibration used "
                    f"{known.name!r}; drop --recipe or calibrate again with it"
                )
            material = Material(
                self.source, images.choice.path, recipe, images.labels, images.decoder, reference
            )
            self.judge = TASKS[images.task](material)

    def sample(self) -> Sample:
        """Return what to feed while timing: the first good image, or noise of the right shape."""
        if self.source is not None:
            return _first_sample(self.source)
        size = self._image_size or (self.table.header.image_size if self.table else None)
        return SyntheticSource(self.model.inputs, count=1, seed=0, size=size).load(0)


@dataclass
class _Candidate:
    """A variant on its way to a row."""

    variant: Variant
    runner: Runner | None = None
    first_inference: float | None = None
    accuracy: Accuracy | None = None
    error: QbenchError | None = None
    batch: int = 1
    call: Call | None = None
    feeds: Tensors = field(default_factory=dict)


class _Bench:
    """Loads, judges and times the candidates, in that order."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._candidates: list[_Candidate] = []
        self._baseline: Judged | None = None

    def add(self, variant: Variant, subject: _Subject) -> None:
        """Load a variant and judge its accuracy; a failure is kept for its row."""
        candidate = _Candidate(variant)
        self._candidates.append(candidate)
        candidate.error = variant.problem
        if variant.problem is not None:
            return
        try:
            runner = self._load(variant)
            candidate.runner = runner
            if not variant.simulated:
                sample = subject.sample()
                candidate.batch = sample.batch
                candidate.feeds, candidate.call = sample.feeds, runner.bind(sample.feeds)
                candidate.first_inference = _seconds(candidate.call)
            if subject.judge is not None:
                self._options.on_step(f"accuracy of {variant.precision} on {variant.provider}")
                candidate.accuracy = self._compared(subject.judge.judge(runner))
        except (UnfitError, ModelError) as error:
            candidate.error = error

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
            self._options.on_step(f"timing {len(timed)} candidates")
            calls = [c.call for c in timed if c.call is not None]
            measurement = measure(calls, self._options.settings, self._options.on_round)
        lanes = {id(candidate): lane for lane, candidate in enumerate(timed)}
        rows = tuple(self._row(c, measurement, lanes.get(id(c))) for c in self._candidates)
        return RunResult(
            environment=environment.capture(),
            settings=self._options.settings,
            rows=rows,
            control=measurement.control if measurement else None,
            trusted=measurement.trusted if measurement else True,
        )

    def _row(self, candidate: _Candidate, measurement: Measurement | None, lane: int | None) -> Row:
        """Return a row, with what slows INT8 down on a CPU where it is not faster."""
        row, variant = _row(candidate, measurement, lane), candidate.variant
        is_int8 = (variant.precision, variant.provider) == ("int8", "cpu")
        if not is_int8 or not lane or row.ratio is None or row.ratio.verdict == "faster":
            return row  # the first lane is what the others are compared with
        assert variant.path is not None  # it was timed
        reasons = slow_parts(variant.path, candidate.feeds, threads=self._options.threads)
        return replace_fields(row, notes=row.notes + reasons)

    def _compared(self, judged: Judged) -> Accuracy:
        """Return an accuracy with its difference to that of the first row."""
        if self._baseline is None:
            self._baseline = judged
            return judged.accuracy
        change = judged.difference(self._baseline)
        return replace_fields(judged.accuracy, difference=change)

    def _load(self, variant: Variant) -> OrtRunner:
        assert variant.path is not None  # what cannot be made is not loaded
        provider = "cpu" if variant.simulated else variant.provider
        return OrtRunner(
            variant.path,
            provider=provider,
            threads=self._options.threads,
            simulate=variant.simulated,
        )


def _row(candidate: _Candidate, measurement: Measurement | None, lane: int | None) -> Row:
    variant, runner = candidate.variant, candidate.runner
    notes = list(variant.notes)
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
        provider=variant.provider,
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


def _check_words(what: str, given: Sequence[str], known: Collection[str]) -> None:
    if not given:
        raise UsageError(f"no {what} to measure; choose from {', '.join(known)}")
    for word in given:
        if word not in known:
            raise UsageError(f"unknown {what} {word!r}; choose from {', '.join(known)}")


def _first_sample(source: Source) -> Sample:
    """Return the first sample that can be read; too many that cannot are noticed elsewhere."""
    for index in range(len(source) - 1):
        with suppress(DataError):
            return source.load(index)
    return source.load(len(source) - 1)


def _table(model: Model, table: CalibrationTable | Path | None) -> CalibrationTable | None:
    return None if has_its_precision(model) else resolve_table(model, table)


def _with_recipe(choice: DataChoice, table: CalibrationTable | None) -> DataChoice:
    """Return `choice` with the recipe that the table was made with, unless it names its own."""
    if choice.recipe is not None or table is None:
        return choice
    return replace(choice, recipe=table.header.recipe)


def _seconds(call: Call) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
