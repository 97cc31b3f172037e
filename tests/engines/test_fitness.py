"""Which engines fit which machines."""

from typing import Any

import pytest
from manifests import MANIFEST
from msgspec.structs import replace

from qbench.engines.fitness import FITS, UNFIT, UNKNOWN, Verdict, judge
from qbench.engines.machine import Machine
from qbench.runtimes.tensorrt.flavour import Flavour

RTX = Flavour("tensorrt_rtx", "1.7")
TENSORRT = Flavour("tensorrt", "10.3.0")
HERE = Machine("Linux x86_64", "RTX 4090", "sm89", "580.65.06")
# Built ahead of time by TensorRT for RTX, and at hand by TensorRT.
AHEAD = MANIFEST
AT_HAND = replace(
    MANIFEST,
    flavour="tensorrt",
    flavour_version="10.3.0",
    targets=(),
    built_on=HERE,
    options={"version_compatible": False, "hardware_compatibility": None},
)


def machine(**changes: Any) -> Machine:
    return replace(HERE, **changes)


@pytest.mark.parametrize("manifest", [AHEAD, AT_HAND])
def test_the_machine_that_it_was_built_for(manifest: Any) -> None:
    verdict = judge(manifest, HERE, [RTX, TENSORRT])
    assert (verdict.state, verdict.reasons, verdict.notes) == (FITS, (), ())


def test_rtx_runs_on_the_gpus_named() -> None:
    verdict = judge(AHEAD, machine(compute_capability="sm80"), [RTX])
    assert verdict.state == UNFIT
    assert verdict.reasons == (
        "it was built for sm86, sm89, the GPU here is sm80; build it for sm80",
    )


def test_rtx_may_run_on_gpus_newer_than_all_named() -> None:
    verdict = judge(AHEAD, machine(compute_capability="sm120"), [RTX])
    assert verdict.state == UNKNOWN
    assert verdict.reasons == (
        "the GPU here, sm120, is newer than all that it was built for (sm86, sm89); "
        "try it, or build it for sm120",
    )


def test_rtx_runs_on_windows_and_linux() -> None:
    assert judge(AHEAD, machine(system="Windows AMD64"), [RTX]).state == FITS


def test_tensorrt_is_bound_to_its_operating_system() -> None:
    verdict = judge(AT_HAND, machine(system="Windows AMD64"), [TENSORRT])
    assert verdict.state == UNFIT
    assert verdict.reasons == (
        "it was built on Linux x86_64, this is Windows AMD64; build it here",
    )


@pytest.mark.parametrize("capability", ["sm80", "sm90", "sm120"])
def test_tensorrt_is_bound_to_its_compute_capability(capability: str) -> None:
    verdict = judge(AT_HAND, machine(compute_capability=capability), [TENSORRT])
    assert verdict.state == UNFIT
    assert "it was built for sm89, the GPU here is" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("level", "capability", "state"),
    [
        ("ampere-plus", "sm80", FITS),
        ("ampere-plus", "sm120", FITS),
        ("ampere-plus", "sm75", UNFIT),
        ("same-compute-capability", "sm89", FITS),
        ("same-compute-capability", "sm90", UNFIT),
    ],
)
def test_engines_built_to_be_compatible(level: str, capability: str, state: str) -> None:
    manifest = replace(AT_HAND, options={"hardware_compatibility": level})
    elsewhere = machine(gpu="another", compute_capability=capability)
    verdict = judge(manifest, elsewhere, [TENSORRT])
    assert (verdict.state, verdict.notes) == (state, ())


def test_another_gpu_of_the_same_kind_is_a_note() -> None:
    verdict = judge(AT_HAND, machine(gpu="RTX 4060"), [TENSORRT])
    assert verdict.state == FITS
    assert verdict.notes == ("it was tuned on RTX 4090, and may be slower on RTX 4060",)


@pytest.mark.parametrize(
    ("manifest", "flavour"),
    [
        (AHEAD, Flavour("tensorrt_rtx", "1.8")),
        (AT_HAND, Flavour("tensorrt", "10.3.0.26")),
        (AT_HAND, Flavour("tensorrt", "11.0.0")),
    ],
)
def test_another_version(manifest: Any, flavour: Flavour) -> None:
    verdict = judge(manifest, HERE, [flavour])
    assert verdict.state == UNFIT
    assert verdict.reasons == (
        f"it was built with version {manifest.flavour_version}, here is {flavour}; build it again",
    )


@pytest.mark.parametrize(
    ("version", "state"), [("10.3.0", FITS), ("10.12.0", FITS), ("11.0.0", FITS), ("10.2", UNFIT)]
)
def test_a_version_compatible_engine_runs_on_newer_versions(version: str, state: str) -> None:
    manifest = replace(AT_HAND, options={"version_compatible": True})
    verdict = judge(manifest, HERE, [Flavour("tensorrt", version)])
    assert verdict.state == state
    assert all("which is older; update it" in reason for reason in verdict.reasons)


def test_what_nothing_here_can_tell() -> None:
    no_gpu = "this machine has no GPU; verify it where it shall run"
    assert judge(AHEAD, HERE.without_gpu(), [RTX]).reasons == (no_gpu,)
    verdict = judge(AHEAD, HERE.without_gpu(), [TENSORRT])
    assert verdict.state == UNKNOWN
    assert verdict.reasons == ("tensorrt_rtx 1.7 is not installed here; install it", no_gpu)
    nameless = replace(AT_HAND, built_on=Machine("Linux x86_64"))
    assert judge(nameless, HERE, [TENSORRT]).reasons == (
        "its manifest does not say for which GPU it was built; try it, or build it here",
    )


def test_an_engine_without_weights_is_a_note() -> None:
    stripped = replace(AT_HAND, options={"strip_weights": True})
    assert judge(stripped, HERE, [TENSORRT]) == Verdict(
        FITS, (), ("its weights were left out; refit it before it runs",)
    )


def test_a_certain_problem_outweighs_what_is_unknown() -> None:
    verdict = judge(AHEAD, HERE.without_gpu(), [Flavour("tensorrt_rtx", "1.6")])
    assert verdict.state == UNFIT


@pytest.mark.parametrize(
    ("driver", "is_older"),
    [("580.65.06", False), ("590.1", False), ("570.86", True), (None, False)],
)
def test_an_older_driver_is_a_note(driver: str | None, is_older: bool) -> None:
    verdict = judge(AT_HAND, machine(driver=driver), [TENSORRT])
    assert verdict.state == FITS
    assert [f"driver {driver} is older than 580.65.06" in note for note in verdict.notes] == [
        True
    ] * is_older
