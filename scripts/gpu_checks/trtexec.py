"""NVIDIA's own benchmark, beside ours."""

import re
import shutil
import subprocess

import numpy as np
from gpu_checks.engines import engine_shapes
from gpu_checks.rows import Rows
from gpu_checks.work import Work, feeds_for

from qbench.benchmarking.timing.schedule import measure
from qbench.engines.manifest import read_manifest

PROGRAMS = {"tensorrt": "trtexec", "tensorrt_rtx": "tensorrt_rtx"}

# Every default that changed with TensorRT 11 is stated, so that both sides time the same.
_FLAGS = ("--noDataTransfers", "--useSpinWait", "--duration=3", "--warmUp=500", "--iterations=100")
_COMPUTE = re.compile(r"GPU Compute Time: .*?median = ([\d.]+) ms")
_SECONDS = 60


def beside(work: Work, rows: Rows) -> None:
    """Time each engine with trtexec and with our loop, both without copies and without a graph."""
    for name, path in work.engines(rows):
        program = PROGRAMS[read_manifest(path).flavour]
        found = shutil.which(program)
        if found is None:
            rows.fail(name, f"{program} is not on the PATH")
            continue
        with rows.about(name), work.open(path) as runner:
            seen = measure((runner.bind(feeds_for(runner)[0]),), work.settings)
            ours = 1e3 * float(np.median(seen.samples[0]))
        command = [found, f"--loadEngine={path}", f"--shapes={engine_shapes(path)}", *_FLAGS]
        theirs, problem = _run(command)
        if theirs is None:
            rows.fail(name, problem)
        else:
            text = f"{program} {theirs:.4f} ms on the GPU, our call {ours:.4f} ms with its wait"
            rows.add(name, text, trtexec_ms=theirs, our_ms=ours, flags=_FLAGS)


def _run(command: list[str]) -> tuple[float | None, str]:
    """Return the median milliseconds that trtexec prints, or what it says instead."""
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        return None, f"took longer than {_SECONDS} s"
    match = _COMPUTE.search(done.stdout)
    if match is not None:
        return float(match[1]), ""
    lines = (done.stderr or done.stdout).strip().splitlines()
    return None, lines[-1] if lines else f"exit code {done.returncode}"
