"""Whether an engine fits a machine, judged from its manifest. Pure: no file is read here.

What engines depend on is NVIDIA's documentation of engine compatibility: TensorRT's run on the
operating system, version and compute capability that they were built with, unless they were built
to be compatible with more; those of TensorRT for RTX on Windows and Linux, on the GPUs named.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from qbench.engines.machine import Machine
from qbench.engines.manifest import EngineManifest
from qbench.runtimes.tensorrt.flavour import Flavour

FITS, UNFIT, UNKNOWN = "fits", "unfit", "unknown"
_AMPERE = 80


class Verdict(msgspec.Struct, frozen=True):
    """Whether an engine can be used here.

    Attributes:
        state: `fits`; `unfit`, where it will not load here; `unknown`, where nothing here can tell.
            Of an engine in a folder also `broken` and `changed`; see `shelf`.
        reasons: Why it is in that state; none where it fits.
        notes: What does not keep it from running.
    """

    state: str
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def judge(manifest: EngineManifest, machine: Machine, flavours: Sequence[Flavour]) -> Verdict:
    """Return whether an engine fits `machine` with the TensorRT packages in `flavours`."""
    installed = next((f for f in flavours if f.name == manifest.flavour), None)
    problems = [
        *_system_problems(manifest, machine),
        *_version_problems(manifest, installed),
        *_gpu_problems(manifest, machine.compute_capability),
    ]
    notes = tuple(_notes(manifest, machine))
    if problems:
        return Verdict(UNFIT, tuple(problems), notes)
    questions = tuple(_questions(manifest, machine, installed))
    return Verdict(UNKNOWN if questions else FITS, questions, notes)


def _system_problems(manifest: EngineManifest, machine: Machine) -> Iterator[str]:
    built, here = manifest.built_on, machine
    if manifest.flavour == "tensorrt" and built.system != here.system:
        yield f"it was built on {built.system}, this is {here.system}; build it here"


def _version_problems(manifest: EngineManifest, installed: Flavour | None) -> Iterator[str]:
    if installed is None or installed.version == manifest.flavour_version:
        return
    if not manifest.options.get("version_compatible"):
        yield (
            f"it was built with version {manifest.flavour_version}, here is {installed}; "
            "build it again"
        )
    elif _numbers(installed.version) < _numbers(manifest.flavour_version):
        yield (
            f"it was built with version {manifest.flavour_version}, here is {installed}, "
            "which is older; update it"
        )


def _gpu_problems(manifest: EngineManifest, here: str | None) -> Iterator[str]:
    if here is None or here in manifest.gpus or not manifest.gpus:
        return
    if _is_newest(here, manifest) or _reaches(manifest, here):
        return
    wanted = ", ".join(manifest.gpus)
    yield f"it was built for {wanted}, the GPU here is {here}; build it for {here}"


def _questions(
    manifest: EngineManifest, machine: Machine, installed: Flavour | None
) -> Iterator[str]:
    """Yield what would have to be known."""
    if installed is None:
        yield f"{manifest.flavour} {manifest.flavour_version} is not installed here; install it"
    here = machine.compute_capability
    if here is None:
        yield "this machine has no GPU; verify it where it shall run"
    elif not manifest.gpus:
        yield "its manifest does not say for which GPU it was built; try it, or build it here"
    elif here not in manifest.gpus and not _reaches(manifest, here):
        wanted = ", ".join(manifest.gpus)
        yield (
            f"the GPU here, {here}, is newer than all that it was built for ({wanted}); "
            f"try it, or build it for {here}"
        )


def _notes(manifest: EngineManifest, machine: Machine) -> Iterator[str]:
    built = manifest.built_on
    if manifest.options.get("strip_weights"):
        yield "its weights were left out; refit it before it runs"
    is_bound = not manifest.targets and _compatibility(manifest) == "none"
    if is_bound and built.gpu and machine.gpu and built.gpu != machine.gpu:
        yield f"it was tuned on {built.gpu}, and may be slower on {machine.gpu}"
    if built.driver and machine.driver and _numbers(machine.driver) < _numbers(built.driver):
        yield (
            f"driver {machine.driver} is older than {built.driver}, with which it was built; "
            "update it if the engine does not load"
        )


def _is_newest(here: str, manifest: EngineManifest) -> bool:
    """Return whether no target is as new as the GPU here, which is for RTX to try."""
    newest = max(map(_numbers, manifest.targets), default=())
    return bool(manifest.targets) and _numbers(here) > newest


def _reaches(manifest: EngineManifest, here: str) -> bool:
    """Return whether an engine that was built on another GPU was built to run here as well."""
    if _compatibility(manifest) != "ampere-plus":
        return False
    gpus: Iterable[str] = (*manifest.gpus, here)
    return all(_numbers(gpu) >= (_AMPERE,) for gpu in gpus)


def _compatibility(manifest: EngineManifest) -> str:
    return str(manifest.options.get("hardware_compatibility") or "none")


def _numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a version or a compute capability, to be compared."""
    words = "".join(letter if letter.isdigit() else " " for letter in text).split()
    return tuple(map(int, words))
