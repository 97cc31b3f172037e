"""A slowdown that is planted in a candidate, also where it runs in a process of its own."""

import time
from dataclasses import dataclass
from typing import Any

from qbench.benchmarking.sessions.session import Task
from qbench.benchmarking.timing.clock import Call
from qbench.runtimes.base import Runner, Tensors


@dataclass(frozen=True)
class Planted(Task):
    """A candidate that is slowed down, whenever it is loaded.

    Attributes:
        share: Of the time of each call to add, 0.03 for 3 %.
    """

    share: float = 0.0

    def open(self) -> Runner:
        """Load it, and make its calls slower."""
        runner = super().open()
        bind: Any = runner.bind

        def bind_slowed(feeds: Tensors) -> Call:
            return slowed(bind(feeds), self.share)

        if self.share:
            runner.bind = bind_slowed  # type: ignore[method-assign, assignment]
        return runner


def slowed(call: Call, share: float) -> Call:
    """Return `call` with busy waiting after it, for `share` of the time that it took."""
    now = time.perf_counter_ns

    def slow() -> None:
        started = now()
        call()
        ended = now()
        end = ended + share * (ended - started)
        while now() < end:
            pass

    return slow
