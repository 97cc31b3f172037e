"""The machine and the software that a measurement was made on.

What a platform does not tell is None; nothing here fails on a machine that lacks a tool or a file.
"""

import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from qbench import artifacts
from qbench.runtimes.command import command_output
from qbench.runtimes.cpu import cpuinfo_field, isa_flags, read_cpuinfo, usable_cores
from qbench.runtimes.gpu.devices import Gpu, gpu_summary

_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_STATUS = Path("/proc/self/status")
_CGROUP = Path("/sys/fs/cgroup")


class Environment(msgspec.Struct, frozen=True):
    """Where and with what a measurement was made.

    Attributes:
        cpu: Model name of the processor.
        cores: Logical cores that this process may run on.
        core_quota: Cores' worth of time that the control group grants, None where it sets no limit.
        isa: Instruction sets for integer kernels, None where the platform does not list them.
        governor: Frequency governor of the first core.
        load_average: Runnable processes over the last 1, 5 and 15 minutes.
        os: Name and release of the operating system.
        python: Version of the interpreter.
        versions: Versions of the packages whose code shapes the result.
        git_commit: Commit of the checkout that holds the current folder.
        gpus: The GPUs, None where there is no `nvidia-smi`.
        time_utc: When this was captured, ISO 8601.
    """

    cpu: str
    cores: int
    core_quota: float | None
    isa: tuple[str, ...] | None
    governor: str | None
    load_average: tuple[float, float, float] | None
    os: str
    python: str
    versions: dict[str, str]
    git_commit: str | None
    gpus: tuple[Gpu, ...] | None
    time_utc: str


def capture() -> Environment:
    """Describe this machine, now."""
    cpuinfo = read_cpuinfo()
    return Environment(
        cpu=cpu_model(cpuinfo),
        cores=usable_cores(),
        core_quota=core_quota(_CGROUP),
        isa=isa_flags(cpuinfo),
        governor=_read(_GOVERNOR),
        load_average=load_average(),
        os=platform.platform(),
        python=platform.python_version(),
        versions=artifacts.versions("openvino"),
        git_commit=command_output("git", "rev-parse", "HEAD"),
        gpus=gpu_summary(),
        time_utc=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def machine_of(environment: Environment) -> dict[str, Any]:
    """Return what decides the speed of a machine, whatever runs on it."""
    return {
        "CPU": environment.cpu,
        "cores": environment.cores,
        "core quota": environment.core_quota,
        "ISA": environment.isa,
        "governor": environment.governor,
        "GPU": environment.gpus and [_gpu(gpu) for gpu in environment.gpus],
    }


def load_average() -> tuple[float, float, float] | None:
    """Return the runnable processes over the last 1, 5 and 15 minutes."""
    try:
        return os.getloadavg()
    except (AttributeError, OSError):  # AttributeError: Windows has none
        return None


def cpu_model(cpuinfo: str) -> str:
    """Return the processor's name from the text of /proc/cpuinfo, or from the platform."""
    if name := cpuinfo_field(cpuinfo, "model name"):
        return name
    if sys.platform == "darwin" and (
        name := command_output("sysctl", "-n", "machdep.cpu.brand_string")
    ):
        return name
    return platform.processor() or platform.machine() or "unknown"


def core_quota(cgroup: Path) -> float | None:
    """Return the cores' worth of time that the control group at `cgroup` (v2 or v1) grants."""
    if limit := _read(cgroup / "cpu.max"):
        quota, period = limit.split()
    else:
        quota = _read(cgroup / "cpu/cpu.cfs_quota_us") or "-1"
        period = _read(cgroup / "cpu/cpu.cfs_period_us") or "1"
    return None if quota in ("max", "-1") else int(quota) / int(period)


def peak_rss_bytes() -> int | None:
    """Return the most resident memory that this process ever held: all models in it together.

    On Linux its own figure is preferred, since that of `resource` starts at the peak of the process
    that forked this one. None on Windows.
    """
    peak = next((line for line in (_read(_STATUS) or "").splitlines() if "VmHWM" in line), None)
    if peak is not None:
        return int(peak.split()[1]) << 10
    if sys.platform == "win32":
        return None
    import resource

    reported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return reported if sys.platform == "darwin" else reported << 10


def _gpu(gpu: Gpu) -> str:
    return f"{gpu.name} with driver {gpu.driver}"


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
