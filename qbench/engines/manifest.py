"""The manifest beside an engine: what it was made from, for what, and what is in it."""

from pathlib import Path

import msgspec

from qbench.artifacts import SCHEMA_VERSION, write_json
from qbench.engines.profiles import ShapeRange
from qbench.errors import EngineError


class Source(msgspec.Struct, frozen=True):
    """The FP32 model that an engine came from: its path as given, and its SHA-256."""

    path: str
    sha256: str


class EngineManifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known about an engine without loading it.

    Attributes:
        engine: File name of the engine, which lies beside the manifest.
        sha256: SHA-256 of the engine.
        flavour: `tensorrt` or `tensorrt_rtx`; an engine loads only in the flavour that built it.
        targets: GPUs that it was built for; empty where it was built for the GPU at hand.
        precision: What was asked for (`int8`, `fp16`, ...).
        shapes: Shapes of every input that it accepts.
        model: The FP32 model.
        quantized_sha256: SHA-256 of the ONNX file that was compiled.
        table_sha256: SHA-256 of the calibration table; None where the precision needs none.
        seconds: Build time.
        layers_by_dtype: Number of engine layers that compute in each type.
        int8_conv_fraction: Share of the convolutions that run in INT8; None without convolutions.
        created: UTC time in ISO 8601.
        versions: Versions of the packages that made it.
    """

    engine: str
    sha256: str
    flavour: str
    flavour_version: str
    targets: tuple[str, ...]
    precision: str
    shapes: dict[str, ShapeRange]
    model: Source
    quantized_sha256: str
    table_sha256: str | None
    seconds: float
    size_bytes: int
    layers_by_dtype: dict[str, int]
    int8_conv_fraction: float | None
    created: str
    versions: dict[str, str]
    schema_version: int = SCHEMA_VERSION


def manifest_path(engine: Path) -> Path:
    """Return where the manifest of `engine` lies."""
    return engine.with_suffix(".json")


def write_manifest(manifest: EngineManifest, folder: Path) -> Path:
    """Write `manifest` beside its engine in `folder` and return its path.

    Raises:
        StorageError: The file cannot be written.
    """
    path = manifest_path(folder / manifest.engine)
    write_json(path, manifest)
    return path


def read_manifest(engine: Path) -> EngineManifest:
    """Return the manifest of `engine`.

    Raises:
        EngineError: There is none, it is not one, or another schema version wrote it.
    """
    path = manifest_path(engine)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EngineError(
            f"no manifest {path} ({error.strerror}); build the engine with `qbench build-trt`"
        ) from error
    try:
        manifest = msgspec.json.decode(data, type=EngineManifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EngineError(
            f"{path} is not an engine manifest ({error}); build the engine again"
        ) from error
    if manifest.schema_version != SCHEMA_VERSION:
        raise EngineError(
            f"{path} has schema version {manifest.schema_version}, this qbench reads "
            f"{SCHEMA_VERSION}; build the engine again"
        )
    return manifest
