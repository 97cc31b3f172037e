"""`qbench.compare_layers`: a float model and a converted one, tensor by tensor."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qbench.artifacts import SCHEMA_VERSION
from qbench.calibration.table import CalibrationTable, find_table, load_table
from qbench.data.choice import DataChoice, open_choice
from qbench.data.samples import Sample, Source
from qbench.data.synthetic import SyntheticSource
from qbench.errors import UsageError
from qbench.evaluation.bfloat16 import rounded_in_float
from qbench.evaluation.integer_tensors import with_float_tensors
from qbench.evaluation.layerwise import (
    DEFAULT_THRESHOLD_DB,
    Layer,
    LayerScore,
    TensorFunction,
    Totals,
    first_bad,
    scored,
    steepest,
    summed,
)
from qbench.evaluation.stream import SampleStream
from qbench.evaluation.tensor_pairs import Pairs, pair_tensors
from qbench.model.load import Model, load
from qbench.model.parts import with_outputs
from qbench.model.shapes import bind_shapes, elements_by_name
from qbench.quantization.encodings import is_integer_kernel
from qbench.quantization.tables import TABLES
from qbench.runtimes.base import Tensors
from qbench.runtimes.cpu import usable_cores
from qbench.runtimes.ort.graphs import open_graph

HELD_BYTES = 1 << 26
"""Tensors of one model that are held at the same time; a network with more is run in parts."""

_FEW = 16
_RANDOM = 4


@dataclass(frozen=True)
class LayerOptions:
    """How to compare.

    Attributes:
        native: Run both as ONNX Runtime optimizes them, integer kernels included, in place of exact
            arithmetic. Only dequantized tensors and outputs are compared then, since a runtime does
            not fuse what it must hand out.
        threshold_db: A layer below it is bad.
        image_size: Height and width where the model is dynamic; None for those of calibration.
        on_progress: Called with (samples done, samples in all), each part of a large network
            counting its own.

    Raises:
        UsageError: No SQNR can be held against the threshold.
    """

    native: bool = False
    threshold_db: float = DEFAULT_THRESHOLD_DB
    image_size: tuple[int, int] | None = None
    on_progress: Callable[[int, int], None] | None = None

    def __post_init__(self) -> None:
        """Check the threshold."""
        if not isfinite(self.threshold_db):
            raise UsageError(f"a threshold of {self.threshold_db} dB tells nothing; use 10")


class LayerComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Where a converted model parts from its float model.

    Attributes:
        reference: The float model.
        test: The converted one.
        data: What both were fed.
        samples: How many samples.
        skipped: Names of samples that could not be read.
        arithmetic: `exact`, or `native` for ONNX Runtime's own kernels, which alone compute
            integer operators such as QLinearConv.
        total: Tensors of the reference that could be compared if the test had them all.
        threshold_db: Below which a layer is bad.
        first_bad: The first layer by depth that is below the threshold; None if none is.
        steepest: The layer that adds most noise to that of its inputs; None if none adds any.
        layers: By depth.
    """

    schema_version: int = SCHEMA_VERSION
    reference: str
    test: str
    data: str
    samples: int
    skipped: tuple[str, ...]
    arithmetic: str
    total: int
    threshold_db: float
    first_bad: str | None
    steepest: str | None
    layers: tuple[LayerScore, ...]

    def layer(self, name: str) -> LayerScore:
        """Return the layer of that name."""
        return next(layer for layer in self.layers if layer.name == name)


def compare_layers(
    reference: Model | Path | str,
    test: Model | Path | str,
    data: DataChoice | Path | str | None = None,
    *,
    table: CalibrationTable | Path | str | None = None,
    options: LayerOptions | None = None,
) -> LayerComparison:
    """Return the SQNR and cosine of every float tensor that two forms of a model have in common.

    BF16, which ONNX Runtime's CPU provider cannot compute, is computed in FP32 and rounded after
    every node.

    Args:
        reference: The float model.
        test: What qbench or another tool made from it: Q/DQ, FP16, or another float form.
        data: What to feed. If left out, a few images of the calibration table; without a table,
            random samples, which say little about accuracy.
        table: Calibration table whose recipe prepares images; looked for in `calibration/` by the
            hash of `reference` if left out.
        options: How to compare.

    Raises:
        ModelError: A model cannot be read, `reference` is quantized, or they are not two forms of
            one model.
        CalibrationError: The table is damaged or was made from another model.
        DataError: The data cannot be used.
    """
    options = options or LayerOptions()
    a, b = (model if isinstance(model, Model) else load(model) for model in (reference, test))
    is_native = options.native or any(map(is_integer_kernel, b.ir.graph))
    b = with_float_tensors(b, a)
    pairs = pair_tensors(a, b, dequantized_only=options.native)
    known = _table(a, table)
    source = _source(a, _choice(data, known, options.image_size), known, options)
    run = _Comparison(pairs, b, source, options)
    scores = scored(pairs.layers, run.totals())
    bad, step = first_bad(scores, options.threshold_db), steepest(scores)
    return LayerComparison(
        reference=str(a.path or "in memory"),
        test=str(b.path or "in memory"),
        data=source.describe(),
        samples=len(source) - len(run.skipped),
        skipped=run.skipped,
        arithmetic="native" if is_native else "exact",
        total=pairs.total,
        threshold_db=options.threshold_db,
        first_bad=bad.name if bad else None,
        steepest=step.name if step else None,
        layers=tuple(scores),
    )


def _table(model: Model, table: CalibrationTable | Path | str | None) -> CalibrationTable | None:
    found = table or find_table(TABLES, model.sha256)
    known = load_table(found) if isinstance(found, (Path, str)) else found
    if known is not None:
        known.check_model(model.sha256, str(model.path))
    return known


def _choice(
    data: DataChoice | Path | str | None,
    table: CalibrationTable | None,
    size: tuple[int, int] | None,
) -> DataChoice | None:
    """Return what to read: what is given, else a few of the table's samples, else None.

    These have the size of calibration where none is given.
    """
    header = table.header if table else None
    if data is not None:
        choice = data if isinstance(data, DataChoice) else DataChoice(Path(data))
        return replace(choice, recipe=header.recipe) if header and not choice.recipe else choice
    if table is None or not table.source.exists():
        return None
    return DataChoice(table.source, table.header.recipe, size or table.image_size, _FEW)


def _source(
    model: Model, choice: DataChoice | None, table: CalibrationTable | None, options: LayerOptions
) -> Source:
    if choice is not None:
        return open_choice(model.path, model.inputs, choice)[1]
    size = options.image_size or (table.header.image_size if table else None)
    return SyntheticSource(model.inputs, _RANDOM, seed=0, size=size)


class _Comparison:
    """Runs both models on all samples, as much of them at a time as memory is meant to hold."""

    def __init__(self, pairs: Pairs, test: Model, source: Source, options: LayerOptions) -> None:
        self._pairs, self._test = pairs, rounded_in_float(test.ir)
        self._source, self._options = source, options
        self._indices = list(range(len(source)))
        self.skipped: tuple[str, ...] = ()

    def totals(self) -> dict[str, Totals]:
        """Return what was added up for each layer."""
        parts = list(_parts(self._pairs, self._first().feeds))
        found: dict[str, Totals] = {}
        for number, layers in enumerate(parts):
            samples = self._counted(number, len(parts))
            found |= summed(*self._functions(layers), layers, samples)
        return found

    def _first(self) -> Sample:
        return next(iter(SampleStream(self._source, self._indices, threads=1)))

    def _counted(self, part: int, parts: int) -> Iterator[Sample]:
        """Yield the samples and report progress; what cannot be read is tried only once."""
        stream = SampleStream(self._source, self._indices, usable_cores())
        total, report = len(self._source), self._options.on_progress
        for done, sample in enumerate(stream, part * total + 1):
            yield sample
            if report is not None:
                report(done, parts * total)
        self.skipped += stream.skipped
        lost = set(self.skipped)
        self._indices = [i for i in self._indices if self._source.name(i) not in lost]

    def _functions(self, layers: Sequence[Layer]) -> tuple[TensorFunction, TensorFunction]:
        wanted, found = ([getattr(one, side) for one in layers] for side in ("name", "test"))
        return self._opened(self._pairs.graph, wanted), self._opened(self._test, found)

    def _opened(self, graph: ir.Model, tensors: Iterable[str]) -> TensorFunction:
        """Return the part of a graph that computes `tensors`, loaded."""
        cut = with_outputs(graph, dict.fromkeys(tensors))
        runner = open_graph(cut, simulate=not self._options.native)
        types = {spec.name: spec.dtype for spec in runner.inputs}

        def run(feeds: Mapping[str, NDArray[Any]]) -> Tensors:
            # A half-precision model may take half-precision inputs.
            return runner.run({name: feeds[name].astype(kind) for name, kind in types.items()})

        return run


def _parts(pairs: Pairs, feeds: Mapping[str, NDArray[Any]]) -> Iterator[tuple[Layer, ...]]:
    """Yield the layers by depth, as many at a time as make up `HELD_BYTES` in float32."""
    bound = bind_shapes(pairs.graph, {name: array.shape for name, array in feeds.items()})
    sizes = elements_by_name(bound)
    unknown = max(sizes.values(), default=1)
    part: list[Layer] = []
    held = 0
    for layer in pairs.layers:
        size = sizes.get(layer.name, unknown) * np.dtype(np.float32).itemsize
        if part and held + size > HELD_BYTES:
            yield tuple(part)
            part, held = [], 0
        part.append(layer)
        held += size
    yield tuple(part)
