"""The JSON document of a benchmark: its rows, what they were measured with, and its trust."""

import math
from typing import Literal

import msgspec

from qbench.artifacts import SCHEMA_VERSION
from qbench.benchmarking.environment import Environment
from qbench.benchmarking.stats import Interval, Verdict
from qbench.benchmarking.timing.settings import Settings
from qbench.runtimes.base import OperatorTime as OperatorTime

Metric = Literal["top1", "map", "miou", "agreement", "top1_agreement", "cosine"]
FurtherMetric = Literal["top5", "map50", "cosine", "sqnr_db", "retrieval"]

UNTRUSTED = "untrusted: two identical candidates differed by more than 1 %"
"""The note of rows that were timed while the machine was not steady."""

FEW_LOADS = "too few loads within the time limit: ratios leave out what another load may change"
"""The note of rows that were not loaded anew, or too rarely for an interval over loads."""

Mode = Literal["latency", "throughput", "paced"]
"""One call after the other; as many as `streams` allows; or started by a clock, done or not."""


class Figure(msgspec.Struct, frozen=True):
    """A further figure beside an accuracy, over the same images, and its 95 % interval.

    Attributes:
        metric: `top5`; `map50`, COCO's at the IoU threshold .50; and without labels, compared with
            the float model, `cosine` of the logits, their `sqnr_db`, the signal-to-noise ratio over
            all images in decibels, left out where there is no noise, and `retrieval`, the share of
            images whose nearest other image stays the same.
        difference: As in `Accuracy`.
    """

    metric: FurtherMetric
    value: float
    ci_low: float
    ci_high: float
    difference: Interval | None = None


class Accuracy(msgspec.Struct, frozen=True):
    """A metric over `n` images and its 95 % interval.

    The interval of a share of images is Wilson's, all others are bootstrapped over images.

    Attributes:
        metric: `top1`; `map`, COCO's; `miou`; and without labels, compared with the float model,
            `agreement`, the share of confident detections in common, `top1_agreement`, the share of
            images with the same class first, and `cosine` of the outputs.
        difference: This value minus that of the first row, on the same images; None in that row.
        others: Further figures.
    """

    metric: Metric
    value: float
    n: int
    ci_low: float
    ci_high: float
    difference: Interval | None = None
    others: tuple[Figure, ...] = ()

    @property
    def interval(self) -> Interval:
        """The value with its interval."""
        return Interval(self.value, self.ci_low, self.ci_high)


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds per call. `mad` is unscaled; percentiles are None where samples are too few."""

    median: float
    mad: float
    min: float
    p90: float | None
    p95: float | None = None
    p99: float | None = None


class Ratio(msgspec.Struct, frozen=True):
    """Speed-up over the first row: its time / this row's time, above 1 is faster; 95 % interval."""

    value: float
    ci_low: float
    ci_high: float
    verdict: Verdict

    @property
    def interval(self) -> Interval:
        """The speed-up with its interval."""
        return Interval(self.value, self.ci_low, self.ci_high)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One model in one precision on one provider. A row that could not run has only an `error`.

    Attributes:
        model: Name of its file, with as much of the path as tells it from others of that name.
        sha256: Of the original model's file, or of the engine's.
        batch: Images per call.
        threads: Intra-op threads; 0 leaves them to the runtime.
        streams: Calls in flight.
        mode: How calls follow each other; see `Mode`.
        rate: Calls that are started per second in mode `paced`, None in the others.
        latency_ms: Of single calls: in mode `throughput` while others are in flight, in mode
            `paced` from the intended start, so that waiting for the call before counts.
        ratio: Of the median latencies, or of the throughputs in that mode.
        throughput_per_s: Images per second, in the row's mode; None in mode `paced`.
        missed_share: Share of calls that were not done when the next was due, in mode `paced`.
        size_bytes: The model's file and its side files.
        peak_rss_bytes: Peak up to the first calls and without the judging, of a process that held
            this candidate alone, Python included; of candidates that share a process, the peak of
            all so far.
        device_memory_bytes: Memory on the GPU, None where there is none or it does not tell.
        build_seconds: Making the variant or the engine, None where it was given.
        load_seconds: Loading, optimization included.
        first_inference_seconds: The first call after loading.
        loads: How many loads of it were timed. The interval of `ratio` tells what another load may
            change where there were several of the row and of the baseline.
        control: Speed-up between two blocks of the same candidate in the rounds of this row, which
            should be 1.
        voided_rounds: Rounds that were thrown away because the GPU was disturbed.
        provider_options: What the provider was told.
        profile: What takes its time, largest first; empty unless asked for.
        float_nodes: Nodes that quantization left float, and why.
        error: Why the row could not run, one line.
        notes: What a reader must know beside the figures, such as `unsettled`.
    """

    model: str
    precision: str
    provider: str
    sha256: str | None = None
    batch: int = 1
    threads: int = 0
    streams: int = 1
    mode: Mode = "latency"
    rate: float | None = None
    accuracy: Accuracy | None = None
    latency_ms: Latency | None = None
    ratio: Ratio | None = None
    throughput_per_s: float | None = None
    missed_share: float | None = None
    size_bytes: int | None = None
    peak_rss_bytes: int | None = None
    device_memory_bytes: int | None = None
    build_seconds: float | None = None
    load_seconds: float | None = None
    first_inference_seconds: float | None = None
    loads: int = 0
    control: Interval | None = None
    voided_rounds: int = 0
    provider_options: dict[str, str] = {}
    profile: tuple[OperatorTime, ...] = ()
    float_nodes: dict[str, str] = {}
    error: str | None = None
    notes: tuple[str, ...] = ()


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """All rows of a benchmark.

    Attributes:
        control: Of the rows' controls, the one farthest from 1. None where nothing was timed.
        trusted: False where a control's interval lies wholly beyond 1 %.
    """

    schema_version: int = SCHEMA_VERSION
    environment: Environment
    settings: Settings
    rows: tuple[Row, ...]
    control: Interval | None = None
    trusted: bool = True

    def with_rows(self, rows: tuple[Row, ...]) -> "RunResult":
        """Return it with other rows, and the control and the trust that follow from them."""
        controls = [row.control for row in rows if row.control is not None]
        return msgspec.structs.replace(
            self,
            rows=rows,
            control=max(controls, key=lambda one: abs(math.log(one.value)), default=None),
            trusted=not any(UNTRUSTED in row.notes for row in rows),
        )

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        from qbench.benchmarking.presentation.html_table import result_html

        return result_html(self)
