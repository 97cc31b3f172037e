import importlib.util

import numpy as np
import pytest

from qbench.calibration import loops
from qbench.calibration.channels import no_channels
from qbench.calibration.fixed_point import to_float
from qbench.calibration.kernels import BINS, take


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


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (3, 5, 1), (4, 5, 1), (900, 7, 1), (5, 3, 2), (9, 4099, 1)]
)
@pytest.mark.parametrize("stride", [1, 3, 7, 101])
def test_channels_may_come_last(shape: tuple[int, int, int], stride: int) -> None:
    """With one value after the other of a channel, as in [outer, channels, inner], or none."""
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    channels, wide, axes = no_channels(shape[1]), values.astype(np.float64), (0, 2)
    found, _ = take(
        values[..., np.newaxis], shape[1], stride, channels, np.zeros(BINS, np.int64), exponent=8
    )
    assert np.array_equal(channels.lows, values.min(axes))
    assert np.array_equal(channels.highs, values.max(axes))
    assert np.allclose(to_float(channels.totals), wide.sum(axes), rtol=1e-12, atol=1e-12)
    assert np.allclose(to_float(channels.squares), np.square(wide).sum(axes), rtol=1e-12)
    assert (found.low, found.high) == (values.min(), values.max())
    assert np.array_equal(found.sampled, values.reshape(-1)[::stride])
    assert found.sampled.size == -(-values.size // stride)


@pytest.mark.parametrize("wrong", [np.inf, -np.inf, np.nan])
def test_an_array_with_infinity_or_nan_shows_it_and_is_counted_nowhere(wrong: float) -> None:
    values, channels, counts = (
        np.ones((6, 3, 1, 1), np.float32),
        no_channels(3),
        np.zeros(BINS, int),
    )
    values[5, 1] = wrong
    found, is_counted = take(values, 3, 1, channels, counts, exponent=8)
    assert (np.isfinite(found.square), is_counted) == (False, False)
    assert all(map(np.array_equal, channels.arrays, no_channels(3).arrays))
    assert not counts.any()


def test_values_beyond_a_histogram_are_left_out_of_it_alone() -> None:
    values, channels, counts = np.float32([[[[1], [4]]]]), no_channels(1), np.zeros(BINS, int)
    found, is_counted = take(values, 1, 1, channels, counts, exponent=2)
    assert (found.high, is_counted) == (4, False)
    assert (channels.highs.tolist(), counts.sum()) == ([4], 0)
    found, is_counted = take(values, 1, 1, channels, counts, exponent=3)
    assert (found.high, is_counted, counts.sum()) == (4, True, 2)
