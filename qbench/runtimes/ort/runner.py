"""ONNX Runtime as a Runner."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from qbench.errors import ModelError
from qbench.model.spec import TensorSpec
from qbench.runtimes.base import OperatorTime, Tensors, closed, misfit
from qbench.runtimes.element_types import dtype_named
from qbench.runtimes.gpu.nvml import Nvml, open_nvml
from qbench.runtimes.ort.providers import ProviderChoice, what_ran
from qbench.runtimes.ort.session import (
    ORT_ERRORS,
    SEVERITY_FATAL,
    create_session,
    refused,
    session_options,
    share_arena,
)
from qbench.runtimes.profile import shares, times_from_ort

_EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"

_PACKED = 1 << 30
"""Bytes of weights given as arrays up to which ONNX Runtime may keep packed copies of them, too, by
which DeiT-tiny takes 6.6 ms instead of 9.8, and an encoder of 459 MB 130 ms instead of 223."""


@dataclass(frozen=True)
class GraphInMemory:
    """A model that is no file.

    Attributes:
        data: As the file would hold it.
        weights: Such as are given as arrays, by name.
        folder: Where external data lies.
        shares_arena: See `session.share_arena`.
        is_optimized: Whether its nodes are run as they are.
    """

    data: bytes
    weights: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    folder: Path | None = None
    shares_arena: bool = False
    is_optimized: bool = False

    def prepare(self, options: ort.SessionOptions) -> None:
        """Let a session take it so."""
        # A plan of memory ahead of each run is made beside outputs, and a model in memory is mostly
        # asked for all its tensors: to calibrate CenterFace took 838 MiB with it, 618 without.
        options.enable_mem_pattern = False
        # To find out which tensors could take the place of others takes up to half of the time to
        # load a model (30 ms of 200 nodes), and runs need neither more time nor memory without it:
        # what is not needed any more goes back to the arena all the same.
        options.enable_mem_reuse = False
        if self.folder is not None:
            options.add_session_config_entry(_EXTERNAL_FOLDER, str(self.folder))
        if self.weights:
            values = [ort.OrtValue.ortvalue_from_numpy(array) for array in self.weights.values()]
            options.add_external_initializers(list(self.weights), values)
        if self.folder is not None or sum(w.nbytes for w in self.weights.values()) > _PACKED:
            # Of a large model, or one that need not be read, packed weights double the memory.
            options.add_session_config_entry("session.disable_prepacking", "1")
        if self.is_optimized:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if self.shares_arena:
            share_arena(options)


class OrtRunner:
    """A model in ONNX Runtime.

    Args:
        model: Path of an ONNX file, its bytes, or a graph in memory.
        provider: A key of `providers.PROVIDERS`, or a full choice.
        threads: Intra-op threads; 0 leaves the choice to ONNX Runtime.
        simulate: Keep Q/DQ nodes as they are, so that they compute exactly what they say. ONNX
            Runtime's fused integer kernels may saturate on CPUs without VNNI.

    Raises:
        UsageError: The provider's name is unknown.
        UnfitError: The provider does not load on this machine, or leaves a part of the model to
            another one.
        ModelError: ONNX Runtime refuses the model.
    """

    def __init__(
        self,
        model: Path | bytes | GraphInMemory,
        *,
        provider: ProviderChoice | str = "cpu",
        threads: int = 0,
        simulate: bool = False,
    ) -> None:
        options = session_options(threads, simulate)
        model = GraphInMemory(model) if isinstance(model, bytes) else model
        if isinstance(model, GraphInMemory):
            model.prepare(options)
        choice = ProviderChoice(provider) if isinstance(provider, str) else provider
        gpu = None if choice.name == "cpu" else open_nvml()
        used = None if gpu is None else gpu.used_bytes()
        started = time.perf_counter()
        source = model if isinstance(model, Path) else model.data
        session = create_session(source, choice, options)
        self.load_seconds = time.perf_counter() - started
        self._file = model if isinstance(model, Path) else None
        self._threads = threads
        ran = what_ran(session, choice)
        self.provider, self.notes = ran.provider, ran.notes
        self.device_memory_bytes = None if ran.provider == "cpu" else _growth(gpu, used)
        self._session: Any = session
        self._run_options = ort.RunOptions()
        self._run_options.log_severity_level = SEVERITY_FATAL  # what fails is raised, and told once
        self.inputs = tuple(_spec(arg) for arg in self._session.get_inputs())
        self.outputs = tuple(_spec(arg) for arg in self._session.get_outputs())

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Tensors:
        """Return all outputs for `feeds` that are tensors; sequences are left out.

        Raises:
            DataError: The feeds do not fit the model's inputs.
            ModelError: No output is a tensor, or the runner is closed.
        """
        session, names = self._opened(), [spec.name for spec in self.outputs]
        try:
            results = session.run(names, dict(feeds), self._run_options)
        except ORT_ERRORS as error:
            raise refused(feeds, self.inputs, error) from error
        pairs = zip(names, results, strict=True)
        tensors = {name: result for name, result in pairs if isinstance(result, np.ndarray)}
        if not tensors:
            raise ModelError(
                f"output {names[0]!r} is no tensor but a {type(results[0]).__name__}; "
                "export a model that gives tensors"
            )
        return tensors

    def bind(self, feeds: Mapping[str, NDArray[Any]]) -> Callable[[], None]:
        """Return a call that runs once on `feeds` through ONNX Runtime's IO binding.

        On a GPU the inputs are copied here, once, and the outputs stay there. Models whose outputs
        have another rank than they declare, which binding refuses, run without it.

        Raises:
            DataError: The feeds do not fit the model's inputs; the call raises it as well, since
                ONNX Runtime looks at shapes and types only then.
            ModelError: The runner is closed.
        """
        run, binding = self.bind_bare(feeds)
        session, names, inputs = self._opened(), [spec.name for spec in self.outputs], self.inputs
        arrays, is_refused = dict(feeds), False

        def call_unbound() -> None:
            try:
                session.run(names, arrays)
            except ORT_ERRORS as error:
                raise refused(arrays, inputs, error) from error

        def call() -> None:
            nonlocal is_refused
            if is_refused:
                call_unbound()
                return
            try:
                run(binding)
            except ORT_ERRORS:
                call_unbound()  # which tells what is wrong, if it is not that
                is_refused = True

        return call

    def bind_bare(self, feeds: Mapping[str, NDArray[Any]]) -> tuple[Callable[[Any], None], Any]:
        """Return ONNX Runtime's own call and its argument, which `bind` is measured against.

        Raises:
            DataError: The names are not those of the model's inputs.
            ModelError: The runner is closed.
        """
        session = self._opened()
        if {spec.name for spec in self.inputs} != feeds.keys():
            raise misfit(feeds, self.inputs, "the names differ")
        binding = session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        device = "cpu" if self.provider == "cpu" else "cuda"
        for spec in self.outputs:
            binding.bind_output(spec.name, device)
        return session.run_with_iobinding, binding

    def profile(
        self, feeds: Mapping[str, NDArray[Any]], runs: int = 10
    ) -> tuple[OperatorTime, ...]:
        """Return what takes the time on `feeds`, largest first.

        Nothing on a GPU, whose work ONNX Runtime enqueues without waiting for it.

        Raises:
            ModelError: The model was given as bytes, or the runner is closed.
        """
        self._opened()
        if self.provider != "cpu":
            return ()
        if self._file is None:
            raise ModelError("a model in memory has no profile; write it to a file first")
        return profile_file(self._file, feeds, threads=self._threads, runs=runs)

    def close(self) -> None:
        """Let go of the session; bound calls keep it alive."""
        self._session = None

    def _opened(self) -> Any:
        """Return the session."""
        if self._session is None:
            raise closed()
        return self._session


def profile_file(
    model: Path, feeds: Mapping[str, NDArray[Any]], *, threads: int = 0, runs: int = 10
) -> tuple[OperatorTime, ...]:
    """Return what takes the time of ONNX Runtime's CPU provider, largest first.

    Operators are those of the optimized graph, such as QLinearConv.

    Raises:
        ModelError: ONNX Runtime refuses the model.
        DataError: The feeds do not fit its inputs.
    """
    with tempfile.TemporaryDirectory(prefix="qbench-") as folder:
        options = session_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = create_session(model, ProviderChoice("cpu"), options)
        try:
            for _ in range(runs):
                session.run(None, dict(feeds))
        except ORT_ERRORS as error:
            inputs = tuple(map(_spec, session.get_inputs()))
            raise refused(feeds, inputs, error) from error
        return shares(times_from_ort(Path(session.end_profiling()).read_bytes()))


def _spec(arg: Any) -> TensorSpec:
    dtype = dtype_named(arg.type.removeprefix("tensor(").removesuffix(")"))
    return TensorSpec(arg.name, tuple(arg.shape), dtype)


def _growth(gpu: Nvml | None, before: int | None) -> int | None:
    """Return by how much the memory in use on a GPU has grown while a session was made.

    These are the weights, and for the first session of a process CUDA's context as well; what other
    processes take meanwhile counts too, since NVML does not tell them apart on every system.
    """
    after = None if gpu is None else gpu.used_bytes()
    return None if before is None or after is None else max(after - before, 0)
