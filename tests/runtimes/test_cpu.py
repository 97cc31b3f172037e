from pathlib import Path

import pytest

from qbench.runtimes import cpu
from qbench.runtimes.cpu import adds_in_32_bits, cpuinfo_field, read_cpuinfo, usable_cores


@pytest.mark.parametrize(
    ("flags", "exact"),
    [
        ("fpu avx2 sse", False),
        ("avx2 avx512f", False),
        ("avx2 avx512f avx512_vnni", True),
        ("avx2 avx_vnni", True),
        ("avx512f amx_tile amx_int8", True),
    ],
)
def test_x86_is_exact_with_vnni_or_amx(flags: str, exact: bool) -> None:
    assert adds_in_32_bits(f"processor\t: 0\nflags\t\t: {flags}\n", "x86_64") is exact


def test_x86_that_does_not_tell_counts_as_one_without() -> None:
    assert not adds_in_32_bits("", "AMD64")


@pytest.mark.parametrize("machine", ["arm64", "aarch64", "ARM64"])
def test_arm_is_exact(machine: str) -> None:
    assert adds_in_32_bits("", machine)


def test_cpuinfo_field_is_the_first_of_its_name() -> None:
    text = "model name\t: One: 1\nmodel name\t: Two\n"
    assert cpuinfo_field(text, "model name") == "One: 1"
    assert cpuinfo_field(text, "name") is None


def test_a_platform_without_cpuinfo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cpu, "_CPUINFO", tmp_path / "absent")
    assert read_cpuinfo() == ""


def test_usable_cores() -> None:
    assert usable_cores() >= 1
