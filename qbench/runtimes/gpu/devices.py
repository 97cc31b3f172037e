"""The NVIDIA GPUs of this machine, asked of the driver; nothing here needs CUDA to be installed."""

import csv
import ctypes
import sys
from typing import Any

import msgspec

from qbench.runtimes.command import command_output

_FIELDS = "name,driver_version,memory.total,compute_cap,clocks.sm,clocks.max.sm"
_MAJOR, _MINOR = 75, 76  # CUdevice_attribute: COMPUTE_CAPABILITY_MAJOR and _MINOR
_TEXT_BYTES = 256


class Gpu(msgspec.Struct, frozen=True):
    """A GPU as `nvidia-smi` reports it; `sm_clock_mhz` is that of the moment."""

    name: str
    driver: str
    memory_bytes: int | None
    compute_capability: str
    sm_clock_mhz: int | None
    max_sm_clock_mhz: int | None


def gpu_summary() -> tuple[Gpu, ...] | None:
    """Return the machine's NVIDIA GPUs, None where `nvidia-smi` is missing or finds no driver."""
    table = command_output("nvidia-smi", f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits")
    return None if table is None else parse_gpus(table)


def parse_gpus(table: str) -> tuple[Gpu, ...]:
    """Read the CSV of `nvidia-smi`; a figure that the GPU does not report becomes None."""
    rows = csv.reader(table.splitlines(), skipinitialspace=True)
    told = [row for row in rows if len(row) == len(_FIELDS.split(","))]  # others are complaints
    return tuple(
        Gpu(name, driver, memory and memory << 20, capability, clock, max_clock)
        for name, driver, mebibytes, capability, now, top in told
        for memory, clock, max_clock in [(_number(mebibytes), _number(now), _number(top))]
    )


def current_gpu() -> str | None:
    """Return the compute capability of the first GPU (`sm86`), or None where there is none."""
    driver = _driver()
    if driver is None:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    # Every call of the driver returns 0 on success, so the first failure ends the chain.
    failed = (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(device), 0)
        or driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
        or driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    )
    return None if failed else f"sm{major.value}{minor.value}"


def current_gpu_name() -> str | None:
    """Return the name of the first GPU (`NVIDIA L4`), or None where there is none."""
    return _text_of_first("cuDeviceGetName")


def current_bus_id() -> str | None:
    """Return the PCI address of the first GPU (`0000:65:00.0`), or None where there is none.

    The first is what CUDA_VISIBLE_DEVICES makes it, of which tools beside CUDA know nothing.
    """
    return _text_of_first("cuDeviceGetPCIBusId")


def _text_of_first(function: str) -> str | None:
    """Return the text that a function of the driver gives for the first GPU."""
    driver = _driver()
    if driver is None:
        return None
    device, text = ctypes.c_int(), ctypes.create_string_buffer(_TEXT_BYTES)
    failed = (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(device), 0)
        or getattr(driver, function)(text, _TEXT_BYTES, device)
    )
    return None if failed else text.value.decode(errors="replace")


def _driver() -> Any:
    """Return the library of the CUDA driver, None where there is none."""
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None
