"""`qbench.benchmark`: what each precision costs in accuracy and buys in latency."""

import logging
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from qbench.benchmarking.candidates import Bench
from qbench.benchmarking.given_engines import engine_source, is_engine
from qbench.benchmarking.judging.judges import TASKS
from qbench.benchmarking.judging.labelled_data import LabelledData as LabelledData
from qbench.benchmarking.matrix import Asked, Job, jobs_of_engine, jobs_of_model
from qbench.benchmarking.options import Options as Options
from qbench.benchmarking.presentation.naming import told_apart
from qbench.benchmarking.result import RunResult
from qbench.benchmarking.variants import PRECISIONS, PROVIDERS
from qbench.calibration.table import CalibrationTable, load_table
from qbench.data.choice import DataChoice
from qbench.errors import CalibrationError, UsageError
from qbench.model.load import Model, load

logger = logging.getLogger(__name__)


def benchmark(
    models: Iterable[Model | Path | str] | Model | Path | str,
    *,
    precisions: Iterable[str] | str = ("fp32", "int8"),
    providers: Iterable[str] | str = ("cpu",),
    table: CalibrationTable | Path | str | None = None,
    images: LabelledData | Path | str | None = None,
    options: Options | None = None,
) -> RunResult:
    """Measure accuracy and latency of every model in every precision on every provider.

    The options add batch sizes, threads and streams to the matrix. Candidates are timed in paired
    rounds of random order; the first row that runs is the baseline of all ratios. What cannot run
    here becomes a row with the reason.

    Args:
        models: ONNX files and engines of `build_engine`. Engines, and a model that is quantized
            already, are measured as they are; an engine in the TensorRT of its manifest. Of a
            model that is loaded, its file is measured.
        precisions: Of `variants.PRECISIONS`; made on the way.
        providers: Of `variants.PROVIDERS`.
        table: Calibration table, or its path, for `int8` and `fp8`; of several models that of one.
            The others', or without it all, are found in `calibration/` by the model's hash.
        images: Labelled images; where they are for `classify`, with a folder per class or without
            labels, their path will do. None measures no accuracy.
        options: How to measure.

    Raises:
        ModelError: A model cannot be read, or no row can run.
        UnfitError: No row can run on this machine.
        CalibrationError: `int8` or `fp8` is asked for and no table was made from the model, or that
            of none of the models is given.
        DataError: The images or labels cannot be used.
        UsageError: A precision or provider is unknown, there is nothing to measure, or a model is
            in memory only.
    """
    paths = _files([models] if isinstance(models, (Model, Path, str)) else models)
    options = options or Options()
    made, run_by = _words(precisions), _words(providers)
    _check_words("precision", made, PRECISIONS)
    _check_words("provider", run_by, PROVIDERS)
    judged = LabelledData(DataChoice(images)) if isinstance(images, (Path, str)) else images
    _check_images(judged, options)
    judged = None if judged is None else judged.with_labels()
    given = load_table(table) if isinstance(table, (Path, str)) else table
    is_shared = sum(not is_engine(path) for path in paths) > 1
    asked = Asked(made, run_by, given, judged, _reference(paths), options, is_shared)
    with tempfile.TemporaryDirectory(prefix="qbench-") as folder, Bench(options) as bench:
        jobs = list(_jobs(paths, Path(folder), asked))
        if given is not None and is_shared:
            _check_is_of_one(given, jobs)
        return bench.run(jobs)


def _files(models: Iterable[Model | Path | str]) -> list[Path]:
    """Return where models lie, since candidates load them anew, in processes of their own.

    Of one that is given twice no two rows could be told apart, so it is measured once.
    """
    places = [model.path if isinstance(model, Model) else Path(model) for model in models]
    files = [place for place in places if place is not None]
    if not places:
        raise UsageError("no model to measure; give an ONNX file or an engine")
    if len(files) < len(places):
        raise UsageError("a model in memory cannot be measured; write it and give its file")
    for path, count in Counter(file.resolve() for file in files).items():
        if count > 1:
            logger.warning("%s is given %d times, and measured once", path.name, count)
    return list({file.resolve(): file for file in files}.values())


def _words(given: Iterable[str] | str) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _jobs(paths: Sequence[Path], folder: Path, asked: Asked) -> Iterator[Job]:
    names = told_apart([path.absolute() for path in paths])
    for number, path in enumerate(paths):
        name = names[path.absolute()]
        asked.options.on_step(f"preparing {path}")
        if is_engine(path):
            yield from jobs_of_engine(path, name, asked)
            continue
        reference, place = asked.reference, folder / str(number)
        place.mkdir()
        known = reference if reference is not None and reference.path == path else None
        yield from jobs_of_model(known or load(path), name, place, asked)


def _reference(paths: Sequence[Path]) -> Model | None:
    """Return the first ONNX model; where there is none, the one that the first engine came from."""
    given = next((path for path in paths if not is_engine(path)), None)
    if given is not None:
        return load(given)
    return engine_source(paths[0])


def _check_is_of_one(table: CalibrationTable, jobs: Sequence[Job]) -> None:
    if table.header.model_sha256 not in {job.cell.sha256 for job in jobs}:
        raise CalibrationError(
            f"the calibration table was made from {table.header.model}, which is none of these "
            "models; drop --table, or give that of one of them"
        )


def _check_images(images: LabelledData | None, options: Options) -> None:
    if images is not None:
        _check_words("task", [images.task], TASKS)
    elif options.simulate:
        raise UsageError("simulation judges accuracy; add labelled images with --data and --task")


def _check_words(what: str, given: Sequence[str], known: Collection[str]) -> None:
    if not given:
        raise UsageError(f"no {what} to measure; choose from {', '.join(known)}")
    for word in given:
        if word not in known:
            raise UsageError(f"unknown {what} {word!r}; choose from {', '.join(known)}")
