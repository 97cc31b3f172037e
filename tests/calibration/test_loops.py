import importlib.util

import numpy as np
import pytest

from qbench.calibration import loops


def test_loops_are_compiled_where_nothing_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user has no home, and may not write into the package."""
    monkeypatch.setattr("numba.core.caching.CompileResultCacheImpl._locator_classes", [])
    spec = importlib.util.spec_from_file_location("loops_again", loops.__file__)
    assert spec is not None
    assert spec.loader is not None
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    counts = np.zeros(1 << 13, np.int64)
    again.count(np.float32([0, 0, -1]), counts, 1.0)
    assert counts[4095:4097].tolist() == [1, 2]
