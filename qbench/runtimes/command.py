"""What another program of this machine prints."""

import subprocess

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
