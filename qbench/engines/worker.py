"""The child process that compiles one engine: `python -m qbench.engines.worker STAGED`.

It reads one request from standard input, writes events to standard output and the engine to STAGED.
The compiler lives in a process of its own because it prints to stderr, keeps global state, and may
crash or be killed.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from qbench.artifacts import storage_error
from qbench.engines.protocol import (
    BuildRequest,
    Built,
    Event,
    Failed,
    Progress,
    decode_request,
    encode,
)
from qbench.engines.targets import choose_targets
from qbench.errors import EngineError, QbenchError, UsageError
from qbench.runtimes.flavour import import_flavour, strongly_typed_network
from qbench.runtimes.gpu import current_gpu

_SOURCE = re.compile(r"\.? In \S+ at \S+:\d+")
_LONGEST = 300


def main() -> None:
    """Serve the one request on standard input."""
    events = _claim_stdout()
    request = decode_request(sys.stdin.buffer.read())

    def send(event: Event) -> None:
        events.write(encode(event))
        events.flush()

    try:
        send(compile_engine(request, Path(sys.argv[1]), send))
    except QbenchError as error:
        send(Failed(type(error).__name__, str(error)))


def compile_engine(request: BuildRequest, staged: Path, send: Callable[[Event], None]) -> Built:
    """Build the engine of `request` and write it to `staged`.

    Raises:
        EngineError: The model cannot be parsed or built.
        UnfitError: TensorRT cannot be loaded.
        UsageError: An option does not suit this TensorRT.
        StorageError: The engine cannot be written.
    """
    module = import_flavour(request.flavour)
    options = request.options
    targets = choose_targets(module, options.target_gpus, current_gpu(), options.least_gpu)
    start = time.perf_counter()
    logger = _logger(module)
    builder = module.Builder(logger)
    network = strongly_typed_network(module, builder)
    parser = module.OnnxParser(network, logger)
    # From the file and not from bytes, so that external data beside it is found.
    if not parser.parse_from_file(str(request.onnx)):
        raise _parse_error(request, parser)
    config = _config(module, builder, request, targets)
    _add_profile(builder, network, config, request)
    config.progress_monitor = monitor = _monitor(module, send)
    engine = builder.build_serialized_network(network, config)
    del monitor  # The compiler does not own it; it had to live until here.
    if engine is None:
        raise _build_error(request, logger.errors)
    seconds = time.perf_counter() - start
    try:
        staged.write_bytes(engine)
    except OSError as error:
        raise storage_error(request.output, error) from error
    return Built(seconds, targets)


def _claim_stdout() -> BinaryIO:
    """Keep standard output for events; whatever the compiler prints there joins its stderr."""
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return events


def _config(module: ModuleType, builder: Any, request: BuildRequest, targets: Sequence[str]) -> Any:
    config, options = builder.create_builder_config(), request.options
    config.profiling_verbosity = module.ProfilingVerbosity.DETAILED
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.builder_level is not None:
        config.builder_optimization_level = options.builder_level
        # An impossible level is logged and otherwise ignored.
        if config.builder_optimization_level != options.builder_level:
            raise UsageError(f"unknown builder level {options.builder_level}; choose from 0 to 5")
    if targets:
        config.num_compute_capabilities = len(targets)
        for index, target in enumerate(targets):
            capability = getattr(module.ComputeCapability, target.upper())
            config.set_compute_capability(capability, index)
    return config


def _add_profile(builder: Any, network: Any, config: Any, request: BuildRequest) -> None:
    if request.profile is None:
        return
    profile = builder.create_optimization_profile()
    names = [network.get_input(index).name for index in range(network.num_inputs)]
    for name, shapes in request.profile.inputs.items():
        if name not in names:
            raise EngineError(
                f"{request.onnx} has no input {name!r}; its inputs are {', '.join(names)}"
            )
        profile.set_shape(name, shapes.min, shapes.opt, shapes.max)
    config.add_optimization_profile(profile)


def _logger(module: ModuleType) -> Any:
    """Return a logger that writes every message to stderr and keeps the errors."""
    severities = module.ILogger.Severity

    class Logger(module.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in (severities.ERROR, severities.INTERNAL_ERROR):
                self.errors.append(msg)
            # A full disk costs the log, not the build; the engine's own write reports it.
            with suppress(OSError):
                sys.stderr.write(f"[{severity.name}] {msg}\n")

    return Logger()


def _monitor(module: ModuleType, send: Callable[[Event], None]) -> Any:
    """Return a progress monitor that sends events; the build stops once nobody reads them."""

    class Monitor(module.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.phases: dict[str, tuple[str | None, int]] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.phases[phase_name] = (parent_phase, num_steps)
            self._report(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return self._report(phase_name, step + 1)

        def phase_finish(self, phase_name: str) -> None:
            self._report(phase_name, self.phases[phase_name][1])

        def _report(self, phase: str, step: int) -> bool:
            parent, steps = self.phases[phase]
            try:
                send(Progress(phase, parent, step, steps))
            except OSError:
                return False
            return True

    return Monitor()


def _parse_error(request: BuildRequest, parser: Any) -> EngineError:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    lines = [_parser_line(error) for error in errors]
    sys.stderr.write("".join(f"[PARSER] {line}\n" for line in lines))
    count = "1 error" if len(lines) == 1 else f"{len(lines)} errors, first"
    reason = f"{count}: {lines[0]}" if lines else "the parser gave no reason"
    return EngineError(
        f"{request.flavour} cannot parse {request.onnx}: {reason}; see {request.log}"
    )


def _parser_line(error: Any) -> str:
    # The first line of a long description only repeats the node's name.
    lines = [line for line in error.desc().splitlines() if not line.startswith("Invalid Node - ")]
    description = _one_line(lines[0] if lines else error.desc())
    if not error.node_name():
        return description
    return f"node {error.node_name()!r} ({error.node_operator()}): {description}"


def _build_error(request: BuildRequest, errors: Sequence[str]) -> EngineError:
    reason = _one_line(errors[0]) if errors else "the compiler gave no reason"
    return EngineError(
        f"{request.flavour} cannot build {request.onnx}: {reason}; see {request.log}"
    )


def _one_line(text: str) -> str:
    line = " ".join(_SOURCE.sub("", text).split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


if __name__ == "__main__":
    main()
