"""Run a model over a source once and gather statistics of chosen tensors."""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qbench.calibration.kernels import COUNTED_VALUES
from qbench.calibration.sigmoids import sigmoids_between
from qbench.calibration.statistics import NonFiniteError, TensorStatistics
from qbench.data.ahead import ReadAhead
from qbench.data.samples import Sample, Skips, Source
from qbench.errors import CalibrationError, DataError
from qbench.formatting import first_names
from qbench.model.load import Model
from qbench.model.parts import in_parts, with_outputs
from qbench.model.shapes import bound_to_one, elements_by_name
from qbench.runtimes.base import Tensors
from qbench.runtimes.ort.blocks import in_blocks, sizes_in_blocks, split_blocks
from qbench.runtimes.ort.parts import OrtParts

logger = logging.getLogger(__name__)

Statistics = dict[str, TensorStatistics]

_MOST_BYTES = 1 << 32
"""Of all tensors that workers hold at a time: else 32 cores would need 32 times one sample's."""

_BLOCKED_AXIS = 1
"""Of the channels of a tensor that may lie in blocks."""

_FLOATS = {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE}


@dataclass(frozen=True)
class Settings:
    """How a pass goes.

    Attributes:
        threads: Number of workers.
        counted: A histogram counts about this many values of one sample's tensor.
        image_size: Height and width of images where the model leaves them open.
    """

    threads: int
    counted: int = COUNTED_VALUES
    image_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Collection:
    """What one pass over the data gathered.

    Attributes:
        statistics: By tensor name.
        images: Number of samples that were counted in.
        skipped: Names of samples that could not be read.
        inference_seconds: Time inside the runtime, summed over all workers.
    """

    statistics: Statistics
    images: int
    skipped: tuple[str, ...]
    inference_seconds: float


def collect(
    model: Model,
    tensors: Mapping[str, int | None],
    source: Source,
    settings: Settings,
    *,
    on_sample: Callable[[], None] | None = None,
) -> Collection:
    """Gather statistics of `tensors` (names with channel axes) over all samples of `source`.

    Each worker takes one sample at a time through decoding, inference on a single thread and
    counting, part by part of the model; the first samples are decoded while the model is loaded. So
    decoding overlaps with inference, memory holds one part's activations per worker whatever the
    number of samples, and no result depends on how many workers there are: fewer than asked for
    where their activations would take several GiB. Outputs of a Sigmoid are derived from its input;
    see `sigmoids`. Of the model's other outputs the log says where they hold NaN or Inf, which
    stops nothing, since no range depends on them.

    Args:
        model: The prepared model.
        tensors: Channel axes by name.
        source: The samples.
        settings: How the pass goes.
        on_sample: Called after every sample, by any worker.

    Raises:
        CalibrationError: A tensor holds NaN or Inf, or was empty for all samples.
        DataError: Samples do not fit the model, or too many cannot be read.
    """
    outputs = _further_outputs(model.ir.graph, tensors)
    sigmoids = sigmoids_between(model.ir.graph, tensors)
    fetched = [name for name in tensors if name not in sigmoids.values()]
    blocked = {name for name in fetched if tensors[name] in {None, _BLOCKED_AXIS}}
    ahead = ReadAhead(source)
    with ahead.filling() if settings.threads > 1 else nullcontext():
        opened, channels = _open(model, [*fetched, *outputs], blocked, settings.image_size)
    observer = _Observer(tensors, sigmoids, channels, settings.counted)
    with closing(opened) as runner:
        pass_ = _Pass(runner, observer, source, ahead.load, on_sample or (lambda: None))
        pass_.go(settings.threads)
    return pass_.result()


def _open(
    model: Model, names: list[str], blocked: set[str], image_size: tuple[int, int] | None
) -> tuple[OrtParts, Mapping[str, int]]:
    """Load what computes tensors; return it with the channels of those that it gives in blocks."""
    whole = in_blocks(with_outputs(model.ir, names), blocked)
    # Of the model's shapes, not of a sample's, so that all shards cut at the same places.
    sizes = elements_by_name(bound_to_one(model, image_size))
    parts = in_parts(whole.model, names, sizes_in_blocks(whole.model.graph, sizes))
    return OrtParts(parts, threads=1, are_optimized=whole.is_optimized), whole.channels


def _further_outputs(graph: ir.Graph, tensors: Container[str]) -> list[str]:
    """Return the float outputs that nodes write and that are not among `tensors`."""
    written = [value for value in graph.outputs if value.producer() is not None]
    arrays = [value for value in written if isinstance(value.type, ir.TensorType)]
    floats = [value.name or "" for value in arrays if value.dtype in _FLOATS]
    return [name for name in dict.fromkeys(floats) if name not in tensors]


class _Pass:
    """The shared state of one pass: which sample comes next, and what each worker has seen."""

    def __init__(
        self,
        runner: OrtParts,
        observer: "_Observer",
        source: Source,
        load: Callable[[int], Sample],
        on_sample: Callable[[], None],
    ) -> None:
        self._runner = runner
        self._observer = observer
        self._source = source
        self._load = load
        self._on_sample = on_sample
        self._lock = threading.Lock()
        self._next = 0
        self._skips = Skips(len(source))
        self._partial: list[Statistics] = []
        self._inference: list[float] = []
        self._broken: dict[str, set[str]] = defaultdict(set)
        """Names of samples by the output that holds NaN or Inf for them."""

    def go(self, threads: int) -> None:
        """Count all samples in, by as many workers at most."""
        size = next(filter(None, self._sizes()), 0)  # of the first that can be read
        workers = min(threads, max(1, _MOST_BYTES // max(1, size)))
        with ThreadPoolExecutor(workers) as pool:
            futures = [pool.submit(self._work) for _ in range(workers)]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                self._stop()  # on an error or Ctrl-C, workers end after their current sample
            for future in done:
                future.result()

    def _work(self) -> None:
        """Count samples in as long as there are some."""
        for _ in self._sizes():
            pass

    def _stop(self) -> None:
        with self._lock:
            self._next = len(self._source)

    def _sizes(self) -> Iterator[int]:
        """Count samples in, one for each step; yield the most bytes of its tensors held."""
        statistics = {name: TensorStatistics() for name in self._observer.tensors}
        with self._lock:
            self._partial.append(statistics)
        while (index := self._take()) is not None:
            size = self._count(index, statistics)
            self._on_sample()
            yield size

    def result(self) -> Collection:
        merged, *others = self._partial
        for other in others:
            for name, statistics in other.items():
                merged[name].merge(statistics)
        if empty := [name for name, statistics in merged.items() if not statistics.count]:
            raise CalibrationError(
                f"tensor {empty[0]!r} held no values for any sample; give data that reaches it"
            )
        images = len(self._source) - len(self._skips.names)
        if self._skips.names:
            logger.warning("%s", self._skips.describe())
        for output, samples in sorted(self._broken.items()):
            logger.warning(
                "output %r of the float model holds NaN or Inf for %s; check the recipe's scale, "
                "mean and std, or the model itself",
                output,
                first_names(sorted(samples)),
                extra={"matter": f"NaN in {output}"},  # as a search tells, too
            )
        return Collection(merged, images, self._skips.names, sum(self._inference))

    def _take(self) -> int | None:
        with self._lock:
            if self._next >= len(self._source):
                return None
            self._next += 1
            return self._next - 1

    def _count(self, index: int, statistics: Statistics) -> int:
        try:
            sample = self._load(index)
        except DataError as error:
            self._skips.add(self._source.name(index), error)
            return 0
        size = 0
        started = time.perf_counter()
        for outputs in self._runner.run(sample.feeds):
            self._inference.append(time.perf_counter() - started)
            size = max(size, sum(array.nbytes for array in outputs.values()))
            self._count_all(outputs, sample.name, statistics)
            outputs.clear()  # before the next part runs
            started = time.perf_counter()
        return size

    def _count_all(self, outputs: Tensors, sample: str, statistics: Statistics) -> None:
        for name, array in outputs.items():
            if name not in self._observer.tensors:
                self._look(name, array, sample)
                continue
            try:
                self._observer.count(name, array, statistics)
            except NonFiniteError:
                raise CalibrationError(
                    f"tensor {name!r} holds NaN or Inf for {sample}; "
                    "check the recipe's scale, mean and std, or the model itself"
                ) from None

    def _look(self, output: str, array: NDArray[Any], sample: str) -> None:
        if not np.isfinite(array).all():
            with self._lock:
                self._broken[output].add(sample)


@dataclass(frozen=True)
class _Observer:
    """What is taken of which tensors.

    Attributes:
        tensors: Channel axes by name.
        sigmoids: Outputs that are derived, by the name of what they are derived from.
        channels: How many channels a tensor has that lies in blocks; see `ort.blocks`.
        counted: A histogram counts about this many values.
    """

    tensors: Mapping[str, int | None]
    sigmoids: Mapping[str, str]
    channels: Mapping[str, int]
    counted: int

    def count(self, name: str, array: NDArray[Any], statistics: Statistics) -> None:
        axis, channels = self.tensors[name], self.channels.get(name)
        if channels is None:
            seen = statistics[name].add(array, axis, self.counted)
        else:
            blocks, by_channel = split_blocks(array), axis is not None
            seen = statistics[name].add_blocks(
                blocks, channels, self.counted, by_channel=by_channel
            )
        if seen is not None and name in self.sigmoids:
            statistics[self.sigmoids[name]].add_sigmoids(seen)
