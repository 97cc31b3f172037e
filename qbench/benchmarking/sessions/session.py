"""One candidate, loaded and ready to be judged and timed."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Protocol

from qbench.benchmarking import environment
from qbench.benchmarking.judging.feeding import Feeding
from qbench.benchmarking.judging.judged import Judged
from qbench.benchmarking.sessions.workload import Load, bind, timer_of
from qbench.benchmarking.timing.clock import Block, BlockTimer, Call
from qbench.benchmarking.timing.sittings import Reload
from qbench.errors import DataError, ModelError
from qbench.runtimes import openvino
from qbench.runtimes.base import OperatorTime, Runner, Tensors
from qbench.runtimes.ort.providers import ProviderChoice, options_of
from qbench.runtimes.ort.runner import OrtRunner
from qbench.runtimes.tensorrt.flavour import flavour_named
from qbench.runtimes.tensorrt.runner import TensorRtRunner


@dataclass(frozen=True)
class Task:
    """What a candidate is: plain values, which reach another process.

    Attributes:
        path: The ONNX file, or the engine.
        choice: Where ONNX Runtime runs it.
        flavour: The TensorRT that an engine runs in; None for ONNX files.
        simulated: Compute Q/DQ with exact arithmetic; then it is judged only.
        feeding: What it is fed and judged on.
        load: How it is driven.
        cuda_backend: A key of `runtimes.cuda.choose.BACKENDS`.
    """

    path: Path
    choice: ProviderChoice
    flavour: str | None
    simulated: bool
    feeding: Feeding
    load: Load
    cuda_backend: str

    def open(self) -> Runner:
        """Load it into its runtime."""
        threads, streams = self.load.threads, self.load.streams
        if self.flavour is not None:
            flavour = flavour_named(self.flavour)
            return TensorRtRunner(self.path, flavour, cuda_backend=self.cuda_backend)
        if self.choice.name == openvino.PROVIDER:
            return openvino.OpenVinoRunner(self.path, threads=threads, streams=streams)
        return OrtRunner(self.path, provider=self.choice, threads=threads, simulate=self.simulated)


@dataclass(frozen=True)
class Facts:
    """What is known of a candidate that is loaded.

    Attributes:
        provider: What really executes it.
        load_seconds: Time that loading took.
        notes: What a reader must know.
        batch: Images per call.
        first_inference: Seconds of the first call; None where it is not timed.
        peak_rss_bytes: Peak of its process up to the first calls.
        device_memory_bytes: What it holds on the GPU.
        provider_options: What the provider was told.
        pid: The process that it runs in.
    """

    provider: str
    load_seconds: float
    notes: tuple[str, ...]
    batch: int = 1
    first_inference: float | None = None
    peak_rss_bytes: int | None = None
    device_memory_bytes: int | None = None
    provider_options: Mapping[str, str] = field(default_factory=dict)
    pid: int = field(default_factory=os.getpid)

    @property
    def reload_seconds(self) -> float:
        """What loading it anew in its process is expected to take, the first call included."""
        return self.load_seconds + (self.first_inference or 0.0)


class Session(Protocol):
    """A candidate that is loaded, in this process or in one of its own.

    Every method raises a QbenchError where the candidate, or its process, fails.

    Attributes:
        facts: What the first loading and the first call told, and the process that it is in now.
    """

    facts: Facts

    @property
    def reloads(self) -> tuple[Reload, ...]:
        """The ways to load it anew, in place of what is loaded, and to run it once: best first."""

    def judge(self) -> Judged | None:
        """Return its accuracy; None where there are no images."""

    def time_block(self, calls: int, lead: int) -> Block:
        """Time at least `calls` calls, after `lead` more that are not timed."""

    def profile(self) -> tuple[OperatorTime, ...]:
        """Return what takes its time, largest first; empty where the runtime does not tell."""

    def close(self, *, at_once: bool = False) -> None:
        """Free what it holds; `at_once` does not wait for anything."""


class LocalSession:
    """A candidate in this process.

    Args:
        task: What to run.
        is_alone: Whether no other candidate here can use the images and labels that it opens.

    Raises:
        UnfitError: This machine cannot run it.
        ModelError: ONNX Runtime refuses it.
        EngineError: TensorRT refuses it.
        DataError: The feeds do not fit.
    """

    def __init__(self, task: Task, *, is_alone: bool = False) -> None:
        self._task, self._is_alone = task, is_alone
        self._runner = task.open()
        self._timer: BlockTimer | None = None
        try:
            self.facts = self._start()
        except BaseException:
            self._runner.close()
            raise

    def judge(self) -> Judged | None:
        """Return its accuracy; None where there are no images."""
        judge = self._task.feeding.judge(self._runner)
        judged = None if judge is None else judge.judge(self._runner)
        if self._is_alone:
            self._task.feeding.forget()
        return judged

    def time_block(self, calls: int, lead: int) -> Block:
        """Time at least `calls` calls, after `lead` more that are not timed."""
        assert self._timer is not None  # simulated candidates are not timed
        return self._timer(calls, lead=lead)

    @property
    def reloads(self) -> tuple[Reload, ...]:
        """The only way is in this process."""
        return (Reload(lambda: self.reload, self.facts.reload_seconds),)

    def reload(self) -> None:
        """Load it anew in this process, in place of what is loaded, and run it once."""
        self._timer = None  # its calls keep the model loaded
        self._runner.close()
        self._runner = self._task.open()
        self._start_calls()

    def profile(self) -> tuple[OperatorTime, ...]:
        """Return what takes its time, largest first."""
        return self._runner.profile(self._sample.feeds)

    def close(self, *, at_once: bool = False) -> None:
        """Let go of the model."""
        del at_once
        self._runner.close()

    def _start(self) -> Facts:
        runner, load = self._runner, self._task.load
        if self._task.simulated:
            return Facts(runner.provider, runner.load_seconds, runner.notes)
        self._sample = self._task.feeding.sample(runner, load.batch)
        first = self._start_calls()
        return Facts(
            runner.provider,
            runner.load_seconds,
            runner.notes + _phases(runner, self._sample.feeds),
            self._sample.batch,
            first,
            environment.peak_rss_bytes(),
            runner.device_memory_bytes,
            _provider_options(runner, self._task.choice),
        )

    def _start_calls(self) -> float:
        """Bind the calls, and return the seconds of the first."""
        load = self._task.load
        calls = bind(self._runner, self._sample.feeds, load)
        first = _first_inference(calls[0], self._sample.batch)
        self._timer = timer_of(calls, load)
        return first


def _provider_options(runner: Runner, choice: ProviderChoice) -> dict[str, str]:
    """Return what a provider of ONNX Runtime was told; other runtimes' rows tell it in notes."""
    return options_of(runner.provider, choice) if isinstance(runner, OrtRunner) else {}


def _first_inference(call: Call, batch: int) -> float:
    started = time.perf_counter()
    try:
        call()
    except DataError as error:
        raise ModelError(f"the model does not run with a batch of {batch}: {error}") from error
    return time.perf_counter() - started


def _phases(runner: Runner, feeds: Tensors) -> tuple[str, ...]:
    """Return a note on what an engine's copies take, which its row leaves out."""
    if not isinstance(runner, TensorRtRunner):
        return ()
    phases = runner.phases(feeds)
    h2d, compute, d2h = (f"{1e3 * seconds:.3g} ms" for seconds in astuple(phases))
    return (f"by events on the GPU: copies in {h2d}, inference {compute}, copies out {d2h}",)
