"""The options of a build, against fakes of several TensorRT versions."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_trt import fake_tensorrt

from qbench.engines.compiling.config import (
    OPTIONS,
    apply_options,
    check_options,
    notes_on_options,
)
from qbench.engines.compiling.features import Compilation, builds_ahead, missing_members
from qbench.engines.compiling.protocol import BuildOptions
from qbench.errors import UsageError

from ..conftest import MakeCompilation

# One value for each option that is not its default.
ASKED: dict[str, Any] = {
    "workspace_bytes": 1 << 20,
    "builder_level": 4,
    "sparsity": True,
    "tf32": False,
    "refit": True,
    "strip_weights": True,
    "weight_streaming": True,
    "version_compatible": True,
    "hardware_compatibility": "ampere-plus",
    "max_aux_streams": 2,
    "io_formats": {"x": ("chw", "chw32"), "y": ("hwc8",)},
    "timing_cache": Path("t.cache"),
}


def test_every_option_but_the_targets_is_in_the_table() -> None:
    fields = {field.name for field in msgspec.structs.fields(BuildOptions)}
    assert fields - OPTIONS.keys() == {"target_gpus", "least_gpu"}
    assert OPTIONS.keys() == ASKED.keys()


def test_tensorrt_10_and_11_do_everything() -> None:
    for module in (fake_tensorrt("10.3"), fake_tensorrt("11.4")):
        check_options(module, BuildOptions(**ASKED), None)


def flags_of(compilation: Compilation) -> set[str]:
    members = compilation.module.BuilderFlag.__members__
    return {name for name, flag in members.items() if compilation.config.get_flag(flag)}


def test_what_is_told_to_the_compiler(compilation: MakeCompilation) -> None:
    module, network, config = told = compilation("11.4")
    assert flags_of(Compilation(*told)) == {"TF32"}
    apply_options(Compilation(*told), BuildOptions(**ASKED))
    names = {"SPARSE_WEIGHTS", "REFIT", "STRIP_PLAN", "WEIGHT_STREAMING", "VERSION_COMPATIBLE"}
    assert flags_of(Compilation(*told)) == names
    assert config.get_memory_pool_limit(module.MemoryPoolType.WORKSPACE) == 1 << 20
    assert (config.builder_optimization_level, config.max_aux_streams) == (4, 2)
    assert config.hardware_compatibility_level is module.HardwareCompatibilityLevel.AMPERE_PLUS
    linear, chw32, hwc8 = (
        1 << int(getattr(module.TensorFormat, name)) for name in ("LINEAR", "CHW32", "HWC8")
    )
    assert network.get_input(0).allowed_formats == linear | chw32
    assert network.get_output(0).allowed_formats == hwc8


def test_nothing_is_told_where_nothing_is_asked(compilation: MakeCompilation) -> None:
    told = Compilation(*compilation("10.3"))
    before = dict(vars(told.config))
    apply_options(told, BuildOptions())
    assert vars(told.config) == before


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("sparsity", "--sparsity .* RTX: its engine is the same with and without; leave it out"),
        ("version_compatible", "--version-compatible .* without the lean runtime; leave it out"),
        ("hardware_compatibility", "--hardware-compatibility .* fit the GPUs of --target-gpu"),
        ("timing_cache", "--timing-cache .* nothing to keep; leave it out, or use --backend tens"),
    ],
)
@pytest.mark.parametrize("gpu", [None, "sm86"])
def test_what_rtx_cannot_do(field: str, message: str, gpu: str | None) -> None:
    with pytest.raises(UsageError, match=message):
        check_options(fake_tensorrt("rtx-1.7"), BuildOptions(**{field: ASKED[field]}), gpu)


@pytest.mark.parametrize("field", ["refit", "strip_weights"])
def test_what_rtx_cannot_do_without_a_gpu(field: str) -> None:
    options = BuildOptions(**{field: True})
    check_options(fake_tensorrt("rtx-1.7"), options, "sm86")
    with pytest.raises(UsageError, match=r"^--\S+ needs a GPU where TensorRT for RTX builds, and"):
        check_options(fake_tensorrt("rtx-1.7"), options, None)


def test_what_rtx_can_do() -> None:
    works = [
        "workspace_bytes",
        "builder_level",
        "tf32",
        "weight_streaming",
        "max_aux_streams",
        "io_formats",
    ]
    check_options(
        fake_tensorrt("rtx-1.7"), BuildOptions(**{field: ASKED[field] for field in works}), None
    )


def test_only_rtx_takes_an_option_to_no_effect() -> None:
    asked = BuildOptions(builder_level=4, tf32=False)
    assert [note.split(":")[0] for note in notes_on_options(fake_tensorrt("rtx-1.7"), asked)] == [
        "--builder-level"
    ]
    assert notes_on_options(fake_tensorrt("rtx-1.7"), BuildOptions()) == []
    assert notes_on_options(fake_tensorrt("11.4"), asked) == []


def test_a_level_that_this_tensorrt_does_not_know() -> None:
    options = BuildOptions(hardware_compatibility="same-compute-capability")
    check_options(fake_tensorrt("11.4"), options, None)
    with pytest.raises(
        UsageError,
        match=r"tensorrt 10\.3\.0 has no HardwareCompatibilityLevel\.SAME_COMPUTE_CAPABILITY, "
        "which --hardware-compatibility needs; leave it out, or install a newer TensorRT",
    ):
        check_options(fake_tensorrt("10.3"), options, None)


def test_a_target_that_this_tensorrt_cannot_build_for() -> None:
    with pytest.raises(UsageError, match="tensorrt cannot build for sm86 ahead of time; leave"):
        check_options(fake_tensorrt("10.3"), BuildOptions(target_gpus=("sm86",)), None)


def test_an_unknown_compatibility() -> None:
    with pytest.raises(UsageError, match="'all'; choose from ampere-plus, same-compute-capab"):
        check_options(fake_tensorrt("10.3"), BuildOptions(hardware_compatibility="all"), None)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("builder_level", 9, "unknown builder level 9; choose from 0 to 5"),
        ("max_aux_streams", -2, "--max-aux-streams -2 is not possible; give 0 or more"),
        (
            "hardware_compatibility",
            "ampere-plus",
            "--hardware-compatibility ampere-plus is not taken by this GPU",
        ),
    ],
)
def test_values_that_the_compiler_passes_over(
    field: str,
    value: Any,
    message: str,
    compilation: MakeCompilation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = Compilation(*compilation("10.3"))
    none = told.module.HardwareCompatibilityLevel.NONE
    deaf = property(lambda _: none, lambda *_: None)
    monkeypatch.setattr(told.module.IBuilderConfig, "hardware_compatibility_level", deaf)
    with pytest.raises(UsageError, match=message):
        apply_options(told, BuildOptions(**{field: value}))


def test_members_are_found_by_asking() -> None:
    module = fake_tensorrt("11.4")
    wanted = ("BuilderFlag.REFIT", "BuilderFlag.INT8", "IInt8MinMaxCalibrator", "Nothing.AT_ALL")
    assert missing_members(module, wanted) == list(wanted[1:])
    assert (builds_ahead(module), builds_ahead(fake_tensorrt("rtx-1.7"))) == (False, True)
