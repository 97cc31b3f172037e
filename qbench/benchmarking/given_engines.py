"""Engines as candidates of a benchmark."""

from dataclasses import replace
from pathlib import Path

from qbench.benchmarking.variants import Variant
from qbench.calibration.table import CalibrationTable, find_table, load_table
from qbench.engines.manifest import EngineManifest, read_manifest
from qbench.errors import EngineError, ModelError
from qbench.model.load import Model, load
from qbench.quantization.tables import TABLES
from qbench.runtimes.tensorrt.runner import PROVIDERS

ENGINE_ENDING = ".engine"
"""What the file of an engine is called, in any case."""


def is_engine(path: Path | str) -> bool:
    """Return whether a file is called like a TensorRT engine."""
    return Path(path).suffix.lower() == ENGINE_ENDING


def engine_variant(path: Path) -> tuple[Variant, EngineManifest | None]:
    """Return the variant of an engine and its manifest; without one it cannot be run."""
    try:
        manifest = read_manifest(path)
    except EngineError as error:
        return Variant("unknown", "engine", None, problem=error), None
    flavour = manifest.flavour
    provider = PROVIDERS.get(flavour, flavour)
    variant = Variant(
        manifest.precision,
        provider,
        path,
        flavour=flavour,
        build_seconds=manifest.seconds,
    )
    if not path.is_file():
        gone = EngineError(f"no engine {path}; build it again with `qbench build-trt`")
        return replace(variant, path=None, problem=gone), manifest
    if flavour not in PROVIDERS:
        foreign = EngineError(
            f"{path} is of TensorRT flavour {flavour!r}; qbench runs {' and '.join(PROVIDERS)}"
        )
        return replace(variant, problem=foreign), manifest
    return variant, manifest


def engine_table(
    manifest: EngineManifest, table: CalibrationTable | None
) -> CalibrationTable | None:
    """Return the calibration table of an engine's model, for its recipe; None where none is known.

    Args:
        manifest: The engine's.
        table: One that was given; where it is of another model, the engine's is looked for.

    Raises:
        CalibrationError: The table is damaged.
    """
    if table is not None and table.header.model_sha256 == manifest.model.sha256:
        return table
    found = find_table(TABLES, manifest.model.sha256)
    return None if found is None else load_table(found)


def engine_source(path: Path) -> Model | None:
    """Return the float model that an engine came from; None where that file is gone or changed."""
    try:
        manifest = read_manifest(path)
        model = load(manifest.model.path)
    except (EngineError, ModelError):
        return None
    return model if model.sha256 == manifest.model.sha256 else None
