"""TensorRT engines as a Runner."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from qbench.errors import EngineError
from qbench.model.spec import TensorSpec
from qbench.runtimes.base import OperatorTime, Tensors
from qbench.runtimes.cuda.base import Cuda, Event
from qbench.runtimes.cuda.choose import DEFAULT_BACKEND, open_cuda
from qbench.runtimes.tensorrt.engine_file import EngineFile, Shape
from qbench.runtimes.tensorrt.engine_profile import profile_lane
from qbench.runtimes.tensorrt.execution import Lane
from qbench.runtimes.tensorrt.flavour import Flavour

logger = logging.getLogger(__name__)

PROVIDERS = {"tensorrt": "tensorrt engine", "tensorrt_rtx": "rtx engine"}
"""What the runner of each flavour's engines is called; ONNX Runtime has a `tensorrt` of its own."""


@dataclass(frozen=True)
class Phases:
    """Seconds that one inference spends on the way in, on the device and on the way out.

    Attributes:
        h2d: Copies of the inputs from pinned host memory; 0 where they are on the device.
        compute: The inference.
        d2h: Copies of the outputs to pinned host memory.
    """

    h2d: float
    compute: float
    d2h: float


class TensorRtRunner:
    """An engine on the first GPU.

    Feeds are host arrays or whatever has a `__cuda_array_interface__`; the latter are used where
    they lie. Calls that `bind` returned may run in a thread each; all else is for one thread.

    Args:
        path: The engine file.
        flavour: The TensorRT that it was built with.
        cuda_backend: A key of `cuda.choose.BACKENDS`.

    Raises:
        UsageError: The CUDA backend is unknown.
        UnfitError: There is no GPU, no driver, or a package is missing.
        EngineError: The engine cannot be read or does not load here.
    """

    def __init__(
        self, path: Path, flavour: Flavour, *, cuda_backend: str = DEFAULT_BACKEND
    ) -> None:
        started = time.perf_counter()
        # CUDA first: without a GPU TensorRT would only say that the engine does not load.
        self._cuda: Cuda = open_cuda(cuda_backend)
        self._lanes: list[Lane] = []
        self._own: Lane | None = None
        try:
            self._engine: EngineFile | None = EngineFile(path, flavour)
        except BaseException:
            self._cuda.close()
            raise
        self.provider = PROVIDERS[flavour.name]
        self._note("without a CUDA graph")
        self.device_memory_bytes = self._engine.device_memory_bytes()
        self.load_seconds = time.perf_counter() - started
        self.inputs = tuple(port.spec for port in self._engine.inputs)
        self.outputs = tuple(port.spec for port in self._engine.outputs)

    def __enter__(self) -> "TensorRtRunner":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, feeds: Mapping[str, Any]) -> Tensors:
        """Return all outputs for `feeds`, as new host arrays.

        Raises:
            DataError: The feeds do not fit the engine or any of its profiles.
            EngineError: TensorRT or CUDA fails.
        """
        lane = self._ready(feeds)
        lane.upload()
        lane.execute()
        lane.download()
        lane.stream.synchronize()
        return lane.results()

    def bind(
        self, feeds: Mapping[str, Any], *, graph: bool = False, streams: int = 1
    ) -> Callable[[], None]:
        """Return a call that runs on `feeds`, which are on the device, and leaves outputs there.

        The call has contexts and buffers of its own, until `close`. The runner's notes say how the
        latest one launches.

        Args:
            feeds: What to run on.
            graph: Launch a CUDA graph; where none can be captured a note and a warning say so.
            streams: Run as many times at once, each on a stream of its own.

        Raises:
            DataError: The feeds do not fit the engine or any of its profiles.
            EngineError: TensorRT or CUDA fails.
        """
        lanes = [self._bound(feeds) for _ in range(streams)]
        launches = [self._launcher(lane, graph) for lane in lanes]
        waits = [lane.stream.synchronize for lane in lanes]
        if streams == 1:
            return _single(launches[0], waits[0])

        def call() -> None:
            for launch in launches:
                launch()
            for wait in waits:
                wait()

        return call

    def profile(self, feeds: Mapping[str, Any], runs: int = 10) -> tuple[OperatorTime, ...]:
        """Return what takes the time on `feeds`, largest first.

        An engine that was built to tell only the names of its layers gives each of them, without a
        type.

        Raises:
            DataError: The feeds do not fit the engine or any of its profiles.
            EngineError: TensorRT or CUDA fails.
        """
        engine, lane = self._opened(), self._bound(feeds)
        try:
            return profile_lane(engine, lane, runs)
        finally:
            self._drop(lane)

    def typical_inputs(self) -> tuple[TensorSpec, ...]:
        """Return the inputs with open dimensions as the first profile has them most often.

        A batch stays open where the profile takes 1.

        Raises:
            EngineError: The engine is closed.
        """
        profile = self._opened().profiles[0]
        return tuple(map(_typical, self.inputs, profile.min, profile.opt))

    def bind_bare(self, feeds: Mapping[str, Any]) -> Callable[[], None]:
        """Return nothing but TensorRT's own call and the wait, which `bind` is measured against.

        Raises:
            DataError: The feeds do not fit the engine or any of its profiles.
            EngineError: TensorRT or CUDA fails.
        """
        lane = self._bound(feeds)
        (execute, handle), wait = lane.bare(), lane.stream.synchronize

        def call() -> None:
            execute(handle)
            wait()

        return call

    def phases(self, feeds: Mapping[str, Any], runs: int = 20) -> Phases:
        """Return the median times of one inference's phases, taken with events on the device.

        Raises:
            DataError: The feeds do not fit the engine or any of its profiles.
            EngineError: TensorRT or CUDA fails.
        """
        lane = self._ready(feeds)
        events = [self._cuda.event() for _ in range(4)]
        try:
            # The first run is not counted: it allocates and loads kernels.
            seconds = [_timed(lane, events) for _ in range(runs + 1)][1:]
        finally:
            for event in events:
                event.close()
        return Phases(*map(float, np.median(seconds, axis=0)))

    def close(self) -> None:
        """Free everything on the device; calls that `bind` returned must not be called again."""
        while self._lanes:
            self._drop(self._lanes[-1])
        self._own = None
        if self._engine is not None:
            self._engine.close()
            self._engine = None
            self._cuda.close()

    def _ready(self, feeds: Mapping[str, Any]) -> Lane:
        """Return the runner's own lane, made once, ready for `feeds`."""
        if self._own is None:
            self._own = self._new_lane()
        self._own.feed(feeds)
        return self._own

    def _bound(self, feeds: Mapping[str, Any]) -> Lane:
        """Return a new lane whose inputs are on the device."""
        lane = self._new_lane()
        try:
            lane.feed(feeds)
            lane.upload()
            lane.stream.synchronize()
        except BaseException:
            self._drop(lane)
            raise
        return lane

    def _drop(self, lane: Lane) -> None:
        """Free what a lane holds."""
        self._lanes.remove(lane)
        try:
            lane.close()
        except EngineError as error:  # an earlier failure, told then, leaves the GPU unusable
            logger.warning("a context was not freed: %s", error)

    def _opened(self) -> EngineFile:
        if self._engine is None:
            raise EngineError("the engine is closed; open it again")
        return self._engine

    def _new_lane(self) -> Lane:
        lane = Lane(self._opened(), self._cuda)
        self._lanes.append(lane)
        return lane

    def _launcher(self, lane: Lane, graph: bool) -> Callable[[], None]:
        if not graph:
            self._note("without a CUDA graph")
            return lane.launcher()
        try:
            launch = lane.graph_launcher()
        except EngineError as error:
            logger.warning("without a CUDA graph: %s", error)
            self._note(f"without a CUDA graph ({error})")
            return lane.launcher()
        self._note("as a CUDA graph")
        return launch

    def _note(self, launched: str) -> None:
        """Say how calls run, `launched` in some way."""
        engine = self._opened()
        self.notes: tuple[str, ...] = (
            f"{engine.flavour}; timed without copies to and from the GPU, {launched}, and "
            "with CUDA's own way of waiting",
        )
        if engine.streamed_bytes != 0:
            self.notes += ("weights that do not fit stay on the host and are streamed",)


def _typical(spec: TensorSpec, low: Shape, usual: Shape) -> TensorSpec:
    fixed = tuple(
        usual if dim is None else dim for dim, usual in zip(spec.shape, usual, strict=True)
    )
    batch_is_open = bool(spec.shape) and spec.shape[0] is None and low[0] <= 1
    return TensorSpec(spec.name, (None, *fixed[1:]) if batch_is_open else fixed, spec.dtype)


def _single(launch: Callable[[], None], wait: Callable[[], None]) -> Callable[[], None]:
    def call() -> None:
        launch()
        wait()

    return call


def _timed(lane: Lane, events: Sequence[Event]) -> list[float]:
    """Run once and return the seconds between the events around the phases."""
    phases = (lane.upload, lane.execute, lane.download)
    events[0].record(lane.stream)
    for phase, event in zip(phases, events[1:], strict=True):
        phase()
        event.record(lane.stream)
    lane.stream.synchronize()
    return [later.seconds_since(earlier) for earlier, later in pairwise(events)]
