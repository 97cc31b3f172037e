"""A lane of a TensorRT engine: one execution context with its stream and its buffers."""

from collections.abc import Callable, Mapping
from typing import Any

from qbench.errors import DataError, QbenchError
from qbench.runtimes.base import Tensors
from qbench.runtimes.cuda.base import Cuda
from qbench.runtimes.tensorrt.engine_file import EngineFile, check_names
from qbench.runtimes.tensorrt.engine_io import InputSlot, Memory, OutputSlot


class Lane:
    """One execution context with a stream and buffers of its own.

    `feed` decides shapes, profile and addresses; `upload`, `execute` and `download` enqueue work
    and check nothing but TensorRT's answer.
    """

    def __init__(self, engine: EngineFile, cuda: Cuda) -> None:
        self._engine, self._cuda = engine, cuda
        self._context = engine.new_context()
        self.stream = cuda.stream()
        self._inputs = [InputSlot(port, Memory(cuda)) for port in engine.inputs]
        self._outputs = [OutputSlot(port, Memory(cuda)) for port in engine.outputs]
        self._memories = [slot.memory for slot in self._inputs]
        self._memories += [slot.memory for slot in self._outputs]
        self._key: object = None
        self._closers: list[Callable[[], None]] = []

    def feed(self, feeds: Mapping[str, Any]) -> None:
        """Make the context ready for `feeds` and copy those on the host into pinned memory.

        Raises:
            DataError: They do not fit the engine.
            EngineError: TensorRT or CUDA refuses.
        """
        check_names(self._engine.inputs, feeds)
        for slot in self._inputs:
            slot.take(feeds[slot.port.name], self._cuda)
        key = tuple(slot.key for slot in self._inputs)
        if key != self._key:
            self._key = None
            self._reshape()
            self._key = key

    def upload(self) -> None:
        """Enqueue the copies of inputs from the host."""
        for slot in self._inputs:
            if slot.from_host:
                self.stream.copy_in(slot.address, slot.memory.host[: slot.size])

    def execute(self) -> None:
        """Enqueue the inference."""
        self.launcher()()

    def download(self) -> None:
        """Enqueue the copies of outputs to the host."""
        for slot in self._outputs:
            if not slot.port.on_host:
                self.stream.copy_out(slot.memory.host[: slot.size], slot.memory.address)

    def results(self) -> Tensors:
        """Return copies of what was downloaded."""
        return {slot.port.name: slot.array().copy() for slot in self._outputs}

    def launcher(self) -> Callable[[], None]:
        """Return the leanest call that enqueues the inference."""
        execute, handle, failure = self._context.execute_async_v3, self.stream.handle, self._failure

        def launch() -> None:
            if not execute(handle):
                raise failure()

        return launch

    def bare(self) -> tuple[Callable[[int], bool], int]:
        """Return TensorRT's own enqueueing call and the stream to call it with."""
        return self._context.execute_async_v3, self.stream.handle

    def report_to(self, profiler: Any) -> None:
        """Let every inference from here on tell an `IProfiler` what its layers took."""
        self._context.profiler = profiler

    def graph_launcher(self) -> Callable[[], None]:
        """Return a call that launches the inference as a CUDA graph.

        Raises:
            EngineError: It cannot be captured.
        """
        # The first inference after a change of shapes does work that must not be captured.
        self.execute()
        self.stream.synchronize()
        graph = self.stream.capture(self.execute)
        self._closers.append(graph.close)
        return graph.launcher()

    def close(self) -> None:
        """Wait for the stream and free everything."""
        self.stream.synchronize()
        while self._closers:
            self._closers.pop()()
        self._context = None
        for memory in self._memories:
            memory.close()
        self.stream.close()

    def _reshape(self) -> None:
        context, shapes = self._context, [slot.shape for slot in self._inputs]
        current = context.active_optimization_profile
        profile = self._engine.choose_profile(shapes, current)
        if profile != current:
            self._check(
                context.set_optimization_profile_async(profile, self.stream.handle),
                f"does not switch to its optimization profile {profile}",
            )
        for slot in self._inputs:
            name = slot.port.name
            self._check(context.set_input_shape(name, slot.shape), f"refuses the shape of {name!r}")
            self._check(
                context.set_tensor_address(name, slot.address), f"refuses the memory of {name!r}"
            )
        if missing := context.infer_shapes():
            raise DataError(f"{self._engine.path} needs the shapes of {', '.join(missing)}")
        for output in self._outputs:
            self._check(
                output.place(context, self._engine.module),
                f"refuses the memory of {output.port.name!r}",
            )

    def _check(self, accepted: bool, problem: str) -> None:
        if not accepted:
            raise self._engine.failure(problem)

    def _failure(self) -> QbenchError:
        for slot in self._outputs:
            if slot.allocator is not None and slot.allocator.error is not None:
                error: QbenchError = slot.allocator.error
                return error
        return self._engine.failure("does not run")
