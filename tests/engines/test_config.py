"""The options of a build, against stand-ins for the modules of several TensorRT versions."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import standins

from qbench.engines.config import (
    OPTIONS,
    apply_options,
    check_options,
    is_default,
    notes_on_options,
)
from qbench.engines.features import Compilation, builds_ahead, missing_members
from qbench.engines.protocol import BuildOptions
from qbench.errors import UsageError

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
    for module in (standins.tensorrt_10(), standins.tensorrt_11()):
        check_options(module, BuildOptions(**ASKED), None)


def test_what_is_told_to_the_compiler() -> None:
    module: Any = standins.tensorrt_10()
    config, network = standins.Config(), standins.network()
    apply_options(Compilation(module, network, config), BuildOptions(**ASKED))
    names = ["SPARSE_WEIGHTS", "REFIT", "STRIP_PLAN", "WEIGHT_STREAMING", "VERSION_COMPATIBLE"]
    assert config.flags == {module.BuilderFlag[name] for name in names}
    assert config.cleared == {module.BuilderFlag.TF32}
    assert config.limits == {module.MemoryPoolType.WORKSPACE: 1 << 20}
    assert (config.builder_optimization_level, config.max_aux_streams) == (4, 2)
    assert config.hardware_compatibility_level is module.HardwareCompatibilityLevel.AMPERE_PLUS
    formats = module.TensorFormat
    assert network.tensors["x"].allowed_formats == 1 << formats.LINEAR | 1 << formats.CHW32
    assert network.tensors["y"].allowed_formats == 1 << formats.HWC8


def test_nothing_is_told_where_nothing_is_asked() -> None:
    config = standins.Config()
    apply_options(Compilation(standins.tensorrt_10(), standins.network(), config), BuildOptions())
    assert vars(config).keys() == vars(standins.Config()).keys()
    assert (config.flags, config.cleared, config.limits) == (set(), set(), {})


def test_defaults_need_no_look_at_the_module() -> None:
    assert is_default(BuildOptions(least_gpu=89))
    assert not is_default(BuildOptions(target_gpus=("sm86",)))
    assert not any(is_default(BuildOptions(**{field: ASKED[field]})) for field in ASKED)


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
        check_options(standins.rtx(), BuildOptions(**{field: ASKED[field]}), gpu)


@pytest.mark.parametrize("field", ["refit", "strip_weights"])
def test_what_rtx_cannot_do_without_a_gpu(field: str) -> None:
    options = BuildOptions(**{field: True})
    check_options(standins.rtx(), options, "sm86")
    with pytest.raises(UsageError, match=r"^--\S+ needs a GPU where TensorRT for RTX builds, and"):
        check_options(standins.rtx(), options, None)


def test_what_rtx_can_do() -> None:
    works = [
        "workspace_bytes",
        "builder_level",
        "tf32",
        "weight_streaming",
        "max_aux_streams",
        "io_formats",
    ]
    check_options(standins.rtx(), BuildOptions(**{field: ASKED[field] for field in works}), None)


def test_only_rtx_takes_an_option_to_no_effect() -> None:
    asked = BuildOptions(builder_level=4, tf32=False)
    assert [note.split(":")[0] for note in notes_on_options(standins.rtx(), asked)] == [
        "--builder-level"
    ]
    assert notes_on_options(standins.rtx(), BuildOptions()) == []
    assert notes_on_options(standins.tensorrt_11(), asked) == []


def test_a_level_that_this_tensorrt_does_not_know() -> None:
    options = BuildOptions(hardware_compatibility="same-compute-capability")
    check_options(standins.tensorrt_11(), options, None)
    with pytest.raises(
        UsageError,
        match=r"tensorrt 10\.3\.0 has no HardwareCompatibilityLevel\.SAME_COMPUTE_CAPABILITY, "
        "which --hardware-compatibility needs; leave it out, or install a newer TensorRT",
    ):
        check_options(standins.tensorrt_10(), options, None)


def test_a_target_that_this_tensorrt_cannot_build_for() -> None:
    with pytest.raises(UsageError, match="tensorrt cannot build for sm86 ahead of time; leave"):
        check_options(standins.tensorrt_10(), BuildOptions(target_gpus=("sm86",)), None)


def test_an_unknown_compatibility() -> None:
    with pytest.raises(UsageError, match="'all'; choose from ampere-plus, same-compute-capab"):
        check_options(standins.tensorrt_10(), BuildOptions(hardware_compatibility="all"), None)


class Deaf(standins.Config):
    """Takes no value, as the compiler does with those that it only complains about in its log."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in vars(self):
            super().__setattr__(name, value)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("builder_level", "unknown builder level 4; choose from 0 to 5"),
        ("max_aux_streams", "--max-aux-streams 2 is not possible; give 0 or more"),
        ("hardware_compatibility", "--hardware-compatibility ampere-plus is not taken by this GPU"),
    ],
)
def test_values_that_the_compiler_passes_over(field: str, message: str) -> None:
    compilation = Compilation(standins.tensorrt_10(), standins.network(), Deaf())
    with pytest.raises(UsageError, match=message):
        apply_options(compilation, BuildOptions(**{field: ASKED[field]}))


def test_members_are_found_by_asking() -> None:
    module = standins.tensorrt_11()
    wanted = ("BuilderFlag.REFIT", "BuilderFlag.INT8", "IInt8MinMaxCalibrator", "Nothing.AT_ALL")
    assert missing_members(module, wanted) == list(wanted[1:])
    assert (builds_ahead(module), builds_ahead(standins.rtx())) == (False, True)
