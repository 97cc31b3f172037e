"""The processor: how many cores there are, and how it multiplies 8-bit integers."""

import os
import platform
import sys
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")

_ISA_FLAGS = {
    "avx2": ("avx2",),
    "avx512": ("avx512f",),
    "vnni": ("avx512_vnni", "avx_vnni"),
    "amx": ("amx_int8",),
    "dotprod": ("asimddp",),
    "i8mm": ("i8mm",),
}
"""Instruction sets that decide the speed of integer kernels, and the kernel's flags for them."""


def usable_cores() -> int:
    """Return the logical cores that this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read_cpuinfo() -> str:
    """Return the text of /proc/cpuinfo; empty on other platforms."""
    try:
        return _CPUINFO.read_text("utf-8", errors="replace")
    except OSError:
        return ""


def cpuinfo_field(cpuinfo: str, key: str) -> str | None:
    """Return the first value of `key` in the text of /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def isa_flags(cpuinfo: str) -> tuple[str, ...] | None:
    """Return the instruction sets for integer kernels named in the text of /proc/cpuinfo."""
    listed = cpuinfo_field(cpuinfo, "flags") or cpuinfo_field(cpuinfo, "Features")
    if listed is None:
        return None
    flags = set(listed.split())
    return tuple(name for name, any_of in _ISA_FLAGS.items() if flags.intersection(any_of))


def adds_in_32_bits(cpuinfo: str, machine: str = platform.machine()) -> bool:
    """Return whether 8-bit products are added in 32 bits, so that full-range weights are exact.

    True with VNNI or AMX, and on ARM, whose kernels widen. x86 without them adds pairs of products
    in 16 bits, which saturate. An x86 CPU that does not tell counts as one without.
    """
    if machine.lower() in {"aarch64", "arm64"}:
        return True
    return bool({"vnni", "amx"}.intersection(isa_flags(cpuinfo) or ()))
