"""What a caller of `qbench.benchmark` can choose."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from qbench.benchmarking.ledger import Ledger
from qbench.benchmarking.result import Mode
from qbench.benchmarking.timing.schedule import OnRound
from qbench.benchmarking.timing.settings import Settings
from qbench.errors import UsageError
from qbench.runtimes.cuda.choose import DEFAULT_BACKEND

GROUP = 8
"""How many candidates are loaded and timed together; more take more memory than they gain."""

_MOST_THREADS, _MOST_IMAGES = 1024, 65536
"""Beyond any machine's cores and memory: what is larger is a slip, which would bring it down."""


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        settings: When to stop; see `timing.settings.MODES`.
        batches: Images per call, a row for each; empty for what a model fixes, or 1.
        threads: Intra-op threads of ONNX models, a row for each; 0 leaves them to the runtime.
        streams: Calls in flight, a row for each; more than 1 need mode `throughput`.
        mode: `latency`, `throughput` or `paced`; see `result.Mode`.
        rate: Calls that mode `paced` starts per second.
        isolate: Give every candidate a process of its own: a crash is then a row with the reason,
            and memory is the candidate's own. Without it all of them share this process.
        graph: Launch engines as CUDA graphs.
        profile: Tell what the time of each row goes into.
        ledger: Where rows are kept as they are finished, and finished rows are found again.
        simulate: Add a row per target that judges INT8 with exact arithmetic; needs images.
        image_size: Height and width of random samples where the model is dynamic; None takes the
            table's.
        allow_fallback: Let other providers run what the one asked for cannot; a note says so.
        cuda_backend: What engines reach the GPU through, a key of `runtimes.cuda.choose.BACKENDS`.
        cache: Folder in which the `tensorrt` and `rtx` providers keep engines and timings.
        on_step: Told in a few words what comes next.
        on_round: Told after each round of timing; see `schedule.OnRound`.

    Raises:
        UsageError: The axes do not fit the mode, or a value is none that can be measured.
    """

    settings: Settings = field(default_factory=Settings)
    batches: tuple[int, ...] = ()
    threads: tuple[int, ...] = (0,)
    streams: tuple[int, ...] = (1,)
    mode: Mode = "latency"
    rate: float | None = None
    isolate: bool = False
    graph: bool = False
    profile: bool = False
    ledger: Ledger | None = None
    simulate: bool = False
    image_size: tuple[int, int] | None = None
    allow_fallback: bool = False
    cuda_backend: str = DEFAULT_BACKEND
    cache: Path | None = None
    on_step: Callable[[str], None] = lambda _: None
    on_round: OnRound | None = None

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        if self.mode not in get_args(Mode):
            choices = ", ".join(get_args(Mode))
            raise UsageError(f"unknown mode {self.mode!r}; choose from {choices}")
        _check_axis("batch size", self.batches or (1,), 1, _MOST_IMAGES)
        _check_axis("number of threads", self.threads, 0, _MOST_THREADS)
        _check_axis("number of streams", self.streams, 1, _MOST_THREADS)
        if self.mode != "throughput" and max(self.streams) > 1:
            raise UsageError(
                f"{max(self.streams)} streams put calls in flight at the same time; "
                "that needs --mode throughput"
            )
        if self.mode == "paced" and not self.rate:
            raise UsageError("mode paced starts calls by the clock; add --rate 30 for 30 a second")
        if self.mode != "paced" and self.rate is not None:
            raise UsageError(f"a rate of {self.rate:g} calls a second needs --mode paced")
        if self.rate is not None:
            _check_rate(self.rate, self.settings.max_seconds)


def _check_rate(rate: float, seconds: float) -> None:
    if not 0 < rate < math.inf:
        raise UsageError(f"a rate of {rate:g} starts no calls; give --rate 30")
    if rate * seconds < 1:
        raise UsageError(
            f"a rate of {rate:g} starts no call in the {seconds:g} s that a group is timed; "
            "give --rate 30"
        )


def _check_axis(what: str, values: tuple[int, ...], least: int, most: int) -> None:
    if not values:
        raise UsageError(f"no {what} to measure; give at least one")
    for value in values:
        if value < least:
            raise UsageError(f"{value} is no {what}; give at least {least}")
        if value > most:
            raise UsageError(f"a {what} of {value} is too large to measure; give at most {most}")
