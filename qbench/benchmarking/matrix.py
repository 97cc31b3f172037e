"""The matrix of a benchmark: every variant with every batch size, number of threads and streams."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from qbench.artifacts import sha256_files
from qbench.benchmarking.given_engines import engine_table, engine_variant
from qbench.benchmarking.judging.feeding import Feeding
from qbench.benchmarking.judging.labelled_data import LabelledData
from qbench.benchmarking.ledger import Cell
from qbench.benchmarking.options import Options
from qbench.benchmarking.sessions.workload import Load
from qbench.benchmarking.variants import Variant, VariantMaker, has_its_precision, made_precisions
from qbench.calibration.table import CalibrationTable
from qbench.model.load import Model
from qbench.model.spec import TensorSpec
from qbench.quantization.tables import table_for


@dataclass(frozen=True)
class Job:
    """A row to be.

    Attributes:
        cell: Its place in the matrix.
        make: Makes the file, where that was not done yet, or tells why it cannot be made.
        feeding: What it is fed and judged on.
        load: How it is driven.
    """

    cell: Cell
    make: Callable[[], Variant]
    feeding: Feeding
    load: Load


@dataclass(frozen=True)
class Asked:
    """What to make of every model.

    Attributes:
        table: A calibration table that was given; None looks in `calibration/`.
        images: Images to judge on; None judges nothing.
        reference: The float model that is agreed with where there are no labels.
        is_shared: Whether there are several models, so that the table is that of one of them.
    """

    precisions: Sequence[str]
    providers: Sequence[str]
    table: CalibrationTable | None
    images: LabelledData | None
    reference: Model | None
    options: Options
    is_shared: bool = False

    def given_table(self, sha256: str) -> CalibrationTable | None:
        """Return the given table for a model of this hash; None where another one shall be found.

        A table that is given for a single model is taken whatever it is made from, so that its rows
        say what is wrong.
        """
        if self.table is None or not self.is_shared:
            return self.table
        return self.table if self.table.header.model_sha256 == sha256 else None

    def feeding(
        self,
        path: Path | None,
        inputs: tuple[TensorSpec, ...] | None,
        table: CalibrationTable | None,
    ) -> Feeding:
        """Return what a model of these inputs, or an engine, takes in all its precisions.

        Raises:
            DataError: The images cannot be used, or are prepared otherwise than for calibration.
        """
        size, known = self.options.image_size, None
        if table is not None:
            size, known = size or table.header.image_size, table.header.recipe
        first = self.reference.path if self.reference else None
        images = self.images and self.images.with_recipe(path, first, known)
        feeding = Feeding(inputs, size, images, first)
        feeding.check()
        return feeding


def jobs_of_model(model: Model, name: str, folder: Path, asked: Asked) -> Iterator[Job]:
    """Return the jobs of an ONNX model, called `name`, whose files are made in `folder`.

    Raises:
        CalibrationError: A table is needed, and none was made from the model.
        DataError: The images cannot be used.
    """
    table = None
    if not has_its_precision(model):
        made = made_precisions(asked.precisions, simulate=asked.options.simulate)
        table = table_for(model, made, asked.given_table(model.sha256))
    feeding = asked.feeding(model.path, model.inputs, table)
    maker = VariantMaker(model, table, folder)
    slots = maker.timed(asked.precisions, asked.providers)
    if asked.options.simulate:
        slots += maker.simulated()
    for slot in slots:
        cell = Cell(
            model=name,
            sha256=model.sha256,
            precision=slot.precision,
            provider=slot.provider,
            simulated=slot.simulated,
        )
        for load in [Load()] if slot.simulated else loads(asked.options):
            yield Job(_placed(cell, load), partial(maker.make, slot), feeding, load)


def jobs_of_engine(path: Path, name: str, asked: Asked) -> Iterator[Job]:
    """Return the jobs of an engine, called `name`.

    Raises:
        CalibrationError: The calibration table of its model is damaged.
        DataError: The images are prepared otherwise than for calibration.
    """
    variant, manifest = engine_variant(path)
    table = None if manifest is None else engine_table(manifest, asked.table)
    feeding = asked.feeding(path, None, table)
    cell = Cell(
        model=name,
        sha256=sha256_files([path]) if path.is_file() else "",
        precision=variant.precision,
        provider=variant.provider,
    )
    for load in loads(asked.options, on_gpu=True):
        yield Job(_placed(cell, load), lambda: variant, feeding, load)


def loads(options: Options, *, on_gpu: bool = False) -> list[Load]:
    """Return every way in which a variant is driven; threads of the CPU do not drive engines."""
    return [
        Load(batch, threads, streams, options.mode, options.rate, options.graph and on_gpu)
        for batch in options.batches or (None,)
        for threads in ((0,) if on_gpu else options.threads)
        for streams in options.streams
    ]


def _placed(cell: Cell, load: Load) -> Cell:
    return replace(
        cell,
        batch=load.batch or 1,
        threads=load.threads,
        streams=load.streams,
        mode=load.mode,
        rate=load.rate,
    )
