"""The child process that compiles one engine: `python -m qbench.engines.compiling.worker STAGED`.

It reads one request from standard input, writes events to standard output and the engine to STAGED.
The compiler lives in a process of its own because it prints to stderr, keeps global state, and may
crash or be killed.
"""

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from qbench.artifacts import storage_error
from qbench.engines.compiling.config import apply_options, check_options, notes_on_options
from qbench.engines.compiling.features import Compilation, builds_ahead
from qbench.engines.compiling.implicit import check_implicit, placed_by_compiler
from qbench.engines.compiling.listeners import logger_of, monitor_of
from qbench.engines.compiling.protocol import (
    BuildRequest,
    Built,
    Event,
    Failed,
    Notice,
    decode_request,
    encode,
)
from qbench.engines.compiling.targets import choose_targets
from qbench.engines.compiling.timing_cache import CacheKey, TimingCache
from qbench.engines.machine import this_machine
from qbench.errors import EngineError, QbenchError, UnfitError
from qbench.runtimes.command import claim_stdout
from qbench.runtimes.gpu.devices import current_gpu
from qbench.runtimes.tensorrt.flavour import import_flavour, strongly_typed_network
from qbench.runtimes.tensorrt.inspector import inspect_engine

_SOURCE = re.compile(r"\.? In \S+ at \S+:\d+")
_LONGEST = 300


def main() -> None:
    """Serve the one request on standard input."""
    events = claim_stdout()
    request = decode_request(sys.stdin.buffer.read())

    def send(event: Event) -> None:
        events.write(encode(event))
        events.flush()

    try:
        send(compile_engine(request, Path(sys.argv[1]), send))
    except QbenchError as error:
        send(Failed(type(error).__name__, str(error)))


def compile_engine(request: BuildRequest, staged: Path, send: Callable[[Event], None]) -> Built:
    """Build the engine of `request` and write it to `staged`, what belongs to it beside it.

    Raises:
        EngineError: The model cannot be parsed or built.
        UnfitError: TensorRT cannot be loaded, or finds no GPU where it needs one.
        UsageError: An option does not suit this TensorRT.
        StorageError: The engine cannot be written.
    """
    module = import_flavour(request.flavour)
    options, gpu = request.options, current_gpu()
    check_options(module, options, gpu)
    for note in notes_on_options(module, options):
        send(Notice(note))
    if request.implicit is not None:
        check_implicit(module, options)
    targets = choose_targets(module, options.target_gpus, gpu, options.least_gpu)
    start = time.perf_counter()
    logger = logger_of(module)
    builder = _builder(module, logger, request)
    network, parser = _parse(module, builder, logger, request)
    config = _config(module, builder, targets)
    apply_options(Compilation(module, network, config), options)
    _add_profiles(builder, network, config, request)
    # The compiler owns neither of these; they have to live until it is done.
    config.progress_monitor = monitor = monitor_of(module, send)
    with _timing_cache(config, request, send), _int8(module, config, request, staged, send):
        engine = builder.build_serialized_network(network, config)
    del monitor, parser
    if engine is None:
        raise _build_error(request, logger.errors)
    seconds = time.perf_counter() - start
    try:
        staged.write_bytes(engine)
    except OSError as error:
        raise storage_error(request.output, error) from error
    # The log of TensorRT for RTX lists the layers; to look into an engine needs the GPU.
    inspection = None if builds_ahead(module) else inspect_engine(module, engine, logger)
    return Built(seconds, targets, inspection)


def _builder(module: ModuleType, logger: Any, request: BuildRequest) -> Any:
    try:
        return module.Builder(logger)
    except TypeError as error:  # the bindings' way to say that TensorRT made none
        reason = f" ({_one_line(logger.errors[-1])})" if logger.errors else ""
        raise UnfitError(
            f"{request.flavour} has no GPU to build on{reason}; "
            "run `qbench doctor` to see what runs here"
        ) from error


def _parse(module: ModuleType, builder: Any, logger: Any, request: BuildRequest) -> tuple[Any, Any]:
    """Return the network, and the parser that owns its weights."""
    if request.implicit is None:
        network = strongly_typed_network(module, builder)
    else:
        network = builder.create_network(0)
    parser = module.OnnxParser(network, logger)
    # From the file and not from bytes, so that external data beside it is found.
    if not parser.parse_from_file(str(request.onnx)):
        raise _parse_error(request, parser)
    return network, parser


def _config(module: ModuleType, builder: Any, targets: Sequence[str]) -> Any:
    config = builder.create_builder_config()
    config.profiling_verbosity = module.ProfilingVerbosity.DETAILED
    if targets:
        config.num_compute_capabilities = len(targets)
        for index, target in enumerate(targets):
            capability = getattr(module.ComputeCapability, target.upper())
            config.set_compute_capability(capability, index)
    return config


def _add_profiles(builder: Any, network: Any, config: Any, request: BuildRequest) -> None:
    names = [network.get_input(index).name for index in range(network.num_inputs)]
    for number, shapes_of_inputs in enumerate(request.profiles):
        profile = builder.create_optimization_profile()
        for name, shapes in shapes_of_inputs.inputs.items():
            if name not in names:
                raise EngineError(
                    f"{request.subject} has no input {name!r}; its inputs are {', '.join(names)}"
                )
            profile.set_shape(name, shapes.min, shapes.opt, shapes.max)
        config.add_optimization_profile(profile)
        if request.implicit is not None and number == 0:
            config.set_calibration_profile(profile)


@contextmanager
def _int8(
    module: ModuleType,
    config: Any,
    request: BuildRequest,
    staged: Path,
    send: Callable[[Event], None],
) -> Iterator[None]:
    """Let the compiler place INT8 in what is built meanwhile, where that is asked."""
    if request.implicit is None:
        yield
        return
    copy = staged.with_suffix(".cache")
    try:
        with placed_by_compiler(
            module, config, request.implicit, copy, lambda text: send(Notice(text))
        ):
            yield
    except OSError as error:
        raise storage_error(request.output.with_suffix(".cache"), error) from error


@contextmanager
def _timing_cache(
    config: Any, request: BuildRequest, send: Callable[[Event], None]
) -> Iterator[None]:
    """Use the timing cache, where one is named, for what is built meanwhile."""
    path = request.options.timing_cache
    if path is None:
        yield
        return
    here = this_machine()
    gpu = here.gpu or here.compute_capability or "no GPU"
    key = CacheKey(request.flavour.name, request.flavour.version, gpu)
    cache = TimingCache(path, key, lambda message: send(Notice(message)))
    cache.attach(config)
    yield
    cache.store(config)


def _parse_error(request: BuildRequest, parser: Any) -> EngineError:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    lines = [_parser_line(error) for error in errors]
    sys.stderr.write("".join(f"[PARSER] {line}\n" for line in lines))
    count = "1 error" if len(lines) == 1 else f"{len(lines)} errors, first"
    reason = f"{count}: {lines[0]}" if lines else "the parser gave no reason"
    return EngineError(f"{request.flavour} cannot parse {request.subject}: {reason}")


def _parser_line(error: Any) -> str:
    # The first line of a long description only repeats the node's name.
    lines = [line for line in error.desc().splitlines() if not line.startswith("Invalid Node - ")]
    description = _one_line(lines[0] if lines else error.desc())
    if not error.node_name():
        return description
    return f"node {error.node_name()!r} ({error.node_operator()}): {description}"


def _build_error(request: BuildRequest, errors: Sequence[str]) -> EngineError:
    reason = _one_line(errors[0]) if errors else "the compiler gave no reason"
    return EngineError(f"{request.flavour} cannot build {request.subject}: {reason}")


def _one_line(text: str) -> str:
    line = " ".join(_SOURCE.sub("", text).split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


if __name__ == "__main__":
    main()
