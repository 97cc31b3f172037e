"""Samples on their way to a model: read ahead by threads, in the source's order."""

import logging
from collections import deque
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from qbench.data.samples import Sample, Skips, Source
from qbench.errors import DataError

logger = logging.getLogger(__name__)

_LOOK_AHEAD_PER_THREAD = 2


def labelled(source: Source, names: Container[str], what: str) -> list[int]:
    """Return the indices of the samples that are among `names`, which have `what`.

    Raises:
        DataError: There are none.
    """
    indices = [index for index in range(len(source)) if source.name(index) in names]
    if not indices:
        raise DataError(f"no sample of {source.describe()} has {what}; check --labels")
    return indices


class SampleStream:
    """The samples of `source` at `indices` that can be read, read by `threads` threads.

    Iterate once. At most a few samples per thread wait in memory. What cannot be read is skipped
    and, at the end, noted in the log.
    """

    def __init__(self, source: Source, indices: Sequence[int], threads: int) -> None:
        self._source, self._indices = source, indices
        self._threads = max(threads, 1)
        self._skips = Skips(len(indices))

    @property
    def skipped(self) -> tuple[str, ...]:
        """Names of the samples that could not be read so far."""
        return self._skips.names

    def __iter__(self) -> Iterator[Sample]:
        """Yield the samples.

        Raises:
            DataError: Too many samples cannot be read.
        """
        with ThreadPoolExecutor(self._threads) as pool:
            loads = ((index, pool.submit(self._source.load, index)) for index in self._indices)
            waiting: deque[tuple[int, Future[Sample]]] = deque(
                islice(loads, self._threads * _LOOK_AHEAD_PER_THREAD)
            )
            while waiting:
                index, load = waiting.popleft()
                waiting.extend(islice(loads, 1))
                try:
                    sample = load.result()
                except DataError as error:
                    self._skips.add(self._source.name(index), error)
                    continue
                yield sample
        if self._skips.names:
            logger.warning("%s", self._skips.describe())
