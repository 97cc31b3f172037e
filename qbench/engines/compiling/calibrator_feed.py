"""Samples on the GPU, batch after batch, as TensorRT 10's calibrators hand them over."""

from collections.abc import Iterator, Sequence

import numpy as np

from qbench.data.samples import Sample, Skips, subset
from qbench.data.sources import open_source
from qbench.engines.compiling.protocol import CalibrationImages
from qbench.errors import DataError, EngineError, QbenchError
from qbench.model.spec import TensorSpec
from qbench.runtimes.cuda.choose import open_cuda
from qbench.runtimes.tensorrt.engine_io import Memory


class BatchFeed:
    """Puts one sample after another into device memory of its own.

    A batch holds one sample, as often as the profile's batch asks for: that changes the counts of
    values that the calibrator sees, and no range.

    Attributes:
        batch: Length of the first axis of the inputs.
        error: What went wrong. It cannot be raised where TensorRT's own code lies between.

    Raises:
        DataError: The samples cannot be read, or do not fit.
        UnfitError: There is no GPU.
    """

    def __init__(self, images: CalibrationImages) -> None:
        specs = [TensorSpec(i.name, i.shape, np.dtype(i.dtype)) for i in images.inputs]
        self._source = subset(open_source(images.path, specs, images.recipe), images.limit)
        self.batch = images.inputs[0].shape[0] if images.inputs[0].shape else 1
        self.error: QbenchError | None = None
        self._skips = Skips(len(self._source))
        self._samples = self._readable()
        self._cuda = open_cuda()
        self._stream = self._cuda.stream()
        self._memories = {spec.name: Memory(self._cuda) for spec in specs}

    def next(self, names: Sequence[str]) -> list[int] | None:
        """Return where the inputs of the next batch lie, in the order of `names`; None at the end.

        After an error there is no next batch either.
        """
        try:
            sample = next(self._samples, None)
            return None if sample is None else [self._uploaded(sample, name) for name in names]
        except (DataError, EngineError) as error:
            self.error = error
            return None

    def notes(self) -> str:
        """Return which samples could not be read; empty where all could."""
        return self._skips.describe()

    def close(self) -> None:
        """Free the memory and leave the GPU."""
        for memory in self._memories.values():
            memory.close()
        self._stream.close()
        self._cuda.close()

    def _readable(self) -> Iterator[Sample]:
        for index in range(len(self._source)):
            try:
                sample = self._source.load(index)
            except DataError as error:
                self._skips.add(self._source.name(index), error)
                continue
            yield sample

    def _uploaded(self, sample: Sample, name: str) -> int:
        array, memory = sample.feeds[name], self._memories[name]
        memory.reserve(array.nbytes)
        np.copyto(memory.view(array.shape, array.dtype), array)
        self._stream.copy_in(memory.address, memory.host[: array.nbytes])
        self._stream.synchronize()
        return memory.address
