import subprocess
import sys
from pathlib import Path

import pytest

from qbench.engines.compiling import limits
from qbench.engines.compiling.limits import Limits, Watchdog, check_limits
from qbench.errors import UsageError

SLEEP = "import time; time.sleep(600)"
GREEDY = f"data = bytearray(b'x') * (200 << 20); {SLEEP}"


def watched(code: str, most: Limits) -> tuple[int, str | None]:
    process = subprocess.Popen([sys.executable, "-c", code])
    with process, Watchdog(process, most) as watchdog:
        return process.wait(), watchdog.verdict


def test_time() -> None:
    code, verdict = watched(SLEEP, Limits(seconds=0.2))
    assert code < 0
    assert verdict == "took longer than the 0.2 s of --timeout; allow more"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory() -> None:
    code, verdict = watched(GREEDY, Limits(memory_bytes=100 << 20))
    assert code < 0
    assert verdict == "held more than the 100 MiB of --memory-limit; allow more"


@pytest.mark.parametrize("most", [Limits(), Limits(seconds=600, memory_bytes=1 << 40)])
def test_within_limits(most: Limits) -> None:
    assert watched("pass", most) == (0, None)


def test_a_process_that_is_gone_holds_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert limits._resident(process.pid) == 0


def test_memory_that_nobody_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    check_limits(Limits(memory_bytes=1))
    monkeypatch.setattr(Path, "exists", lambda _: False)
    check_limits(Limits(seconds=1))
    with pytest.raises(UsageError, match="--memory-limit needs Linux; leave it out"):
        check_limits(Limits(memory_bytes=1))
