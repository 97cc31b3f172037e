"""The manifest beside an engine: what it was made from, for what, and what is in it."""

from datetime import datetime
from pathlib import Path, PurePath
from typing import Annotated, Any

import msgspec

from qbench.artifacts import write_json
from qbench.engines.machine import Machine
from qbench.engines.profiles import ShapeRange
from qbench.errors import EngineError

MANIFEST_VERSION = 2
"""Version of the manifest, raised when a reader would have to change.

1 knew neither the machine nor the options of the build, and one profile only.
"""


IMPLICIT = "-implicit"
"""How the precision of an engine ends in which the compiler placed INT8 by itself."""

AS_GIVEN = "as-given"
"""The precision of an engine of a model that was quantized before."""


class Source(msgspec.Struct, frozen=True):
    """The model that an engine came from: its path as given, and its SHA-256."""

    path: str
    sha256: str


class EngineManifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known about an engine without loading it.

    Attributes:
        engine: File name of the engine, which lies beside the manifest.
        sha256: SHA-256 of the engine.
        flavour: `tensorrt` or `tensorrt_rtx`; an engine loads only in the flavour that built it.
        targets: GPUs that it was built for; empty where it was built for the GPU at hand.
        precision: What was asked for (`int8`, `fp16`, ...), or `AS_GIVEN`.
        profiles: Shapes of every input that it accepts, one mapping for each profile.
        model: The model, FP32 unless it was quantized before.
        onnx: File name of the ONNX file that was compiled, which lies beside the manifest.
        quantized_sha256: SHA-256 of that file.
        log: File name of the compiler's log, which lies beside the manifest.
        table_sha256: SHA-256 of the calibration table; None where the precision needs none.
        options: Everything that the compiler was told, by the names of `BuildOptions`.
        built_on: The machine that built it; without a GPU where it was built ahead of time.
        seconds: Build time.
        layers_by_dtype: Number of engine layers that compute in each type.
        int8_conv_fraction: Share of the convolutions that run in INT8; None without convolutions.
        created: When, with its time zone.
        versions: Versions of the packages that made it.
    """

    engine: str
    sha256: str
    flavour: str
    flavour_version: str
    targets: tuple[str, ...]
    precision: str
    profiles: tuple[dict[str, ShapeRange], ...]
    model: Source
    onnx: str
    quantized_sha256: str
    log: str
    table_sha256: str | None
    options: dict[str, Any]
    built_on: Machine
    seconds: float
    size_bytes: int
    layers_by_dtype: dict[str, int]
    int8_conv_fraction: float | None
    created: Annotated[datetime, msgspec.Meta(tz=True)]
    versions: dict[str, str]
    schema_version: int = MANIFEST_VERSION

    @property
    def shapes(self) -> dict[str, ShapeRange]:
        """Shapes of every input in the first profile."""
        return self.profiles[0]

    @property
    def gpus(self) -> tuple[str, ...]:
        """Compute capabilities that it was built for: its targets, else the builder's GPU."""
        built = self.built_on.compute_capability
        return self.targets or ((built,) if built else ())

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files that belong to the engine, itself first, without the manifest."""
        caches = (str(PurePath(self.engine).with_suffix(".cache")),) if self.is_implicit else ()
        return (self.engine, self.onnx, f"{self.onnx}.data", self.log, *caches)

    @property
    def is_implicit(self) -> bool:
        """Whether the compiler placed INT8 by itself; then a calibration cache lies beside."""
        return self.precision.endswith(IMPLICIT)


class ManifestHeader(msgspec.Struct, frozen=True):
    """What every version of the manifest says."""

    engine: str
    schema_version: int


def read_header(path: Path) -> ManifestHeader | None:
    """Return what the manifest at `path` says in any version, None where it is no manifest."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ManifestHeader)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


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
        return _decode(data, path)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EngineError(
            f"{path} is not an engine manifest ({error}); build the engine again"
        ) from error


def _decode(data: bytes, path: Path) -> EngineManifest:
    version = msgspec.json.decode(data, type=ManifestHeader).schema_version
    if version != MANIFEST_VERSION:
        remedy = "take a newer qbench" if version > MANIFEST_VERSION else "build the engine again"
        raise EngineError(
            f"{path} has schema version {version}, this qbench reads {MANIFEST_VERSION}; {remedy}"
        )
    manifest = msgspec.json.decode(data, type=EngineManifest)
    for name in manifest.files:
        # A file elsewhere is not this engine's, and must not be read or removed as if it were.
        if PurePath(name).name != name or name in {"", ".."}:
            raise msgspec.ValidationError(f"{name!r} is not the name of a file beside it")
    if not manifest.profiles:
        raise msgspec.ValidationError("it has no profile")
    return manifest
