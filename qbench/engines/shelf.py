"""A folder of engines: which there are, which can be used here, and which can go."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from qbench.artifacts import sha256_files
from qbench.engines.fitness import UNFIT, UNKNOWN, Verdict, judge
from qbench.engines.machine import Machine
from qbench.engines.manifest import (
    MANIFEST_VERSION,
    EngineManifest,
    ManifestHeader,
    manifest_path,
    read_header,
    read_manifest,
)
from qbench.errors import EngineError, StorageError, UnfitError
from qbench.runtimes.tensorrt.flavour import Flavour

BROKEN = "broken"
"""The engine or its manifest is missing or damaged."""

CHANGED = "changed"
"""The engine is whole, but the ONNX file beside it is not the one that it was compiled from."""

_UNUSABLE = frozenset({BROKEN, CHANGED, UNFIT})
_SUFFIXES = (".engine", ".json")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An engine on the shelf.

    Attributes:
        folder: Where it lies.
        name: Its file name without `.engine`.
        manifest: None where it has none that can be read.
        problem: Why not.
        is_newer: Whether that is because a newer qbench wrote it.
        files: Names of the files that its manifest says are its own, the manifest last. Empty where
            no manifest says anything.
    """

    folder: Path
    name: str
    manifest: EngineManifest | None
    problem: str | None
    files: tuple[str, ...]
    is_newer: bool = False


class Discarded(msgspec.Struct, frozen=True):
    """An engine that can go.

    Attributes:
        name: Its file name without `.engine`.
        verdict: Why it can.
        files: Names of the files that go with it; none where no manifest says which are its own.
        size_bytes: What they take.
    """

    name: str
    verdict: Verdict
    files: tuple[str, ...]
    size_bytes: int


def entries(folder: Path) -> tuple[Entry, ...]:
    """Return the engines in `folder` by name, and manifests that have lost their engine.

    Raises:
        EngineError: There is no such folder.
    """
    if not folder.is_dir():
        raise EngineError(
            f"no folder {folder}; name one with --folder, or build an engine with "
            "`qbench build-trt`"
        )
    engines = {path.stem for path in folder.glob("*.engine")}
    manifests = {path.stem for path in folder.glob("*.json") if read_header(path)}
    return tuple(_entry(folder, name) for name in sorted(engines | manifests))


def entry(folder: Path, name: str) -> Entry:
    """Return one engine: `net.int8`, `net.int8.engine`, or a path that ends so.

    Raises:
        EngineError: There is none of that name.
    """
    given = Path(name)
    if given.parent != Path():
        folder = given.parent
    stem = given.stem if given.suffix in _SUFFIXES else given.name
    found = {entry.name: entry for entry in entries(folder)}
    if stem not in found:
        known = ", ".join(found) or "no engine"
        raise EngineError(f"no engine {stem!r} in {folder}; there is {known}")
    return found[stem]


def verify(
    entry: Entry, machine: Machine, flavours: Sequence[Flavour], *, hashes: bool = True
) -> Verdict:
    """Say whether an engine can be used on `machine`, before it is loaded.

    Args:
        entry: The engine.
        machine: Where it shall run.
        flavours: The TensorRT packages that are installed there.
        hashes: Whether to read its files; else only their sizes are looked at.

    Raises:
        EngineError: A file cannot be read.
    """
    manifest = entry.manifest
    if manifest is None:
        state = UNKNOWN if entry.is_newer else BROKEN
        return Verdict(state, (entry.problem or "it has no manifest",))
    if defect := _defect(entry, manifest, hashes):
        return Verdict(BROKEN, (defect,))
    verdict = judge(manifest, machine, flavours)
    onnx = entry.folder / manifest.onnx
    if hashes and onnx.is_file() and _sha256(onnx) != manifest.quantized_sha256:
        reason = f"{onnx} is not the file that it was compiled from; build it again"
        if verdict.state == UNFIT:
            return Verdict(UNFIT, (*verdict.reasons, reason), verdict.notes)
        return Verdict(CHANGED, (reason, *verdict.reasons), verdict.notes)
    return verdict


def check_verdicts(verdicts: Iterable[tuple[str, Verdict]]) -> None:
    """Make sure that every engine can be used here.

    Args:
        verdicts: The engines' names, and what `verify` says of them.

    Raises:
        EngineError: One cannot.
        UnfitError: None is known not to, but of one nothing here can tell: there is no GPU, or no
            TensorRT of its flavour.
    """
    found = list(verdicts)
    bad = [(name, verdict) for name, verdict in found if verdict.state in _UNUSABLE]
    if bad:
        (name, verdict), *others = bad
        raise EngineError(f"engine {name} is {verdict.state}: {_first(verdict, others)}")
    unknown = [(name, verdict) for name, verdict in found if verdict.state == UNKNOWN]
    if unknown:
        (name, verdict), *others = unknown
        raise UnfitError(f"whether engine {name} fits is unknown: {_first(verdict, others)}")


def _first(verdict: Verdict, others: Sequence[object]) -> str:
    more = f" (and {len(others)} more)" if others else ""
    return f"{verdict.reasons[0]}{more}"


def discarded(folder: Path, machine: Machine, flavours: Sequence[Flavour]) -> tuple[Discarded, ...]:
    """Return the engines in `folder` that are broken or do not fit `machine`.

    Files that the manifest of another engine names as well are not among theirs.

    Raises:
        EngineError: There is no such folder, or a file in it cannot be read.
    """
    judged = [(entry, verify(entry, machine, flavours)) for entry in entries(folder)]
    kept = {
        file
        for entry, verdict in judged
        if verdict.state not in {BROKEN, UNFIT}
        for file in entry.files
    }
    found = []
    for entry, verdict in judged:
        if verdict.state in {BROKEN, UNFIT}:
            files = [file for file in entry.files if file not in kept]
            paths = [folder / file for file in files if (folder / file).is_file()]
            size = sum(path.stat().st_size for path in paths)
            names = tuple(path.name for path in paths)
            found.append(Discarded(entry.name, verdict, names, size))
    return tuple(found)


def remove(folder: Path, discarded: Iterable[Discarded]) -> None:
    """Delete the files of `discarded` engines; each manifest last, so that a rest can be named.

    Raises:
        StorageError: A file cannot be deleted.
    """
    for engine in discarded:
        for name in engine.files:
            try:
                (folder / name).unlink(missing_ok=True)
            except OSError as error:
                raise StorageError(
                    f"cannot delete {folder / name}: {error.strerror}; delete it yourself"
                ) from error


def _entry(folder: Path, name: str) -> Entry:
    engine = folder / f"{name}.engine"
    manifest, problem = None, None
    try:
        manifest = read_manifest(engine)
    except EngineError as error:
        problem = str(error)
    header = read_header(manifest_path(engine))
    return Entry(
        folder=folder,
        name=name,
        manifest=manifest,
        problem=problem,
        files=_files(manifest, header, engine),
        is_newer=header is not None and header.schema_version > MANIFEST_VERSION,
    )


def _files(
    manifest: EngineManifest | None, header: ManifestHeader | None, engine: Path
) -> tuple[str, ...]:
    """Return the files that a manifest says are its own; it is not the manifest of another."""
    if header is None:
        return ()
    own = manifest_path(engine).name
    if header.engine != engine.name:
        return (own,)
    return (*(manifest.files if manifest else (header.engine,)), own)


def _defect(entry: Entry, manifest: EngineManifest, hashes: bool) -> str | None:
    """Return what is wrong with the engine file."""
    engine = entry.folder / manifest.engine
    if engine.stem != entry.name:
        return f"its manifest is that of {manifest.engine}; give both files one name"
    if not engine.is_file():
        return f"{engine} is missing; build it again"
    size = engine.stat().st_size
    if size != manifest.size_bytes:
        return f"{engine} has {size} bytes of {manifest.size_bytes}; copy or build it again"
    if hashes and _sha256(engine) != manifest.sha256:
        return f"{engine} is not what was built (its SHA-256 differs); copy or build it again"
    return None


def _sha256(path: Path) -> str:
    try:
        return sha256_files([path])
    except OSError as error:
        raise EngineError(
            f"cannot read {path}: {error.strerror}; make it readable, or remove it"
        ) from error
