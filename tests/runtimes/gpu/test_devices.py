import ctypes
from pathlib import Path

import pytest

from qbench.runtimes.gpu.devices import (
    Gpu,
    current_bus_id,
    current_gpu,
    current_gpu_name,
    gpu_summary,
    parse_gpus,
)


def test_gpus_as_nvidia_smi_lists_them() -> None:
    table = "NVIDIA L4, 570.1, 23034, 8.9, 210, 2040\nOrin, 540.4, [N/A], 8.7, [N/A], [N/A]\n"
    assert parse_gpus(table) == (
        Gpu("NVIDIA L4", "570.1", 23034 << 20, "8.9", 210, 2040),
        Gpu("Orin", "540.4", None, "8.7", None, None),
    )


def test_what_nvidia_smi_complains_of_is_no_gpu() -> None:
    assert parse_gpus("Unable to determine the device handle for GPU0000:01:00.0: Lost\n") == ()


def test_gpu_summary_asks_nvidia_smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'L4, 570.1, 1, 8.9, 2, 3'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert gpu_summary() == (Gpu("L4", "570.1", 1 << 20, "8.9", 2, 3),)
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert gpu_summary() is None


class Driver:
    """Answers like the CUDA driver, with the given status of `cuInit`."""

    def __init__(self, status):
        self.status = status

    def cuInit(self, _):  # noqa: N802
        return self.status

    def cuDeviceGet(self, _device, _ordinal):  # noqa: N802
        return 0

    def cuDeviceGetAttribute(self, value, attribute, _device):  # noqa: N802
        value._obj.value = {75: 8, 76: 6}[attribute]
        return 0

    def cuDeviceGetPCIBusId(self, text, size, _device):  # noqa: N802
        assert len(text) == size
        text.value = b"0000:65:00.0"
        return 0

    def cuDeviceGetName(self, text, size, _device):  # noqa: N802
        assert len(text) == size
        text.value = b"NVIDIA L4"
        return 0


def test_current_gpu(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Driver(status=0))
    assert current_gpu() == "sm86"
    assert current_bus_id() == "0000:65:00.0"
    assert current_gpu_name() == "NVIDIA L4"


def test_no_gpu(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Driver(status=100))
    assert current_gpu() is None
    assert current_bus_id() is None
    assert current_gpu_name() is None


def test_no_driver(monkeypatch):
    def missing(_):
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert current_gpu() is None
    assert current_bus_id() is None
    assert current_gpu_name() is None
