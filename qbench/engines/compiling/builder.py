"""Compile an ONNX file into a TensorRT engine, in a child process that may fail in any way."""

import logging
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

import msgspec

from qbench import artifacts, errors
from qbench.engines.compiling.limits import Limits, Watchdog, check_limits
from qbench.engines.compiling.protocol import (
    BuildRequest,
    Built,
    Failed,
    Notice,
    Progress,
    decode_event,
    encode,
)
from qbench.runtimes.command import python_module
from qbench.runtimes.tensorrt.inspector import layers_from_inspector
from qbench.runtimes.tensorrt.layers import EngineLayer, layers_from_log

_LOGGER = logging.getLogger(__name__)
_COMPILER = logging.getLogger("qbench.engines.compiler")
_WORKER = python_module("qbench.engines.compiling.worker")

OnProgress = Callable[[Progress], None]


class BuildResult(msgspec.Struct, frozen=True):
    """What a build took and gave.

    Attributes:
        seconds: Time of parsing and building, without the start of the process.
        size_bytes: Size of the engine file.
        targets: GPUs that the engine was built for; empty where the compiler chose the one at hand.
        layers: The layers, of the log or of the engine inspector; empty where neither lists them.
    """

    seconds: float
    size_bytes: int
    targets: tuple[str, ...]
    layers: tuple[EngineLayer, ...]


def build(
    request: BuildRequest,
    on_progress: OnProgress | None = None,
    limits: Limits | None = None,
) -> BuildResult:
    """Build one engine; it appears under its name whole or not at all, the log in any case.

    Args:
        request: What to build.
        on_progress: Called as the phases of the build advance.
        limits: What the compiler may take; None for all it wants.

    Raises:
        EngineError: The model cannot be parsed or built, or the compiler died or was ended.
        UnfitError: TensorRT cannot be loaded.
        UsageError: An option does not suit this TensorRT, or a limit this system.
        StorageError: The engine or its log cannot be written.
    """
    limits = limits or Limits()
    check_limits(limits)
    with artifacts.staged(request.output) as staged:
        try:
            built = _compile(request, staged, on_progress or (lambda _: None), limits)
        except errors.EngineError as error:
            raise errors.EngineError(f"{error}; see {_keep_log(request)}") from error
        size = staged.stat().st_size
    return BuildResult(built.seconds, size, built.targets, _layers(request, built))


def _layers(request: BuildRequest, built: Built) -> tuple[EngineLayer, ...]:
    """Return the layers of an engine; an inspector that talks nonsense costs the audit alone."""
    if built.inspection is None:
        return layers_from_log(request.log.read_text("utf-8", errors="replace"))
    try:
        return layers_from_inspector(built.inspection)
    except errors.EngineError as error:
        _LOGGER.warning("%s: %s", request.output, error)
        return ()


def _compile(request: BuildRequest, staged: Path, on_progress: OnProgress, limits: Limits) -> Built:
    with _open_log(request.log) as log, _worker(staged, log) as worker:
        try:
            with Watchdog(worker, limits) as watchdog:
                outcome = _converse(worker, request, on_progress)
                returncode = worker.wait()
        finally:
            # An interrupt must not leave the compiler running; after an orderly end this does
            # nothing.
            worker.kill()
    if isinstance(outcome, Built) and returncode == 0:
        return outcome
    if isinstance(outcome, Failed):
        raise _raised(outcome)
    death = watchdog.verdict or _death(returncode, request.log)
    raise errors.EngineError(f"the compiler of {request.subject} {death}")


@contextmanager
def _worker(staged: Path, log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Start the child; show its log besides, where somebody wants to see it."""
    is_shown = _COMPILER.isEnabledFor(logging.DEBUG)
    with subprocess.Popen(
        [*_WORKER, str(staged)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if is_shown else log,
    ) as worker:
        if not is_shown:
            yield worker
            return
        shower = threading.Thread(target=_show, args=(worker.stderr, log), daemon=True)
        shower.start()
        try:
            yield worker
        finally:
            shower.join()


def _show(stream: IO[bytes], log: IO[bytes]) -> None:
    for line in stream:
        # As in the worker, a full disk costs the log and not the build.
        with suppress(OSError):
            log.write(line)
        _COMPILER.debug("%s", line.decode("utf-8", errors="replace").rstrip("\n"))


def _converse(
    worker: subprocess.Popen[bytes], request: BuildRequest, on_progress: OnProgress
) -> Built | Failed | None:
    """Send the request and pass progress on; return how the build ended, None if it did not say."""
    stdin, stdout = cast(IO[bytes], worker.stdin), cast(IO[bytes], worker.stdout)
    with suppress(BrokenPipeError), stdin:
        stdin.write(encode(request))
    outcome: Built | Failed | None = None
    for event in map(decode_event, stdout):
        if isinstance(event, Progress):
            on_progress(event)
        elif isinstance(event, Notice):
            _LOGGER.warning("%s", event.message)
        else:
            outcome = event
    return outcome


def _keep_log(request: BuildRequest) -> Path:
    """Move the log of a failed build to where it is kept; return that place."""
    if request.failed_log is None:
        return request.log
    try:
        shutil.move(request.log, request.failed_log)
    except OSError as error:
        raise artifacts.storage_error(request.failed_log, error) from error
    return request.failed_log


def _open_log(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")
    except OSError as error:
        raise artifacts.storage_error(path, error) from error


def _raised(failed: Failed) -> errors.QbenchError:
    kind: type[errors.QbenchError] = getattr(errors, failed.error)
    return kind(failed.message)


def _death(returncode: int, log: Path) -> str:
    if returncode >= 0:
        # Python's last words are the exception that nobody expected.
        lines = log.read_text("utf-8", errors="replace").strip().splitlines()
        last = f" ({lines[-1]})" if returncode and lines else ""
        return f"stopped with exit code {returncode}{last}"
    hint = "; is there enough memory?" if returncode == -signal.SIGKILL else ""
    return f"was ended by signal {-returncode} ({signal.strsignal(-returncode)}){hint}"
