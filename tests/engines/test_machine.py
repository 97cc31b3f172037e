import platform

import pytest

from qbench.engines import machine as module
from qbench.engines.machine import Machine, this_machine
from qbench.engines.record import built_on
from qbench.runtimes.gpu.devices import Gpu

SMALL = Gpu("RTX A2000", "580.65", 6 << 30, "8.6", 210, 1200)
LARGE = Gpu("RTX 3090", "580.65", 24 << 30, "8.6", 210, 1695)
HERE = Machine("Linux x86_64", "RTX 4090", "sm89", "580.65")


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch):
    def pretend(first, name, listed):
        monkeypatch.setattr(module, "current_gpu", lambda: first)
        monkeypatch.setattr(module, "current_gpu_name", lambda: name)
        monkeypatch.setattr(module, "gpu_summary", lambda: listed)

    return pretend


def test_the_first_gpu_is_the_one_that_the_driver_counts_first(gpus):
    gpus("sm86", "RTX 3090", (SMALL, LARGE))
    found = this_machine()
    assert (found.gpu, found.compute_capability, found.driver) == ("RTX 3090", "sm86", "580.65")
    assert found.system == f"{platform.system()} {platform.machine()}"


@pytest.mark.parametrize("listed", [None, ()])
def test_without_nvidia_smi_the_version_of_the_driver_is_unknown(gpus, listed):
    gpus("sm86", "RTX 3090", listed)
    found = this_machine()
    assert (found.gpu, found.compute_capability, found.driver) == ("RTX 3090", "sm86", None)


def test_a_machine_without_a_gpu(gpus):
    gpus(None, None, (LARGE,))
    assert this_machine() == this_machine().without_gpu()


@pytest.mark.parametrize(
    ("targets", "gpu"),
    [((), "RTX 4090"), (("sm86", "sm89"), "RTX 4090"), (("sm86",), None)],
)
def test_ahead_of_time_the_gpu_at_hand_has_no_part_in_the_build(targets, gpu):
    assert built_on(HERE, targets).gpu == gpu
