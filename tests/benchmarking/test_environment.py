from pathlib import Path

import msgspec
import pytest

from qbench.benchmarking import environment
from qbench.benchmarking.environment import Environment
from qbench.runtimes import cpu

XEON = """processor\t: 0
model name\t: Intel(R) Xeon(R) Gold
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni amx_tile amx_int8
"""
ALDER_LAKE = "model name\t: 12th Gen\nflags\t\t: avx2 avx_vnni\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\n"


def test_capture_survives_json() -> None:
    found = environment.capture()
    assert found.cores >= 1
    assert {"numpy", "openvino"} <= found.versions.keys()
    assert found.time_utc.endswith("+00:00")
    assert msgspec.json.decode(msgspec.json.encode(found), type=Environment) == found


def test_capture_without_any_tool_or_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for module, name in ((environment, "_GOVERNOR"), (cpu, "_CPUINFO"), (environment, "_CGROUP")):
        monkeypatch.setattr(module, name, tmp_path / "absent")
    found = environment.capture()
    assert (found.git_commit, found.gpus, found.governor) == (None, None, None)
    assert (found.isa, found.core_quota) == (None, None)
    assert found.cpu


def test_git_commit_of_the_current_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "git"
    tool.write_text('#!/bin/sh\n[ "$1 $2" = "rev-parse HEAD" ] && echo 0123abc\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert environment.capture().git_commit == "0123abc"


@pytest.mark.parametrize(
    ("cpuinfo", "isa"),
    [
        (XEON, ("avx2", "avx512", "vnni", "amx")),
        (ALDER_LAKE, ("avx2", "vnni")),
        (ARM, ("dotprod", "i8mm")),
        ("flags\t: sse2\n", ()),
        ("", None),
    ],
)
def test_isa_flags(cpuinfo: str, isa: tuple[str, ...] | None) -> None:
    assert cpu.isa_flags(cpuinfo) == isa


def test_cpu_model() -> None:
    assert environment.cpu_model(XEON) == "Intel(R) Xeon(R) Gold"
    assert environment.cpu_model("")


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_core_quota(files: dict[str, str], quota: float | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert environment.core_quota(tmp_path) == quota


def test_peak_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = environment.peak_rss_bytes()
    assert before is not None
    block = b"x" * (before + (64 << 20))
    after = environment.peak_rss_bytes()
    assert after is not None
    assert after >= len(block)
    monkeypatch.setattr(environment, "_STATUS", tmp_path / "absent")
    assert environment.peak_rss_bytes() == pytest.approx(after, rel=0.5)
