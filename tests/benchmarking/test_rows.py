"""What rows tell of their timings."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qbench.benchmarking.judging.feeding import Feeding
from qbench.benchmarking.ledger import Cell
from qbench.benchmarking.matrix import Job
from qbench.benchmarking.result import Mode
from qbench.benchmarking.rows import Findings, Timing, latency_of, row_of
from qbench.benchmarking.sessions.workload import Load
from qbench.benchmarking.timing.schedule import Measurement
from qbench.benchmarking.timing.settings import MODES
from qbench.benchmarking.variants import Variant
from qbench.errors import ModelError
from qbench.model.spec import TensorSpec


def job(mode: Mode, rate: float | None = None) -> Job:
    cell = Cell(model="m.onnx", sha256="", precision="fp32", provider="cpu", mode=mode, rate=rate)
    variant = Variant("fp32", "cpu", Path("m.onnx"))
    return Job(cell, lambda: variant, Feeding(()), Load(mode=mode, rate=rate))


def timing(calls: int, seconds: float, effort: str = "quick") -> Timing:
    measurement = Measurement(
        samples=(np.full(calls, 0.01),),
        figures=np.full((6, 1, 2), 0.01),
        orders=np.zeros((6, 2), np.int64),
        sittings=np.zeros(6, np.int64),
        loads=(1,),
        block_calls=(20,),
        unsettled=(False,),
        seconds=seconds,
        settings=MODES[effort],
    )
    return Timing(measurement, 0)


IMAGES = TensorSpec("x", (8, 3, 32, 32), np.dtype(np.float32))
ANCHORS = TensorSpec("anchors", (840, 4), np.dtype(np.float32))


@pytest.mark.parametrize(
    ("asked", "inputs", "batch"),
    [(None, (IMAGES,), 8), (4, (IMAGES,), 4), (None, (IMAGES, ANCHORS), 1), (None, None, 1)],
)
def test_what_does_not_load_still_has_its_batch(
    asked: int | None, inputs: tuple[TensorSpec, ...] | None, batch: int
) -> None:
    """A baseline has it, too, and is asked about the row of this batch."""
    broken = replace(job("latency"), feeding=Feeding(inputs), load=Load(batch=asked))
    variant = Variant("fp32", "cpu", None)
    found = Findings(broken, variant, None, None, ModelError("refused"))
    assert row_of(found, None).batch == batch


def test_latencies_keep_outliers_and_are_milliseconds() -> None:
    samples = np.array([1.0, 2.0, 3.0, 4.0, 1000.0])
    found = latency_of(samples)
    assert (found.median, found.mad, found.min, found.p90) == (3e3, 1e3, 1e3, None)


@pytest.mark.parametrize(
    ("name", "share", "fewest"), [("p90", 0.9, 64), ("p95", 0.95, 130), ("p99", 0.99, 662)]
)
def test_a_percentile_needs_two_samples_beyond_it(name: str, share: float, fewest: int) -> None:
    def too_few(n: int) -> float:
        """Return the probability that at most one of n samples lies beyond the percentile."""
        return float(share**n + n * (1 - share) * share ** (n - 1))

    assert too_few(fewest) < 0.01 <= too_few(fewest - 1)
    assert getattr(latency_of(np.arange(fewest - 1, dtype=np.float64)), name) is None
    found = getattr(latency_of(np.arange(fewest, dtype=np.float64)), name)
    assert found == pytest.approx(1e3 * share * (fewest - 1))


STRICT = "--strict, 300 s"
FEWER = "fewer rows at once or a higher --rate"


@pytest.mark.parametrize(
    ("calls", "effort", "needed", "ways"),
    [
        (331, "quick", 40, "no --quick, 60 s"),
        (100, "quick", 132, STRICT),
        (100, "normal", 132, STRICT),
        (22, "quick", 602, f"{STRICT} and {FEWER}"),
        (331, "strict", 40, FEWER),  # which stopped early, since its intervals were narrow
    ],
)
def test_a_p99_that_lacks_calls_says_how_to_get_them(
    calls: int, effort: str, needed: int, ways: str
) -> None:
    assert timing(calls, 20.0, effort).lacking(job("paced", 30)) == [
        f"p99 needs 662 calls, about {needed} s, and {calls} were timed in 20 s: give {ways}"
    ]


def test_no_more_is_said_where_it_is_there_or_not_what_was_asked_for() -> None:
    assert timing(662, 20.0).lacking(job("paced", 30)) == []
    assert timing(22, 20.0).lacking(job("latency")) == []
    assert replace(timing(22, 20.0), lane=0).lacking(job("throughput")) == []
