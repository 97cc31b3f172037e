"""Samples that are read while something else keeps their readers waiting."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from qbench.data.samples import Sample, Source
from qbench.errors import DataError

_MOST_BYTES = 1 << 25
"""Of samples that wait."""


class ReadAhead:
    """The first samples of a source, read once by another thread.

    Args:
        source: The samples.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._waiting: dict[int, Sample] = {}
        self._is_enough = threading.Event()

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Read samples until the context ends, a certain size is reached, or one is unusable."""
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(self._fill)
            try:
                yield
            finally:
                self._is_enough.set()
            reading.result()

    def load(self, index: int) -> Sample:
        """Return a sample, which is let go of.

        Raises:
            DataError: It cannot be used.
        """
        return self._waiting.pop(index, None) or self._source.load(index)

    def _fill(self) -> None:
        size = 0
        for index in range(len(self._source)):
            if self._is_enough.is_set() or size > _MOST_BYTES:
                return
            try:
                sample = self._source.load(index)
            except DataError:  # whose reader is told of it
                return
            self._waiting[index] = sample
            size += sum(array.nbytes for array in sample.feeds.values())
