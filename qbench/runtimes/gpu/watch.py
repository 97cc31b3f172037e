"""What disturbs a GPU while it is timed: throttling, and other processes."""

import os
import time
from collections.abc import Callable, Collection

from qbench.runtimes.gpu.nvml import Nvml, open_nvml

_LATELY = 1.0
"""Seconds before a block in which the work of others counts; NVML samples about that often."""


class GpuWatch:
    """Watches a GPU around timed blocks.

    Args:
        nvml: The GPU.
        own: Tells the processes that may use it.

    Attributes:
        sm_clocks_mhz: Lowest and highest clock that the multiprocessors had after a block; None
            before the first block, and where the GPU does not tell.
    """

    def __init__(self, nvml: Nvml, own: Callable[[], Collection[int]]) -> None:
        self._nvml, self._own = nvml, own
        self._held_back: dict[str, int] = {}
        self._since = 0.0
        self.sm_clocks_mhz: tuple[int, int] | None = None

    def before_block(self) -> None:
        """Note what the GPU counts."""
        self._since = time.time() - _LATELY
        self._held_back = self._nvml.held_back()

    def after_block(self) -> str | None:
        """Return why the block since `before_block` must not count, in a few words, or None."""
        self._note_clock()
        if reasons := self._throttling():
            return f"the GPU throttled ({', '.join(reasons)})"
        if pids := self._nvml.foreign_pids(self._own(), self._since):
            return f"another process used the GPU (pid {', '.join(map(str, pids))})"
        return None

    def _throttling(self) -> tuple[str, ...]:
        """Return what slows the GPU now or has done so during the block."""
        counted = self._nvml.held_back()
        grown = [word for word, ns in counted.items() if ns > self._held_back.get(word, ns)]
        return tuple(dict.fromkeys((*grown, *self._nvml.slowdowns())))

    def _note_clock(self) -> None:
        clock = self._nvml.sm_clock_mhz()
        if clock is not None:
            low, high = self.sm_clocks_mhz or (clock, clock)
            self.sm_clocks_mhz = min(low, clock), max(high, clock)


def open_gpu_watch(own: Callable[[], Collection[int]] | None = None) -> GpuWatch | None:
    """Return a watch over the first GPU; None without one, its driver, or nvidia-ml-py.

    Args:
        own: Tells the processes of the benchmark that use the GPU; None for this process alone.
    """
    nvml = open_nvml()
    return None if nvml is None else GpuWatch(nvml, own or (lambda: {os.getpid()}))
