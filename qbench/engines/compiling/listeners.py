"""What listens to the compiler while it works: its log, and its progress."""

import sys
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any

from qbench.engines.compiling.protocol import Event, Progress


def logger_of(module: ModuleType) -> Any:
    """Return a logger that writes every message to stderr and keeps the errors."""
    severities = module.ILogger.Severity

    class Logger(module.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in (severities.ERROR, severities.INTERNAL_ERROR):
                self.errors.append(msg)
            # A full disk costs the log, not the build; the engine's own write reports it.
            with suppress(OSError):
                sys.stderr.write(f"[{severity.name}] {msg}\n")

    return Logger()


def monitor_of(module: ModuleType, send: Callable[[Event], None]) -> Any:
    """Return a progress monitor that sends events; the build stops once nobody reads them."""

    class Monitor(module.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.phases: dict[str, tuple[str | None, int]] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.phases[phase_name] = (parent_phase, num_steps)
            self._report(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return self._report(phase_name, step + 1)

        def phase_finish(self, phase_name: str) -> None:
            self._report(phase_name, self.phases[phase_name][1])

        def _report(self, phase: str, step: int) -> bool:
            parent, steps = self.phases[phase]
            try:
                send(Progress(phase, parent, step, steps))
            except OSError:
                return False
            return True

    return Monitor()
