"""`qbench.calibrate`: one pass over the data, statistics for every target and method."""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from qbench.artifacts import check_writable, versions
from qbench.calibration.collect import Settings, collect
from qbench.calibration.kernels import counted_values
from qbench.calibration.shard import Shard
from qbench.calibration.table import (
    CalibrationTable,
    DataProvenance,
    TableHeader,
    check_place,
    find_table,
    load_table,
    tell_replaced,
)
from qbench.data.choice import DataChoice as DataChoice
from qbench.data.choice import open_choice
from qbench.data.recipes import Recipe, check_recipe
from qbench.data.samples import Source, fixed_batch, share_batch
from qbench.errors import CalibrationError
from qbench.formatting import counted
from qbench.model.load import Model, load
from qbench.model.prepare import prepare
from qbench.model.spec import open_image_size
from qbench.placement.targets import TARGETS, observed_tensors
from qbench.runtimes.cpu import usable_cores

logger = logging.getLogger(__name__)

FEWEST_SAMPLES = 8
"""Fewer are worth a warning.

Of samples in random order the last is as likely as any other to hold a tensor's largest value, so
that after n samples one in n + 1 goes beyond it: with 8 about every ninth. Ranges that clip need
more rather than fewer.
"""

Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all)."""


def calibrate(
    model: Model | Path | str,
    data: DataChoice | Path | str,
    *,
    recipe: Recipe | str | None = None,
    shard: Shard | None = None,
    threads: int = 0,
    on_progress: Progress | None = None,
) -> CalibrationTable:
    """Run `model` over `data` once; return statistics of all tensors that a target quantizes.

    Args:
        model: A float ONNX file, or one that is loaded.
        data: A folder of images, .npz arrays, or a full choice.
        recipe: Preprocessing, where `data` is a path.
        shard: Use this share of the samples; see `merge.merge_tables`.
        threads: Images worked on at the same time; 0 for all cores. The result does not depend on
            it.
        on_progress: Called after every sample, from any thread, by one at a time.

    Raises:
        ModelError: The model cannot be read or has nothing to quantize.
        DataError: The data cannot be read, or does not fit the model.
        CalibrationError: A tensor holds NaN or Inf.
        UsageError: The shard holds no samples.
    """
    model = model if isinstance(model, Model) else load(model)
    choice = data if isinstance(data, DataChoice) else DataChoice(Path(data), recipe)
    prepared = prepare(model)
    tensors = observed_tensors(prepared, list(TARGETS))
    chosen, whole = open_choice(model.path, model.inputs, choice)
    source = shard.of(whole) if shard else whole
    _warn_of_few(whole)
    _warn_of_batches(model)
    size = check_recipe(chosen, model.inputs[0]) if chosen else _size_of_arrays(model, whole)
    settings = Settings(threads or usable_cores(), counted_values(len(whole)), size)
    counter = _Counter(len(source), on_progress)
    gathered = collect(prepared, tensors, source, settings, on_sample=counter.count)
    provenance = DataProvenance(
        source=str(choice.path),
        sha256=whole.fingerprint(),
        images=gathered.images,
        skipped=gathered.skipped,
    )
    header = _header(model, chosen, size, shard, provenance)
    return CalibrationTable(header, gathered.statistics, gathered.inference_seconds)


def _size_of_arrays(model: Model, source: Source) -> tuple[int, int] | None:
    """Return height and width of the first sample's images where the model leaves them open.

    None where inputs have several sizes.
    """
    feeds = source.load(0).feeds
    sizes = {open_image_size(spec.shape, feeds[spec.name].shape) for spec in model.inputs}
    known = sizes - {None}
    return known.pop() if len(known) == 1 else None


def _header(
    model: Model,
    recipe: Recipe | None,
    size: tuple[int, int] | None,
    shard: Shard | None,
    data: DataProvenance,
) -> TableHeader:
    """Return what a table says of its making."""
    return TableHeader(
        model=model.path.name if model.path else "in memory",
        model_sha256=model.sha256,
        data=data,
        recipe=recipe,
        image_size=size,
        versions=versions(),
        shard=shard,
    )


def _warn_of_few(source: Source) -> None:
    count = len(source)
    if count < FEWEST_SAMPLES:
        logger.warning(
            "%s to calibrate on: about 1 in %d others will exceed the range that they show of a "
            "tensor; give %d or more that are like those in use",
            counted(count, "sample"),
            count + 1,
            FEWEST_SAMPLES,
        )


def _warn_of_batches(model: Model) -> None:
    for spec in model.inputs:
        batch = fixed_batch(spec)
        if batch > 1 and share_batch(model.inputs):
            logger.warning("input %r has a fixed batch: each sample fills its %d", spec.name, batch)


def load_found_table(model: Model, folder: Path) -> CalibrationTable:
    """Return the table in `folder` that was made from `model`.

    Raises:
        ModelError: The model is quantized already.
        CalibrationError: There is none, or it is damaged.
    """
    model.check_float()
    found = find_table(folder, model.sha256)
    if found is None:
        # Where no table could ever be made, to ask for one would lead nowhere.
        observed_tensors(prepare(model), list(TARGETS))
        name = model.path.name if model.path else "the model"
        raise CalibrationError(
            f"no calibration table in {folder}/ was made from {name}; "
            f"run `qbench calibrate {model.path or 'MODEL'} --data IMAGES` first"
        )
    logger.info("calibration table: %s", found)
    return load_table(found)


def make_table(
    model: Model, folder: Path, choice: DataChoice, *, on_progress: Progress | None = None
) -> CalibrationTable:
    """Calibrate `model` and keep the table in `folder`, over one that is there.

    Raises:
        ModelError: The model is quantized already.
        DataError: The data cannot be used.
        StorageError: The table cannot be kept there.
        UsageError: Its histograms would replace other arrays there.
    """
    model.check_float()
    path = table_path(model, folder)
    check_writable(path, "run `qbench calibrate` with -o, and give its file as --table")
    check_place(path)
    tell_replaced(path, model.sha256)
    table = calibrate(model, choice, on_progress=on_progress)
    table.save(path)
    return replace(table, path=path)


def table_path(model: Model, folder: Path, shard: Shard | None = None) -> Path:
    """Return where the table of `model` is kept: `folder`/<model>.json, or <model>.0of4.json."""
    name = model.path.stem if model.path else "model"
    part = f".{shard.index}of{shard.count}" if shard else ""
    return folder / f"{name}{part}.json"


class _Counter:
    def __init__(self, total: int, report: Progress | None) -> None:
        self._done, self._total, self._report = 0, total, report
        self._lock = threading.Lock()

    def count(self) -> None:
        with self._lock:
            self._done += 1
            if self._report is not None:
                self._report(self._done, self._total)
