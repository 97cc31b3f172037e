import os
import sys
import time

import fake_nvml
import pynvml
import pytest
from fake_nvml import FakeGpu

from qbench.runtimes.gpu import nvml
from qbench.runtimes.gpu.nvml import _POLICIES, _SLOWDOWNS, open_nvml
from qbench.runtimes.gpu.watch import GpuWatch, open_gpu_watch

FOREIGN = 4711


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    return fake_nvml.install(monkeypatch)


@pytest.fixture
def watch(gpu: FakeGpu) -> GpuWatch:
    gpu.listed = [os.getpid()]
    found = open_gpu_watch()
    assert found is not None
    return found


def block(watch: GpuWatch) -> str | None:
    watch.before_block()
    return watch.after_block()


def test_an_undisturbed_block_counts(watch: GpuWatch) -> None:
    assert block(watch) is None


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["SwPowerCap"], "power limit"),
        (["SwThermalSlowdown"], "heat"),
        (["HwThermalSlowdown", "SwThermalSlowdown"], "heat"),
        (["HwPowerBrakeSlowdown", "HwSlowdown"], "power brake, hardware slowdown"),
    ],
)
def test_a_gpu_that_throttles_voids_the_block(
    names: list[str], words: str, gpu: FakeGpu, watch: GpuWatch
) -> None:
    gpu.reasons = sum(getattr(pynvml, f"nvmlClocksEventReason{name}") for name in names)
    assert block(watch) == f"the GPU throttled ({words})"
    gpu.missing = {"nvmlDeviceGetCurrentClocksEventReasons"}  # as with an old driver
    assert block(watch) == f"the GPU throttled ({words})"


def test_an_idle_gpu_and_clocks_set_by_hand_do_not(gpu: FakeGpu, watch: GpuWatch) -> None:
    gpu.reasons = (
        pynvml.nvmlClocksEventReasonGpuIdle | pynvml.nvmlClocksEventReasonApplicationsClocksSetting
    )
    assert block(watch) is None


def test_throttling_that_is_over_when_the_block_ends_is_noticed(
    gpu: FakeGpu, watch: GpuWatch
) -> None:
    gpu.held_back = {pynvml.NVML_PERF_POLICY_THERMAL: 10**9}
    watch.before_block()
    gpu.held_back[pynvml.NVML_PERF_POLICY_THERMAL] += 1
    assert watch.after_block() == "the GPU throttled (heat)"
    assert block(watch) is None  # what was counted before a block is none of its business


def test_another_process_that_computes_voids_the_block(gpu: FakeGpu, watch: GpuWatch) -> None:
    gpu.busy = {FOREIGN: (30, time.time()), os.getpid(): (70, time.time())}
    assert block(watch) == f"another process used the GPU (pid {FOREIGN})"


def test_a_process_that_only_holds_memory_does_not(gpu: FakeGpu, watch: GpuWatch) -> None:
    gpu.listed.append(FOREIGN)
    gpu.busy = {FOREIGN: (0, time.time()), FOREIGN + 1: (90, time.time() - 60)}
    assert block(watch) is None


def test_workers_of_the_benchmark_are_no_others(gpu: FakeGpu) -> None:
    own: set[int] = set()
    watch = open_gpu_watch(lambda: own)
    assert watch is not None
    own.add(FOREIGN)  # a worker that started later
    gpu.listed, gpu.busy = [FOREIGN], {FOREIGN: (90, time.time())}
    assert block(watch) is None


def test_processes_are_not_judged_where_they_are_counted_otherwise(
    gpu: FakeGpu, watch: GpuWatch
) -> None:
    """In a container NVML may tell the host's numbers, among which we do not know our own."""
    gpu.listed, gpu.busy = [FOREIGN], {FOREIGN: (90, time.time())}
    assert block(watch) is None


def test_the_range_of_clocks_is_kept(gpu: FakeGpu, watch: GpuWatch) -> None:
    assert watch.sm_clocks_mhz is None
    for clock in (1410, 1980, 1755):
        gpu.sm_clock = clock
        block(watch)
    assert watch.sm_clocks_mhz == (1410, 1980)


def test_a_gpu_that_tells_nothing_voids_nothing(gpu: FakeGpu, watch: GpuWatch) -> None:
    gpu.reasons = pynvml.nvmlClocksEventReasonSwPowerCap
    gpu.missing = {name for name in vars(pynvml) if name.startswith("nvmlDeviceGet")}
    assert block(watch) is None
    assert watch.sm_clocks_mhz is None
    found = open_nvml()
    assert found is not None
    assert found.used_bytes() is None


def test_memory_in_use(gpu: FakeGpu) -> None:
    found = open_nvml()
    assert found is not None
    assert found.used_bytes() == gpu.used


def test_without_the_package_there_is_no_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert open_gpu_watch() is None


def test_without_a_gpu_there_is_no_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "current_bus_id", lambda: None)
    assert open_gpu_watch() is None


@pytest.mark.usefixtures("gpu")
def test_without_its_library_there_is_no_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    assert open_gpu_watch() is None


@pytest.mark.parametrize("name", [*_SLOWDOWNS, *_POLICIES])
def test_constants_are_those_of_the_package(name: str) -> None:
    assert isinstance(getattr(pynvml, name), int)
