"""The machine that builds or loads an engine, as far as engines depend on it."""

import platform

import msgspec
from msgspec.structs import replace

from qbench.runtimes.gpu import current_gpu, gpu_summary


class Machine(msgspec.Struct, frozen=True):
    """What decides whether an engine runs here.

    Attributes:
        system: Operating system and processor (`Linux x86_64`).
        gpu: Name of the first GPU; None where there is none, or nobody tells.
        compute_capability: Of that GPU (`sm86`).
        driver: Version of its driver.
    """

    system: str
    gpu: str | None = None
    compute_capability: str | None = None
    driver: str | None = None

    def without_gpu(self) -> "Machine":
        """Return the same machine as if it had no GPU."""
        return replace(self, gpu=None, compute_capability=None, driver=None)


def this_machine() -> Machine:
    """Ask the driver about the first GPU; `nvidia-smi` adds its name where it is installed."""
    system = f"{platform.system()} {platform.machine()}"
    capability = current_gpu()
    if capability is None:
        return Machine(system)
    # The driver counts the fastest GPU first, nvidia-smi the first on the bus.
    alike = (
        gpu
        for gpu in gpu_summary() or ()
        if f"sm{gpu.compute_capability.replace('.', '')}" == capability
    )
    found = next(alike, None)
    if found is None:
        return Machine(system, compute_capability=capability)
    return Machine(system, found.name, capability, found.driver)
