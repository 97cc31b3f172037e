"""Other processes: what a program of this machine prints, and modules that serve a parent."""

import os
import subprocess
import sys
from typing import BinaryIO

_SECONDS = 10.0


def command_output(*command: str) -> str | None:
    """Return what `command` prints, None where it is missing, fails or hangs."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def python_module(name: str) -> tuple[str, ...]:
    """Return the command that runs a module in a process of its own."""
    # -P keeps the working directory off the module path: a user's folder may hold an `onnx.py`.
    return (sys.executable, "-P", "-X", "utf8", "-m", name)


def claim_stdout() -> BinaryIO:
    """Keep standard output for a parent; whatever a library prints there joins standard error."""
    claimed = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return claimed
