"""How a candidate and its timings become a row."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qbench.benchmarking.matrix import Job
from qbench.benchmarking.result import (
    FEW_LOADS,
    UNTRUSTED,
    Accuracy,
    Latency,
    Ratio,
    Row,
)
from qbench.benchmarking.sessions.session import Facts
from qbench.benchmarking.stats import FEWEST_FOR, FEWEST_SITTINGS
from qbench.benchmarking.timing.schedule import Measurement
from qbench.benchmarking.timing.settings import MODES
from qbench.benchmarking.variants import Variant
from qbench.data.samples import fixed_batch, share_batch
from qbench.errors import QbenchError


@dataclass(frozen=True)
class Timing:
    """One candidate's part of a measurement.

    Attributes:
        measurement: Of all candidates that were timed together.
        lane: Which of them this is.
    """

    measurement: Measurement
    lane: int

    @property
    def samples(self) -> NDArray[np.float64]:
        """Seconds of every timed call, [calls]."""
        return self.measurement.samples[self.lane]

    @property
    def latency(self) -> Latency:
        """Milliseconds per call."""
        return latency_of(self.samples)

    @property
    def ratio(self) -> Ratio:
        """Speed-up over the baseline."""
        found = self.measurement.ratios[self.lane]
        return Ratio(found.value, found.low, found.high, self.measurement.verdicts[self.lane])

    @property
    def loads(self) -> int:
        """How many loads of it were timed."""
        return self.measurement.loads[self.lane]

    @property
    def notes(self) -> list[str]:
        """What is not as it should be."""
        found = []
        if self.measurement.unsettled[self.lane]:
            found.append("unsettled: timings still drifted after warm-up")
        loads = self.measurement.loads
        if len(loads) > 1 and min(self.loads, loads[0]) < FEWEST_SITTINGS:
            found.append(FEW_LOADS)
        if self.measurement.disturbance is not None:
            voided = sum(self.measurement.voided)
            found.append(f"given up after {voided} voided rounds: {self.measurement.disturbance}")
        elif not self.measurement.reached:
            found.append("stopped at the time limit with intervals wider than asked for")
        if not self.measurement.trusted:
            found.append(UNTRUSTED)
        return found

    def lacking(self, job: Job) -> list[str]:
        """Return what is missed where calls come by the clock, and how to get it."""
        calls, fewest = self.samples.size, FEWEST_FOR[0.99]
        if job.cell.mode != "paced" or calls >= fewest:
            return []
        taken = self.measurement.seconds
        needed = taken * fewest / calls
        how = _more_time(needed, self.measurement.settings.max_seconds)
        return [
            f"p99 needs {fewest} calls, about {needed:.0f} s, and {calls} were timed in "
            f"{taken:.0f} s: give {how}"
        ]

    def images_per_second(self, job: Job, batch: int) -> float | None:
        """Return the throughput in the job's mode; None where the clock decides it."""
        if job.cell.mode == "paced":
            return None
        if job.cell.mode == "latency":
            return batch / float(np.median(self.samples))
        return 1 / float(np.median(self.measurement.figures[:, self.lane]))

    def missed(self, job: Job) -> float | None:
        """Return the share of calls that were not done when the next was due."""
        if job.cell.rate is None:
            return None
        return float(np.mean(self.samples > 1 / job.cell.rate))


def latency_of(samples: NDArray[np.float64]) -> Latency:
    """Return the milliseconds that the seconds of single calls, [calls], tell; none is clipped."""
    median = float(np.median(samples))
    deviation = float(np.median(np.abs(samples - median)))
    tails = (_milliseconds_below(samples, share) for share in FEWEST_FOR)
    return Latency(1e3 * median, 1e3 * deviation, 1e3 * float(samples.min()), *tails)


def _milliseconds_below(samples: NDArray[np.float64], share: float) -> float | None:
    few = samples.size < FEWEST_FOR[share]
    return None if few else 1e3 * float(np.quantile(samples, share))


def _more_time(needed: float, allowed: float) -> str:
    """Return the options that give a measurement the seconds that it needs."""
    efforts = {"no --quick": MODES["normal"].max_seconds, "--strict": MODES["strict"].max_seconds}
    longer = {f"{name}, {most:.0f} s": most for name, most in efforts.items() if most > allowed}
    enough = [name for name, most in longer.items() if most >= needed]
    fewer = "fewer rows at once or a higher --rate"
    return enough[0] if enough else " and ".join([*list(longer)[-1:], fewer])


@dataclass(frozen=True)
class Findings:
    """Everything that is known of a candidate but its timings."""

    job: Job
    variant: Variant
    facts: Facts | None
    accuracy: Accuracy | None
    error: QbenchError | None


def _batch_without_facts(job: Job) -> int:
    """Return the batch of a candidate that did not load: what is asked for, else what is fixed."""
    inputs = job.feeding.inputs or ()
    fixed = map(fixed_batch, inputs if share_batch(inputs) else ())
    return job.load.batch or max(fixed, default=1)


def row_of(found: Findings, timing: Timing | None) -> Row:
    """Return the row of a candidate; `timing` is None where it was not timed."""
    cell, variant, facts = found.job.cell, found.variant, found.facts
    notes = [*variant.notes, *(facts.notes if facts else ()), *(timing.notes if timing else ())]
    notes += timing.lacking(found.job) if timing else []
    batch = facts.batch if facts else _batch_without_facts(found.job)
    if found.job.load.batch is None and batch > 1:
        notes.append(f"a call runs the model's fixed batch of {batch}")
    return Row(
        model=cell.model,
        precision=cell.precision,
        provider=facts.provider if facts and not cell.simulated else cell.provider,
        sha256=cell.sha256,
        batch=batch,
        threads=cell.threads,
        streams=cell.streams,
        mode=cell.mode,
        rate=cell.rate,
        accuracy=found.accuracy,
        latency_ms=timing.latency if timing else None,
        ratio=timing.ratio if timing else None,
        throughput_per_s=timing.images_per_second(found.job, batch) if timing else None,
        loads=timing.loads if timing else 0,
        control=timing.measurement.control if timing else None,
        voided_rounds=timing.measurement.voided[timing.lane] if timing else 0,
        missed_share=timing.missed(found.job) if timing else None,
        size_bytes=variant.size_bytes,
        peak_rss_bytes=facts.peak_rss_bytes if facts else None,
        device_memory_bytes=facts.device_memory_bytes if facts else None,
        build_seconds=variant.build_seconds,
        load_seconds=facts.load_seconds if facts else None,
        first_inference_seconds=facts.first_inference if facts else None,
        provider_options=dict(facts.provider_options) if facts else {},
        float_nodes=dict(variant.float_nodes),
        error=str(found.error) if found.error else None,
        notes=tuple(notes),
    )
