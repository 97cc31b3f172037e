"""The machine that builds or loads an engine, as far as engines depend on it."""

import platform

import msgspec
from msgspec.structs import replace

from qbench.runtimes.gpu.devices import current_gpu, current_gpu_name, gpu_summary


class Machine(msgspec.Struct, frozen=True):
    """What decides whether an engine runs here.

    Attributes:
        system: Operating system and processor (`Linux x86_64`).
        gpu: Name of the first GPU; None where there is none.
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
    """Ask the driver about the first GPU; `nvidia-smi` adds its version where it is installed."""
    system = f"{platform.system()} {platform.machine()}"
    capability = current_gpu()
    if capability is None:
        return Machine(system)
    # The tool may count the GPUs in another order than CUDA; one driver serves them all.
    listed = gpu_summary() or ()
    return Machine(system, current_gpu_name(), capability, listed[0].driver if listed else None)
