"""Limits of the compiler's process, held by a thread that watches it."""

import os
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from qbench.errors import UsageError

_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Limits:
    """What one build may take; None is no limit.

    Attributes:
        seconds: Time from the start of the process.
        memory_bytes: Memory resident at any moment.
    """

    seconds: float | None = None
    memory_bytes: int | None = None


def check_limits(limits: Limits) -> None:
    """Make sure that the limits can be held on this system.

    Raises:
        UsageError: Memory is limited where the system does not tell how much a process holds.
    """
    if limits.memory_bytes is not None and not Path("/proc/self/statm").exists():
        raise UsageError("--memory-limit needs Linux; leave it out")


class Watchdog(threading.Thread):
    """Kills a process that goes beyond its limits, while it is entered.

    Resident memory is watched, and no resource limit is set on addresses: CUDA reserves far more of
    them than it ever uses, and fails where it may not.

    Attributes:
        verdict: Which limit was broken, as part of a sentence; None while none was.
    """

    def __init__(self, process: subprocess.Popen[bytes], limits: Limits) -> None:
        super().__init__(daemon=True)
        self.verdict: str | None = None
        self._process = process
        self._limits = limits
        self._start = time.monotonic()
        self._is_over = threading.Event()

    def __enter__(self) -> "Watchdog":
        if self._limits != Limits():
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        if self.ident is not None:
            self.join()

    def run(self) -> None:
        """Look at the process until it ends or breaks a limit."""
        while not self._is_over.wait(_POLL_SECONDS):
            self.verdict = self._broken()
            if self.verdict is not None:
                self._process.kill()
                return

    def _broken(self) -> str | None:
        limits = self._limits
        if limits.seconds is not None and time.monotonic() - self._start > limits.seconds:
            return f"took longer than the {limits.seconds:g} s of --timeout; allow more"
        if limits.memory_bytes is not None and _resident(self._process.pid) > limits.memory_bytes:
            most = limits.memory_bytes / (1 << 20)
            return f"held more than the {most:.0f} MiB of --memory-limit; allow more"
        return None


def _resident(pid: int) -> int:
    """Return the resident memory of a process in bytes; 0 once it has ended."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
