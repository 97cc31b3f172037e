"""`qbench.benchmark`: what each precision costs in accuracy and buys in latency."""

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from qbench.benchmarking.candidates import Bench
from qbench.benchmarking.candidates import Options as Options
from qbench.benchmarking.given_engines import engine_source, engine_table, engine_variant, is_engine
from qbench.benchmarking.judges import TASKS
from qbench.benchmarking.result import RunResult
from qbench.benchmarking.subject import EngineSubject, Feed, ModelSubject
from qbench.benchmarking.subject import LabelledData as LabelledData
from qbench.benchmarking.variants import PRECISIONS, VariantMaker, has_its_precision
from qbench.calibration.table import CalibrationTable
from qbench.errors import UsageError
from qbench.model.load import Model, load
from qbench.quantization.options import NEED_TABLE
from qbench.quantization.quantize import resolve_table
from qbench.runtimes.ort_providers import PROVIDERS


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
        models: ONNX files and engines of `build_engine`. Engines, and a model that is quantized
            already, are measured as they are; an engine in the TensorRT of its manifest.
        precisions: Of `variants.PRECISIONS`; made on the way.
        providers: Keys of `runtimes.ort_providers.PROVIDERS`.
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
    paths = [Path(path) for path in ([models] if isinstance(models, (str, Path)) else models)]
    options = options or Options()
    _check_words("precision", precisions, PRECISIONS)
    _check_words("provider", providers, PROVIDERS)
    if images is not None:
        _check_words("task", [images.task], TASKS)
    elif options.simulate:
        raise UsageError("simulation judges accuracy; add labelled images with --data and --task")
    reference = _reference(paths)
    asked = _Asked(precisions, providers, table, Feed(images, reference, options.image_size))
    with tempfile.TemporaryDirectory(prefix="qbench-") as folder, Bench(options) as bench:
        for number, path in enumerate(paths):
            options.on_step(f"preparing {path}")
            if is_engine(path):
                _add_engine(bench, path, asked)
            else:
                place = Path(folder) / str(number)
                place.mkdir()
                _add_model(bench, path, place, asked)
        return bench.run()


@dataclass(frozen=True)
class _Asked:
    """What to make of every model."""

    precisions: Sequence[str]
    providers: Sequence[str]
    table: CalibrationTable | Path | None
    feed: Feed


def _reference(paths: Sequence[Path]) -> Model | None:
    """Return the first ONNX model; where there is none, the one that the first engine came from."""
    given = next((path for path in paths if not is_engine(path)), None)
    if given is not None:
        return load(given)
    return engine_source(paths[0]) if paths else None


def _add_model(bench: Bench, path: Path, place: Path, asked: _Asked) -> None:
    reference = asked.feed.reference
    model = reference if reference is not None and reference.path == path else load(path)
    table = _table(model, asked.table) if NEED_TABLE.intersection(asked.precisions) else None
    subject = ModelSubject(model, table, asked.feed)
    maker = VariantMaker(model, table, place)
    for variant in maker.timed(asked.precisions, asked.providers):
        bench.add(variant, subject)
    if bench.options.simulate:
        for variant in maker.simulated():
            bench.add(variant, subject)


def _add_engine(bench: Bench, path: Path, asked: _Asked) -> None:
    variant, manifest = engine_variant(path)
    table = None if manifest is None else engine_table(manifest, asked.table)
    bench.add(variant, EngineSubject(path, table, asked.feed))


def _check_words(what: str, given: Sequence[str], known: Collection[str]) -> None:
    if not given:
        raise UsageError(f"no {what} to measure; choose from {', '.join(known)}")
    for word in given:
        if word not in known:
            raise UsageError(f"unknown {what} {word!r}; choose from {', '.join(known)}")


def _table(model: Model, table: CalibrationTable | Path | None) -> CalibrationTable | None:
    return None if has_its_precision(model) else resolve_table(model, table)
