"""What the builder asks of the worker, and what the worker answers: JSON, one event a line."""

from pathlib import Path

import msgspec

from qbench.data.recipes import Recipe
from qbench.engines.profiles import ShapeProfile
from qbench.runtimes.tensorrt.flavour import Flavour


class BuildOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may be chosen about a build; precision is not, it is written in the ONNX file.

    What each option does to the compiler, and which TensorRT has it, stands in `config.OPTIONS`.

    Attributes:
        workspace_bytes: Most memory that one layer's kernel may use; None leaves the default.
        builder_level: Builder optimization level, 0 to 5; None leaves the default.
        target_gpus: GPUs to build for ahead of time (`sm86`, `sm89`); only TensorRT for RTX can.
        least_gpu: Least compute capability (89) that knows the types of the model; 0 for all.
        sparsity: Use kernels for weights of which two in four are zero.
        tf32: Whether FP32 layers may compute in TF32; None leaves the default.
        refit: Let weights be exchanged in the built engine.
        strip_weights: Leave out the weights, which a refit puts back.
        weight_streaming: Let weights stay on the host and stream to the GPU.
        version_compatible: Let newer versions of TensorRT run the engine.
        hardware_compatibility: A key of `config.COMPATIBILITIES`; None is the GPU at hand only.
        max_aux_streams: Most streams beside the main one; None leaves it to the compiler.
        io_formats: Memory layouts (`hwc8`) allowed for inputs and outputs, by tensor name.
        timing_cache: File in which kernel timings are kept from build to build.
    """

    workspace_bytes: int | None = None
    builder_level: int | None = None
    target_gpus: tuple[str, ...] = ()
    least_gpu: int = 0
    sparsity: bool = False
    tf32: bool | None = None
    refit: bool = False
    strip_weights: bool = False
    weight_streaming: bool = False
    version_compatible: bool = False
    hardware_compatibility: str | None = None
    max_aux_streams: int | None = None
    io_formats: dict[str, tuple[str, ...]] = {}
    timing_cache: Path | None = None


class FedInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An input while the compiler calibrates: its shape of then, and the name of its dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class CalibrationImages(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the compiler's own calibrator is fed.

    Attributes:
        path: A folder of images, or .npz arrays.
        recipe: How images are prepared; None for arrays.
        limit: Use this many samples, evenly spaced; None for all.
        inputs: The model's inputs.
    """

    path: Path
    recipe: Recipe | None
    limit: int | None
    inputs: tuple[FedInput, ...]


class ImplicitInt8(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """INT8 that the compiler places by itself, from ranges; only TensorRT 10 still can.

    Attributes:
        calibrator: A key of `implicit.CALIBRATORS`.
        cache: Text of a calibration cache with the range of every tensor; empty for images.
        images: Where the compiler finds the ranges itself; None for a cache.
    """

    calibrator: str
    cache: str = ""
    images: CalibrationImages | None = None


class BuildRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One engine to build.

    Attributes:
        onnx: The model, with Q/DQ nodes or 16-bit tensors where it shall not run in FP32.
        output: The engine file.
        log: Where the compiler's log goes.
        flavour: The installed TensorRT to build with.
        profiles: Shapes of the dynamic inputs, once for each profile; none where all are static.
        options: Everything else.
        implicit: How to place INT8 in a float model; None for a model that states its precision.
        title: What errors call the model, where `onnx` is a passing copy of it; empty for `onnx`.
        failed_log: Where the log moves when the build fails; None leaves it where it is.
    """

    onnx: Path
    output: Path
    log: Path
    flavour: Flavour
    profiles: tuple[ShapeProfile, ...] = ()
    options: BuildOptions = BuildOptions()
    implicit: ImplicitInt8 | None = None
    title: str = ""
    failed_log: Path | None = None

    @property
    def subject(self) -> str:
        """What errors call the model."""
        return self.title or str(self.onnx)


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


class Notice(msgspec.Struct, frozen=True, tag="notice"):
    """Something that the user has to know, although the build goes on."""

    message: str


class Built(msgspec.Struct, frozen=True, tag="built"):
    """The engine file is complete.

    Attributes:
        seconds: Time of parsing and building, without the start of the process.
        targets: GPUs that the engine was built for; empty where the compiler chose the one at hand.
        inspection: What the engine inspector says; None where the log lists the layers.
    """

    seconds: float
    targets: tuple[str, ...]
    inspection: str | None = None


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The build ended in an error of `qbench.errors`, given by class name and message."""

    error: str
    message: str


Event = Progress | Notice | Built | Failed


def encode(message: BuildRequest | Event) -> bytes:
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
