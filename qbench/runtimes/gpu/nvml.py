"""The first GPU as NVIDIA's management library (NVML) sees it.

What a GPU or its driver does not tell is None or empty.
"""

import importlib
from collections.abc import Collection
from typing import Any

from qbench.runtimes.gpu.devices import current_bus_id

_SLOWDOWNS = {
    "nvmlClocksEventReasonSwPowerCap": "power limit",
    "nvmlClocksEventReasonSwThermalSlowdown": "heat",
    "nvmlClocksEventReasonHwThermalSlowdown": "heat",
    "nvmlClocksEventReasonHwPowerBrakeSlowdown": "power brake",
    "nvmlClocksEventReasonHwSlowdown": "hardware slowdown",
}
"""Reasons why a GPU runs below its clock; an idle one, and limits set by hand, are none."""

_POLICIES = {"NVML_PERF_POLICY_POWER": "power limit", "NVML_PERF_POLICY_THERMAL": "heat"}
"""What NVML adds up the time of during which the GPU was held back."""


class Nvml:
    """Asks NVML about one GPU.

    Args:
        api: The module `pynvml`, initialized.
        handle: The GPU.
    """

    def __init__(self, api: Any, handle: Any) -> None:
        self._api, self._handle = api, handle

    def used_bytes(self) -> int | None:
        """Return the memory of the GPU that is in use, by whatever process."""
        memory = self._ask("nvmlDeviceGetMemoryInfo")
        return None if memory is None else int(memory.used)

    def sm_clock_mhz(self) -> int | None:
        """Return the clock of the multiprocessors."""
        clock: int | None = self._ask("nvmlDeviceGetClockInfo", self._api.NVML_CLOCK_SM)
        return clock

    def slowdowns(self) -> tuple[str, ...]:
        """Return why the GPU runs slower than it could, now."""
        # Drivers before 535 know them by the second name.
        bits = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if bits is None:
            bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
        found = (word for name, word in _SLOWDOWNS.items() if bits & getattr(self._api, name))
        return tuple(dict.fromkeys(found))

    def held_back(self) -> dict[str, int]:
        """Return the nanoseconds during which the GPU was held back since its start, by reason."""
        found = {
            word: self._ask("nvmlDeviceGetViolationStatus", getattr(self._api, policy))
            for policy, word in _POLICIES.items()
        }
        return {word: int(told.violationTime) for word, told in found.items() if told is not None}

    def foreign_pids(self, own: Collection[int], since: float) -> tuple[int, ...]:
        """Return the processes other than `own` that computed on the GPU lately.

        Args:
            own: Processes that may, of which one has to use the GPU. Where NVML lists none of
                them, it counts processes otherwise than this container does, and nothing is told.
            since: From when on, in seconds since the epoch. NVML samples a few times a second.
        """
        listed = self._ask("nvmlDeviceGetComputeRunningProcesses") or ()
        if not any(process.pid in own for process in listed):
            return ()
        samples = self._ask("nvmlDeviceGetProcessUtilization", int(since * 1e6)) or ()
        busy = {int(sample.pid) for sample in samples if sample.smUtil > 0}
        return tuple(sorted(pid for pid in busy if pid not in own))

    def _ask(self, function: str, *arguments: Any) -> Any:
        """Return NVML's answer, None where it has none."""
        try:
            return getattr(self._api, function)(self._handle, *arguments)
        except self._api.NVMLError:
            return None


def open_nvml() -> Nvml | None:
    """Return the first GPU; None without a GPU, its driver, or the package nvidia-ml-py."""
    try:
        api = importlib.import_module("pynvml")
    except ImportError:
        return None
    bus_id = current_bus_id()
    if bus_id is None:
        return None
    try:
        api.nvmlInit()
        return Nvml(api, api.nvmlDeviceGetHandleByPciBusId(bus_id))
    except api.NVMLError:
        return None
