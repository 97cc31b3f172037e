"""Feeds whose processes come to a bad end, for tests of workers; a module that those can import."""

import os
import signal
import sys
from dataclasses import dataclass
from typing import Any

from qbench.benchmarking.judging.feeding import Feeding
from qbench.data.samples import Sample
from qbench.runtimes.base import Runner


@dataclass(frozen=True)
class Crashing(Feeding):
    """Ends its process when it is asked for a sample, or for a judge.

    Attributes:
        at: `sample` or `judge`.
        by: A signal's name, or an exit code, or `raise`.
    """

    at: str = "sample"
    by: str = "SIGSEGV"

    def sample(self, runner: Runner, batch: int | None) -> Sample:
        self._crash("sample")
        return super().sample(runner, batch)

    def judge(self, runner: Runner) -> Any:
        self._crash("judge")
        return super().judge(runner)

    def _crash(self, at: str) -> None:
        if at != self.at:
            return
        sys.stderr.write("the last words\n")
        sys.stderr.flush()
        if self.by.startswith("SIG"):
            os.kill(os.getpid(), getattr(signal, self.by))
        if self.by == "raise":
            raise ZeroDivisionError("a bug")
        os._exit(int(self.by))
