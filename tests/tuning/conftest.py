"""A model that INT8 ruins in one place, and samples to judge it on."""

from pathlib import Path

import graphs
import numpy as np
import pytest

from qbench.benchmarking import speedup
from qbench.benchmarking.timing.settings import Settings
from qbench.data.choice import DataChoice
from qbench.tuning.metrics import TuneData


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; journals are kept in it, and timings take no time."""
    tiny = Settings(
        min_rounds=6, max_rounds=6, max_seconds=0.05, block_seconds=1e-5, warmup_seconds=0.0
    )
    monkeypatch.setattr(speedup, "GLANCE", tiny)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cosine(folder: Path) -> TuneData:
    samples = np.random.default_rng(0).normal(size=(6, *graphs.IMAGE[1:])).astype(np.float32)
    np.savez(folder / "samples.npz", x=samples)
    return TuneData(DataChoice(Path("samples.npz")), "cosine")
