"""A GPU whose NVML answers as a test says, in place of the driver behind the real `pynvml`.

Functions and constants are those of the installed package: what it does not have cannot be faked,
and a call that its signature does not take fails.
"""

from dataclasses import dataclass, field
from typing import Any
from unittest.mock import create_autospec

import pynvml
import pytest

from qbench.runtimes.gpu import nvml

BUS_ID = "0000:65:00.0"
HANDLE = object()


@dataclass
class FakeGpu:
    """What NVML says of the GPU.

    Attributes:
        reasons: Bits of `nvmlClocksEventReason...`.
        held_back: Nanoseconds by `NVML_PERF_POLICY_...`.
        listed: Processes that hold the GPU.
        busy: Use in percent by process, and when it was sampled, in seconds since the epoch.
        missing: Functions that this GPU or driver does not have.
    """

    used: int = 1 << 30
    sm_clock: int = 1980
    reasons: int = 0
    held_back: dict[int, int] = field(default_factory=dict)
    listed: list[int] = field(default_factory=list)
    busy: dict[int, tuple[int, float]] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)


def install(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """Let NVML be there, with one GPU."""
    gpu = FakeGpu()

    def answer(name: str, act: Any) -> None:
        def call(handle: Any, *arguments: Any) -> Any:
            assert handle is HANDLE
            if name in gpu.missing:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            return act(*arguments)

        spec = create_autospec(getattr(pynvml, name), side_effect=call)
        monkeypatch.setattr(pynvml, name, spec)

    def clock(kind: int) -> int:
        return {pynvml.NVML_CLOCK_SM: gpu.sm_clock}[kind]

    def utilization(since: int) -> list[Any]:
        found = [
            pynvml.c_nvmlProcessUtilizationSample_t(
                pid=pid, smUtil=percent, timeStamp=int(at * 1e6)
            )
            for pid, (percent, at) in gpu.busy.items()
            if at * 1e6 > since
        ]
        if not found:  # as NVML answers where it has no sample
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return found

    monkeypatch.setattr(pynvml, "nvmlInit", create_autospec(pynvml.nvmlInit))
    by_bus_id = create_autospec(
        pynvml.nvmlDeviceGetHandleByPciBusId, side_effect=lambda bus: {BUS_ID: HANDLE}[bus]
    )
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByPciBusId", by_bus_id)
    monkeypatch.setattr(nvml, "current_bus_id", lambda: BUS_ID)
    answer("nvmlDeviceGetMemoryInfo", lambda: pynvml.c_nvmlMemory_t(used=gpu.used))
    answer("nvmlDeviceGetClockInfo", clock)
    answer("nvmlDeviceGetCurrentClocksEventReasons", lambda: gpu.reasons)
    answer("nvmlDeviceGetCurrentClocksThrottleReasons", lambda: gpu.reasons)
    answer(
        "nvmlDeviceGetViolationStatus",
        lambda policy: pynvml.c_nvmlViolationTime_t(violationTime=gpu.held_back.get(policy, 0)),
    )
    answer(
        "nvmlDeviceGetComputeRunningProcesses",
        lambda: [
            pynvml.nvmlStructToFriendlyObject(pynvml.c_nvmlProcessInfo_v3_t(pid=pid))
            for pid in gpu.listed
        ],
    )
    answer("nvmlDeviceGetProcessUtilization", utilization)
    return gpu
