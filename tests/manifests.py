"""An engine's manifest, and engines on disk, for tests."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from qbench.artifacts import sha256_bytes
from qbench.engines.machine import Machine
from qbench.engines.manifest import EngineManifest, Source, write_manifest
from qbench.engines.profiles import ShapeRange

MANIFEST = EngineManifest(
    engine="net.int8.engine",
    sha256="ab" * 32,
    flavour="tensorrt_rtx",
    flavour_version="1.7",
    targets=("sm86", "sm89"),
    precision="int8",
    profiles=({"x": ShapeRange((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))},),
    model=Source("models/net.onnx", "cd" * 32),
    onnx="net.int8.onnx",
    quantized_sha256="ef" * 32,
    log="net.int8.log",
    table_sha256=None,
    options={"builder_level": 3, "target_gpus": ["sm86", "sm89"], "workspace_bytes": None},
    built_on=Machine("Linux x86_64"),
    seconds=1.5,
    size_bytes=100,
    layers_by_dtype={"Int8": 3, "Float": 4},
    int8_conv_fraction=1.0,
    created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    versions={"onnx": "1.23"},
)


def put(folder: Path, stem: str = "net.int8", **changes: Any) -> EngineManifest:
    """Write an engine of a few bytes with all that belongs to it, as a build leaves it."""
    folder.mkdir(exist_ok=True)
    engine, onnx = f"engine {stem}".encode(), f"onnx {stem}".encode()
    (folder / f"{stem}.engine").write_bytes(engine)
    (folder / f"{stem}.onnx").write_bytes(onnx)
    (folder / f"{stem}.log").write_text("log")
    manifest = replace(
        MANIFEST,
        engine=f"{stem}.engine",
        sha256=sha256_bytes(engine),
        onnx=f"{stem}.onnx",
        quantized_sha256=sha256_bytes(onnx),
        log=f"{stem}.log",
        size_bytes=len(engine),
    )
    manifest = replace(manifest, **changes)
    write_manifest(manifest, folder)
    return manifest
