"""What the builder asks of the worker, and what the worker answers: JSON, one event a line."""

from pathlib import Path
from typing import Any

import msgspec

from qbench.engines.profiles import ShapeProfile
from qbench.runtimes.flavour import Flavour


class BuildOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may be chosen about a build; precision is not, it is written in the ONNX file.

    Attributes:
        workspace_bytes: Most memory that one layer's kernel may use; None leaves the default.
        builder_level: Builder optimization level, 0 to 5; None leaves the default.
        target_gpus: GPUs to build for ahead of time (`sm86`, `sm89`); only TensorRT for RTX can.
        least_gpu: Least compute capability (89) that knows the types of the model; 0 for all.
    """

    workspace_bytes: int | None = None
    builder_level: int | None = None
    target_gpus: tuple[str, ...] = ()
    least_gpu: int = 0


class BuildRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One engine to build.

    Attributes:
        onnx: The model, with Q/DQ nodes or 16-bit tensors where it shall not run in FP32.
        output: The engine file.
        log: Where the compiler's log goes.
        flavour: The installed TensorRT to build with.
        profile: Shapes of the dynamic inputs; None where all are static.
        options: Everything else.
    """

    onnx: Path
    output: Path
    log: Path
    flavour: Flavour
    profile: ShapeProfile | None = None
    options: BuildOptions = BuildOptions()


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """A phase of the build advanced.

    Attributes:
        phase: The compiler's name of the phase.
        parent: The phase that it is part of; None for an outermost one.
        step: Steps done.
        steps: Steps that the phase has.
    """

    phase: str
    parent: str | None
    step: int
    steps: int


class Built(msgspec.Struct, frozen=True, tag="built"):
    """The engine file is complete.

    Attributes:
        seconds: Time of parsing and building, without the start of the process.
        targets: GPUs that the engine was built for; empty where the compiler chose the one at hand.
    """

    seconds: float
    targets: tuple[str, ...]


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The build ended in an error of `qbench.errors`, given by class name and message."""

    error: str
    message: str


Event = Progress | Built | Failed


def encode(message: Any) -> bytes:
    """Return one line of JSON, newline included."""
    return msgspec.json.encode(message, enc_hook=str) + b"\n"


def decode_request(line: bytes) -> BuildRequest:
    """Return the request that `encode` wrote."""
    return msgspec.json.decode(line, type=BuildRequest, dec_hook=_path)


def decode_event(line: bytes) -> Event:
    """Return the event that `encode` wrote."""
    event: Event = msgspec.json.decode(line, type=Event)
    return event


def _path(_: type, text: str) -> Path:
    return Path(text)
